"""`benchmark teacher`: training steps of a relightable person's implicit teacher."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from backend.options import add_device


def add_teacher_benchmark(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = kinds.add_parser("teacher", help="training steps of a relightable person's implicit teacher")
    add_device(parser)
    parser.add_argument("--preset", default="relit_teacher_fast", help="default: relit_teacher_fast")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, e.g. seed=1")
    parser.add_argument("--capture", default="demo_body", help="a recording (default: the embedded body)")
    parser.add_argument("--seconds", type=float, default=5.0, help="about how long each stage is measured")
    parser.add_argument("--profile", type=int, default=0, metavar="ROWS", help="print the dearest operations as well")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.set_defaults(run=benchmark_teacher)


def benchmark_teacher(arguments: argparse.Namespace) -> int:
    """The table of avatars.relit_field.benchmark, a line at a time."""
    from avatars.captures.opening import open_capture
    from avatars.relit_field import benchmark
    from avatars.training.config import TEACHER, load_config
    from backend.cli_train import overrides_of
    from backend.devices import device_name, resolve_device, usable_cores, use_cores
    from shared.errors import BadConfig

    use_cores(usable_cores())
    config = load_config(arguments.preset, overrides_of(arguments.set))
    if config.method != TEACHER:
        raise BadConfig(f"preset {arguments.preset!r} trains no teacher", found=config.method, expected=TEACHER)
    device = resolve_device(arguments.device)
    print(device_name(device), "", benchmark.HEADER, sep="\n")
    rows, tables = [], []
    for row in benchmark.run_teacher_benchmark(
        config, open_capture(arguments.capture), device, arguments.seconds, table_rows=arguments.profile
    ):
        print(benchmark.line(row), flush=True)
        rows.append(row)
        tables.append(row.table)
    print(*tables, sep="\n")
    if arguments.json:
        found = {"device": device_name(device), "rows": benchmark.as_json(rows)}
        arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0
