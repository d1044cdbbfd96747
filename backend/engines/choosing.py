"""Which engine a server has: what the command line offers and what is made of it. The one table of engines."""

from __future__ import annotations

import argparse
import os

from backend.engines.local import LocalEngine
from backend.engines.placement import Shares
from backend.engines.ray_engine import TRAININGS, RayEngine
from backend.home import Home
from shared.errors import BadConfig

ENGINES = ("local", "ray")


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `serve` that say where its workers run."""
    group = parser.add_argument_group("where its workers run")
    group.add_argument("--engine", choices=ENGINES, default="local", help="processes of this host, or a Ray cluster")
    group.add_argument(
        "--ray-address",
        default=os.environ.get("RAY_ADDRESS", ""),
        metavar="HOST:PORT",
        help="the cluster this host is part of (default: $RAY_ADDRESS, or one of this host alone is started)",
    )
    shares = Shares()
    group.add_argument(
        "--render-share", type=float, default=shares.render, help=f"of a GPU for a render worker ({shares.render})"
    )
    group.add_argument("--train-share", type=float, default=shares.train, help=f"and for a training ({shares.train})")
    group.add_argument(
        "--trainings", type=int, default=TRAININGS, help=f"handed to the cluster at the same time ({TRAININGS})"
    )


def chosen_engine(arguments: argparse.Namespace, home: Home) -> LocalEngine | RayEngine:
    """The engine of these options. Raises BadConfig, EnvironmentFailed."""
    if arguments.engine == "local":
        return LocalEngine(home, arguments.device)
    for name in ("render_share", "train_share"):
        if not 0.0 < getattr(arguments, name) <= 1.0:
            option = f"--{name.replace('_', '-')}"
            raise BadConfig(f"{option} is out of range", found=str(getattr(arguments, name)), expected="above 0, to 1")
    if not 1 <= arguments.trainings <= 64:
        raise BadConfig("--trainings is out of range", found=str(arguments.trainings), expected="1 to 64")
    shares = Shares(arguments.render_share, arguments.train_share)
    return RayEngine(home, arguments.device, arguments.ray_address, shares=shares, trainings=arguments.trainings)
