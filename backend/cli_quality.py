"""`benchmark quality`: how good presets are after so many seconds of training, side by side."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from backend.options import add_device
from shared.errors import BadConfig

PRESETS, SECONDS, CAPTURE = ("rgb_head_offline", "rgb_head_quality"), (10.0, 40.0, 80.0), "talking_head"


def add_quality(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command among the benchmarks."""
    parser = kinds.add_parser("quality", help="held-out quality of presets after so many seconds of training")
    parser.add_argument(
        "--presets",
        nargs="+",
        default=PRESETS,
        metavar="PRESET",
        help="presets or files, each with changes if wanted: NAME+key=value+key=value (default: %(default)s)",
    )
    parser.add_argument("--seconds", type=float, nargs="+", default=SECONDS, help="marks (default: %(default)s)")
    parser.add_argument("--stop", type=float, default=0.0, metavar="SECONDS", help="end each training then")
    parser.add_argument("--capture", default=CAPTURE, help="name or folder (default: %(default)s)")
    add_device(parser)
    parser.add_argument("--output", type=Path, help="folder for quality.json and contact_sheet.png")
    parser.set_defaults(run=benchmark_quality)


def benchmark_quality(arguments: argparse.Namespace) -> int:
    """Train one preset after another and print a table for each mark."""
    from avatars.captures.opening import open_capture
    from avatars.training.quality import contend, truth_pictures, variant, write_sheet
    from backend.devices import device_name, resolve_device, usable_cores, use_cores

    if min(arguments.seconds) <= 0:
        raise BadConfig("--seconds must be above 0", found=str(min(arguments.seconds)))
    use_cores(usable_cores())
    device = resolve_device(arguments.device)
    configs = {text: variant(text) for text in arguments.presets}
    capture = open_capture(arguments.capture)
    sizes = {config.size_px for config in configs.values()}
    if len(sizes) > 1:
        raise BadConfig("the presets are measured at different sizes", found=f"size_px {sorted(sizes)}")
    console = Console()
    first = next(iter(configs.values()))
    contenders = []
    for name, config in configs.items():
        _warm_up(name, capture, device)
        one = contend(
            name,
            config,
            capture,
            device,
            arguments.seconds,
            stop_s=arguments.stop,
            tell=lambda message: console.print(message, highlight=False, soft_wrap=True),
        )
        contenders.append(one)
        if arguments.output:  # after each, so that a run cut short leaves what it has
            arguments.output.mkdir(parents=True, exist_ok=True)
            document: dict[str, Any] = {
                "device": device_name(device),
                "capture": capture.name,
                "size_px": first.size_px,
            }
            document["held_out"] = len(capture.split("test"))
            document["contenders"] = [contender.as_json() for contender in contenders]
            (arguments.output / "quality.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
            write_sheet(arguments.output / "contact_sheet.png", truth_pictures(first, capture), contenders)
    console.print(f"{capture.name}, {len(capture.split('test'))} held-out pictures, {device_name(device)}")
    for number, one in enumerate(contenders, 1):
        if "+" in one.name:
            console.print(f"{_label(number, one.name)}: {one.name}", highlight=False, soft_wrap=True)
    for mark in [*sorted(arguments.seconds), 0.0]:
        console.print(_table(mark, contenders))
    return 0


def _warm_up(text: str, capture: Any, device: str) -> None:
    """Compile what a preset's steps compile, on nobody's clock; presets have losses of their own."""
    from avatars.training.quality import contend, variant
    from avatars.warm_up import compile_kernels

    if device == "cpu":
        compile_kernels()
        return
    small = f"{text}+schedule.images=60+schedule.batch=10+schedule.max_seconds=0+schedule.deltas_from=20"
    contend("warm-up", variant(small), capture, device, ())


def _label(number: int, name: str) -> str:
    """A preset's name; one with changes is too long for a table and becomes a number."""
    return f"{number}: {name.partition('+')[0]}+" if "+" in name else name


def _table(mark: float, contenders: list[Any]) -> Table:
    table = Table(title=f"after {mark:g} s" if mark else "at the end", title_justify="left")
    names = list(contenders[0].standings[-1].means)
    for heading in ("preset", "trained s", "images", *names):
        table.add_column(heading, justify="left" if heading == "preset" else "right", overflow="fold")
    from avatars.training.quality import UNITS

    for number, one in enumerate(contenders, 1):
        standing = next(found for found in one.standings if found.wanted_s == mark)
        numbers = [UNITS[name].format(standing.means[name]) for name in names]
        table.add_row(_label(number, one.name), f"{standing.seconds:.1f}", str(standing.images), *numbers)
    return table
