"""`benchmark ray`: what many machines cost a picture, measured on one."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from backend.options import add_device


def add_engine_benchmark(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = kinds.add_parser(
        "ray", help="the same pictures from this host's processes and from a Ray of this host, asked in turn"
    )
    add_device(parser)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024], metavar="PX")
    parser.add_argument("--frames", type=int, default=60, help="of each size (default: %(default)s)")
    parser.add_argument("--avatar", type=Path, help="avatar folder to draw (default: a small untrained head)")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.set_defaults(run=benchmark_ray)


def benchmark_ray(arguments: argparse.Namespace) -> int:
    """A line for each size; status 1 where pictures differed."""
    from backend.engine_benchmark import measure_engines

    rows = []
    for row in measure_engines(arguments.sizes, arguments.frames, arguments.device, arguments.avatar):
        rows.append(row)
        here = f"this host {row.local_ms:.1f} ms (drawn in {row.local_drawn_ms:.1f})"
        there = f"Ray {row.ray_ms:.1f} ms (drawn in {row.ray_drawn_ms:.1f})"
        result = f"Ray adds {row.overhead_ms:.1f} ms, ratio {row.ratio:.2f}"
        same = "equal" if row.equal else "DIFFERENT"
        print(f"{row.size_px} px, {row.frames} frames: {here}, {there}; {result}, pixels {same}", flush=True)
    if arguments.json:
        figures = [{**dataclasses.asdict(row), "overhead_ms": row.overhead_ms, "ratio": row.ratio} for row in rows]
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return int(not all(row.equal for row in rows))
