"""`benchmark growth`: how time and memory grow with Gaussians, pixels, avatars, cameras and recordings."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from backend.cli_train import overrides_of
from backend.growth.settings import PARTS, check_parts, usual
from backend.options import add_device

COUNTS = ("counts", "sizes_px", "crowds", "batches", "frames")
"""Options that are lists of whole numbers."""
PLAIN = ("gaussians", "size_px", "seconds", "capture", "preset", "train_s", "look_s", "held_out")


def add_growth_benchmark(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = kinds.add_parser(
        "growth",
        help="how time and memory grow with Gaussians, pixels, avatars, cameras; training time with pictures",
        description="Each point is written to OUTPUT/growth.json when it is measured; a second call goes on from "
        "there, and one with nothing left to measure prints the tables and draws the curves. What is usual depends on "
        "the device.",
    )
    parser.add_argument("--parts", nargs="+", metavar="PART", default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--gaussians", type=int, help="of a head where nothing else is said")
    parser.add_argument(
        "--size", type=int, dest="size_px", metavar="PX", help="of a picture where nothing else is said"
    )
    parser.add_argument("--counts", type=int, nargs="+", metavar="N", help="Gaussians")
    parser.add_argument("--sizes", type=int, nargs="+", dest="sizes_px", metavar="PX", help="sides of pictures")
    parser.add_argument("--crowds", type=int, nargs="+", metavar="N", help="avatars in the scene")
    parser.add_argument("--batches", type=int, nargs="+", metavar="N", help="cameras at once")
    parser.add_argument("--seconds", type=float, help="about how long each timing takes")
    parser.add_argument("--capture", help="that is trained on")
    parser.add_argument("--preset", help="of the trainings")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="overrides of the preset")
    parser.add_argument("--frames", type=int, nargs="+", metavar="N", help="pictures that are trained on")
    parser.add_argument("--targets-db", type=float, nargs="+", metavar="DB", help="held-out PSNR that is waited for")
    parser.add_argument("--train-seconds", type=float, dest="train_s", metavar="S", help="of each training")
    parser.add_argument("--look", type=float, dest="look_s", metavar="S", help="seconds between two measurements")
    parser.add_argument("--held-out", type=int, dest="held_out", metavar="N", help="pictures that are measured")
    add_device(parser)
    parser.add_argument("--output", type=Path, default=Path("growth_benchmark"), help="folder (default: %(default)s)")
    parser.set_defaults(run=benchmark_growth)


def benchmark_growth(arguments: argparse.Namespace) -> int:
    """Measure what is missing, print the tables, leave growth.json, growth.csv, curves.png and training.png."""
    from backend.cli_chosen import check_writable, prepare_device
    from backend.growth.plots import draw_plots
    from backend.growth.report import markdown
    from backend.growth.run import run_growth

    check_parts(arguments.parts)
    output = arguments.output.expanduser()
    device = prepare_device(arguments.device)
    given: dict[str, Any] = {name: getattr(arguments, name) for name in PLAIN if getattr(arguments, name) is not None}
    given |= {name: tuple(getattr(arguments, name)) for name in COUNTS if getattr(arguments, name)}
    if arguments.targets_db:
        given["targets_db"] = tuple(arguments.targets_db)
    wanted = replace(usual(output, device), **given)
    base = {} if arguments.preset else wanted.overrides  # the usual ones belong to the usual preset
    wanted = replace(wanted, overrides={**base, **overrides_of(arguments.set)})
    check_writable(output)
    console = Console(stderr=True)
    figures = run_growth(
        wanted, arguments.parts, lambda message: console.print(message, highlight=False, markup=False, soft_wrap=True)
    )
    print(markdown(figures), end="")
    for path in draw_plots(output, figures):
        print(path)
    return 0
