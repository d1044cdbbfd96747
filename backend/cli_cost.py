"""`cost`: what many avatars and frames would take, on paper, from the figures of `benchmark growth`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_cost(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "cost",
        help="GPU-hours, bytes and money of many avatars and frames, computed from measured figures",
        description="Computes in proportion from a growth.json that `benchmark growth` left on the kind of device you "
        "would use. Prices are yours to give.",
    )
    parser.add_argument("figures", type=Path, help="growth.json, or the folder it is in")
    parser.add_argument("--files", type=Path, metavar="FIGURES", help="another growth.json, for its part 'files' alone")
    parser.add_argument("--avatars", type=int, default=1000, help="to be trained (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=1_000_000, help="to be rendered (default: %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(1920, 1080), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--gaussians", type=int, default=60_000, help="of an avatar (default: %(default)s)")
    parser.add_argument("--in-frame", type=int, default=1, help="avatars in each frame (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=1, help="sub-frames of each (default: %(default)s)")
    parser.add_argument("--training-seconds", type=float, default=60.0, help="of an avatar (default: %(default)g)")
    parser.add_argument(
        "--writers", type=int, default=0, help="threads a GPU that write pictures beside the drawing (0: none)"
    )
    parser.add_argument("--price", type=float, default=0.0, help="of a GPU for an hour, in any money")
    parser.set_defaults(run=cost)


def cost(arguments: argparse.Namespace) -> int:
    """Print the bill."""
    from backend.growth.cost import Film, cost_of, in_lines, rates_of
    from backend.growth.run import FIGURES, read_figures

    width, height = arguments.size
    film = Film(
        arguments.avatars,
        arguments.frames,
        width,
        height,
        gaussians=arguments.gaussians,
        in_frame=arguments.in_frame,
        samples=arguments.samples,
        training_s=arguments.training_seconds,
        writers=arguments.writers,
        price=arguments.price,
    )

    def read(given: Path) -> dict[str, Any]:
        path = given.expanduser()
        return read_figures(path / FIGURES if path.is_dir() else path)

    rates = rates_of(read(arguments.figures), read(arguments.files) if arguments.files else None)
    print("\n".join(in_lines(film, cost_of(film, rates), rates)))
    return 0
