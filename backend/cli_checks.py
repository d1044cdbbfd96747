"""`benchmark` and `doctor`: how fast it is here, and what is missing."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.markup import escape

from backend.cli_body import add_body_benchmark
from backend.cli_edit_benchmark import add_edit_benchmark
from backend.cli_engine_benchmark import add_engine_benchmark
from backend.cli_growth import add_growth_benchmark
from backend.cli_live import add_live_benchmark
from backend.cli_online import add_online_benchmark
from backend.cli_quality import add_quality
from backend.cli_refine_benchmark import add_refine_benchmark
from backend.cli_relit_benchmark import add_relight_benchmark
from backend.cli_scale import add_scale_benchmark
from backend.cli_sharing import add_sharing_benchmark
from backend.cli_surface_benchmark import add_surface_benchmark
from backend.cli_teacher import add_teacher_benchmark
from backend.cli_track_benchmark import add_track_benchmark
from backend.doctor import examine
from backend.options import add_device, add_home
from backend.tables import folding_table
from shared.addresses import DEFAULT_ADDRESS

WIRE_GOAL_MS = 5.0
START_GOAL_S = 2.0
MARKS = {"ok": "[green]ok[/]", "optional": "[yellow]optional[/]", "missing": "[red]missing[/]"}


def add_benchmark(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the commands."""
    parser = commands.add_parser("benchmark", help="measure this machine")
    kinds = parser.add_subparsers(title="what to measure", required=True, metavar="KIND")
    raster = kinds.add_parser("raster", help="time per image of the rasteriser, forward and backward")
    add_device(raster)
    raster.add_argument("--repeats", type=int, default=10)
    raster.set_defaults(run=benchmark_raster)
    head = kinds.add_parser("head", help="training steps and renders of heads beside the bare rasteriser")
    add_device(head)
    head.add_argument("--gaussians", type=int, nargs="+", help="default: 15000 60000 120000")
    head.add_argument("--sizes", type=int, nargs="+", metavar="PX", help="default: 512 1024")
    head.add_argument("--batches", type=int, nargs="+", help="default: 1 4 10 20")
    head.add_argument("--ssim", type=float, default=0.0, help="weight of 1 - SSIM beside L1 (default: plain L1)")
    head.add_argument("--seconds", type=float, default=0.6, help="about how long each timing takes")
    head.add_argument("--json", type=Path, help="write the figures there as well")
    head.set_defaults(run=benchmark_head)
    add_body_benchmark(kinds)
    add_relight_benchmark(kinds)
    add_quality(kinds)
    add_online_benchmark(kinds)
    add_teacher_benchmark(kinds)
    add_edit_benchmark(kinds)
    add_track_benchmark(kinds)
    add_refine_benchmark(kinds)
    add_live_benchmark(kinds)
    add_surface_benchmark(kinds)
    add_sharing_benchmark(kinds)
    add_engine_benchmark(kinds)
    add_scale_benchmark(kinds)
    add_growth_benchmark(kinds)
    wire = kinds.add_parser("wire", help="time per 1080p frame between the render worker and a client on this machine")
    wire.add_argument("--frames", type=int, default=60)
    wire.add_argument("--size", type=int, nargs=2, default=(1920, 1080), metavar=("WIDTH", "HEIGHT"))
    wire.set_defaults(run=benchmark_wire)
    start = kinds.add_parser(
        "start", help="from the start of a backend to its first answer, and on to its first picture"
    )
    start.add_argument("--starts", type=int, default=5)
    start.add_argument("--size", type=int, default=512, metavar="PX")
    start.add_argument("--avatar", type=Path, help="avatar folder to draw (default: a small untrained head)")
    add_device(start)
    start.set_defaults(run=benchmark_start)


def add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser("doctor", help="what works, what is missing, what to do about it")
    parser.add_argument("--json", action="store_true", help="one JSON list instead of a table")
    add_home(parser)
    parser.add_argument("--address", default=os.environ.get("EFFIGY_ADDRESS", DEFAULT_ADDRESS))
    parser.set_defaults(run=doctor)


def benchmark_raster(arguments: argparse.Namespace) -> int:
    """The table of avatars.rendering.benchmark."""
    from avatars.rendering.benchmark import format_table, run_raster_benchmark
    from backend.devices import resolve_device, usable_cores, use_cores

    use_cores(usable_cores())
    print(format_table(run_raster_benchmark(repeats=arguments.repeats, device=resolve_device(arguments.device))))
    return 0


def benchmark_head(arguments: argparse.Namespace) -> int:
    """The table of avatars.rgb_head.benchmark, a line at a time."""
    from avatars.rgb_head import benchmark
    from backend.devices import device_name, resolve_device, usable_cores, use_cores

    use_cores(usable_cores())
    device = resolve_device(arguments.device)
    print(device_name(device), "", benchmark.HEADER, sep="\n")
    rows = []
    for row in benchmark.run_head_benchmark(
        arguments.gaussians or benchmark.COUNTS,
        arguments.sizes or benchmark.SIZES_PX,
        arguments.batches or benchmark.BATCHES,
        losses={"ssim": arguments.ssim},
        seconds=arguments.seconds,
        device=device,
    ):
        print(benchmark.line(row), flush=True)
        rows.append(row)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"device": device_name(device), "rows": benchmark.as_json(rows)}, indent=1)
        )
    return 0


def benchmark_wire(arguments: argparse.Namespace) -> int:
    """Median and 95th percentile, for one hop and for the way a viewport's frame goes."""
    from backend.benchmark_wire import measure

    width, height = arguments.size
    table = folding_table("way", "frames", "MiB", "median ms", "95 % ms", "goal ms")
    for row in measure(width, height, arguments.frames):
        goal = f"{WIRE_GOAL_MS:.0f}" if (width, height) == (1920, 1080) else ""
        table.add_row(
            row.way, str(row.frames), f"{row.mebibytes:.1f}", f"{row.median_ms:.2f}", f"{row.p95_ms:.2f}", goal
        )
    Console().print(table)
    return 0


def benchmark_start(arguments: argparse.Namespace) -> int:
    """A line for each start, then the medians beside the goal."""
    from backend.benchmark_start import measure

    rows = []
    for row in measure(arguments.starts, arguments.device, arguments.size, arguments.avatar):
        rows.append(row)
        print(f"answer after {row.hello_s:.2f} s, picture {row.picture_s:.2f} s later, drawn in {row.render_ms:.0f} ms")
    hello_s, picture_s = (median(getattr(row, name) for row in rows) for name in ("hello_s", "picture_s"))
    goal = f"goal {START_GOAL_S:.0f} s"
    print(
        f"median: answer {hello_s:.2f} s, picture {picture_s:.2f} s later ({goal}), {hello_s + picture_s:.2f} s in all"
    )
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    """Every finding; status 1 when something that is needed is missing."""
    findings = examine(arguments.home, arguments.address)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=1))
    else:
        table = folding_table("what", "state", "found", "what to do")
        for finding in findings:
            table.add_row(finding.name, MARKS[finding.state], escape(finding.found), escape(finding.do))
        Console().print(table)
    return int(any(finding.state == "missing" for finding in findings))
