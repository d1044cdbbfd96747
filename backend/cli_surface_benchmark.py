"""`benchmark surface`: the figures of signed-distance bodies."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from backend.cli_train import overrides_of
from backend.options import add_device
from backend.surface_benchmark import GOALS, PARTS, SurfaceBenchmark, check_parts, markdown, run_parts
from shared.errors import BadConfig


def add_surface_benchmark(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    goals = "; ".join(GOALS.values())
    parser = kinds.add_parser(
        "surface",
        help="signed-distance bodies: quality, geometry, extraction and viewport, beside the published course",
        description=f"Goals on one H200: {goals}. Each part can be run alone; what earlier calls left in --output is "
        "kept, so that a machine lent for minutes can do one after the other.",
    )
    parser.add_argument("--parts", nargs="+", metavar="PART", default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--capture", default="demo_body", help="recording with true surfaces (default: %(default)s)")
    parser.add_argument("--preset", default="surface_fast", help="default: %(default)s")
    parser.add_argument("--parity-preset", default="surface_parity", help="default: %(default)s")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="overrides of the preset")
    parser.add_argument("--parity-set", action="append", default=[], metavar="KEY=VALUE", help="of the parity preset")
    parser.add_argument("--seconds", type=float, default=0.0, help="of training (default: as the preset has it)")
    parser.add_argument("--long", type=float, default=4.0, metavar="TIMES", help="how much longer 'long' is (4)")
    parser.add_argument("--resolution", type=int, default=512, help="of the extraction (default: 512)")
    parser.add_argument("--size", type=int, default=1024, metavar="PX", help="of the viewport (default: 1024)")
    parser.add_argument("--samples", type=int, default=100_000, help="points spread over each surface")
    parser.add_argument("--images", type=int, default=0, help="so many pictures of each kind (0: all of the lists)")
    parser.add_argument("--avatar", type=Path, help="measure this NAME.avatar as the preset's, without training it")
    add_device(parser)
    parser.add_argument("--output", type=Path, default=Path("surface_benchmark"), help="folder (default: %(default)s)")
    parser.set_defaults(run=benchmark_surface)


def benchmark_surface(arguments: argparse.Namespace) -> int:
    """Run the parts, print the tables, leave surface.json, surface.md and pictures/."""
    from backend.cli_chosen import check_writable, prepare_device

    check_parts(arguments.parts)
    for name, value, low, high in (
        ("seconds", arguments.seconds, 0, 1e6),
        ("long", arguments.long, 1, 1000),
        ("resolution", arguments.resolution, 16, 2048),
        ("samples", arguments.samples, 1, 10_000_000),
    ):
        if not low <= value <= high:
            raise BadConfig(f"--{name} is out of range", found=str(value), expected=f"{low:g} to {high:g}")
    output = arguments.output.expanduser()
    check_writable(output)
    console = Console(stderr=True)
    figures = run_parts(
        SurfaceBenchmark(
            output=output,
            capture=arguments.capture,
            device=prepare_device(arguments.device),
            preset=arguments.preset,
            parity_preset=arguments.parity_preset,
            overrides=overrides_of(arguments.set),
            parity_overrides=overrides_of(arguments.parity_set),
            seconds=arguments.seconds,
            long_factor=arguments.long,
            resolution=arguments.resolution,
            size_px=arguments.size,
            samples=arguments.samples,
            images=arguments.images,
            avatar=arguments.avatar,
        ),
        arguments.parts,
        lambda message: console.print(message, highlight=False, soft_wrap=True),
    )
    print(markdown(figures), end="")
    print(output)
    return 0
