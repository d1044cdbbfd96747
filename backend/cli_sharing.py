"""`benchmark share`: two clients and a training on one device."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from backend.options import add_device

MIB = 1024**2


def add_sharing_benchmark(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = kinds.add_parser(
        "share",
        help="two clients and a training on one device: waiting times, memory, and what a deaf client costs",
    )
    add_device(parser)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each part (default: %(default)s)")
    parser.add_argument("--deaf-seconds", type=float, default=60.0, help="beside a deaf client (default: %(default)s)")
    parser.add_argument("--size", type=int, default=512, metavar="PX", help="of the pictures (default: %(default)s)")
    parser.add_argument("--gaussians", type=int, default=15_000, help="of the avatar drawn (default: %(default)s)")
    parser.add_argument("--capture", default="demo_head", help="what is trained on (default: %(default)s)")
    parser.add_argument("--preset", default="tiny", help="of the training (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.set_defaults(run=benchmark_share)


def benchmark_share(arguments: argparse.Namespace) -> int:
    """A line for each part, then the tables."""
    from backend.sharing_benchmark import Sharing, SharingSettings, measure_sharing, shares

    settings = SharingSettings(
        arguments.device,
        arguments.seconds,
        arguments.deaf_seconds,
        arguments.size,
        arguments.gaussians,
        arguments.capture,
        arguments.preset,
    )
    told, outcome = 0, Sharing()
    for _, outcome in measure_sharing(settings):
        for row in outcome.rows[told:]:
            line = f"{row.client}: {row.pictures} pictures, median {row.median_ms:.1f} ms, 95 % {row.p95_ms:.1f} ms"
            print(f"{row.part}: {line}", flush=True)
        told = len(outcome.rows)
    for name, ratio in shares(outcome).items():
        print(f"median time, {name}: {ratio:.2f}")
    table = Table("held", "")
    table.add_row("training beside both, images a second", f"{outcome.step_rate:.1f}")
    table.add_row("another client that would cancel the training", outcome.refused or "NOT REFUSED")
    table.add_row("wishes of the deaf client", str(outcome.wishes))
    for name, held in outcome.memory.items():
        table.add_row(f"memory of the {name}, MiB at most", f"{held / MIB:.0f}")
    table.add_row("growth of the server, MiB at most", f"{outcome.server_growth_bytes / MIB:.1f}")
    for part, used in outcome.device.items():
        table.add_row(f"memory of the device (or machine) in use, {part}, MiB", f"{used / MIB:.0f}")
    Console().print(table)
    if arguments.json:
        figures = {**dataclasses.asdict(outcome), "shares": dict(shares(outcome))}
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return 0
