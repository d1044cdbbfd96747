"""`benchmark refine`: heads trained on exact and tracked parameters of the same pictures, refined and not."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from backend.options import add_device
from shared.errors import BadConfig

if TYPE_CHECKING:
    from avatars.captures.capture import Capture

WITHOUT = {
    "refine.mode": "always",
    "refine.start": "1.0",
    "refine.confidence": "false",
    "refine.edge_weight": "1.0",
}
"""Nothing is refined in training; held-out frames can still be fitted, so that both figures are comparable."""
KINDS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "exact": ("exact", WITHOUT),
    "tracked": ("tracked", WITHOUT),
    "tracked+refined": ("tracked", {"refine.mode": "always"}),
    "noise": ("exact", WITHOUT | {"data.tracking_noise": "1"}),
    "noise+refined": ("exact", {"refine.mode": "always", "data.tracking_noise": "1"}),
}
"""Name -> which capture, and what is set for it."""
FIGURES = (("psnr_db", "PSNR dB", 2), ("ssim", "SSIM", 4), ("flip", "FLIP", 4))

FITTED = "psnr_db_fitted"
LOG_WIDTH = 160
AGAINST = ("fitted against exact, dB", "against exact fitted, dB")


def add_refine_benchmark(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command among the benchmarks."""
    parser = kinds.add_parser("refine", help="heads trained on exact, tracked and noisy parameters, refined and not")
    parser.add_argument("--exact", default="talking_head", help="capture with exact parameters (default: %(default)s)")
    parser.add_argument("--tracked", help="the same pictures tracked (`benchmark track --output` leaves both)")
    parser.add_argument("--runs", nargs="+", choices=tuple(KINDS), help="only these (default: all there is data for)")
    parser.add_argument("--preset", default="rgb_head_quality", help="default: %(default)s")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for all runs; may be repeated")
    add_device(parser)
    parser.add_argument("--output", type=Path, help="folder for refine.json and a contact sheet of each run")
    parser.set_defaults(run=benchmark_refine)


def benchmark_refine(arguments: argparse.Namespace) -> int:
    """Train one after another and print the table."""
    from avatars.captures.opening import open_capture
    from avatars.training.config import load_config
    from backend.devices import device_name, resolve_device, usable_cores, use_cores

    runs = arguments.runs or [name for name, (which, _) in KINDS.items() if which == "exact" or arguments.tracked]
    if any(KINDS[name][0] == "tracked" for name in runs) and not arguments.tracked:
        raise BadConfig("there is no tracked capture to train on", do="Give --tracked FOLDER")
    common = dict(text.partition("=")[::2] for text in arguments.set)
    configs = {name: load_config(arguments.preset, common | dict(KINDS[name][1])) for name in runs}
    captures = {"exact": open_capture(arguments.exact)}
    if arguments.tracked:
        captures["tracked"] = open_capture(arguments.tracked)
    use_cores(usable_cores())
    # A log has no width of its own, and the table needs more than 80.
    device, console = resolve_device(arguments.device), Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    found: dict[str, dict[str, Any]] = {}
    for name, config in configs.items():
        found[name] = _trained(name, config, captures[KINDS[name][0]], device, arguments.output)
        console.print(f"{name}: {found[name]}", highlight=False, soft_wrap=True)
        if arguments.output:  # after each, so that a run cut short leaves what it has
            document = {"device": device_name(device), "preset": arguments.preset, "set": common, "runs": found}
            (arguments.output / "refine.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    show_runs(console, found)
    return 0


def _trained(name: str, config: Any, capture: Capture, device: str, output: Path | None) -> dict[str, Any]:
    """Figures of one run; its contact sheet and refined motion are kept."""
    from avatars.training.changed_data import REFINED
    from avatars.training.loop import train

    with tempfile.TemporaryDirectory() as temporary:
        result = train(config, capture, Path(temporary), name="head", device=device, on_event=lambda event: None)
        if output:
            output.mkdir(parents=True, exist_ok=True)
            sheet = (result.report_folder / "contact_sheet.png").read_bytes()
            (output / f"{name}.png").write_bytes(sheet)
            (output / f"{name}.npz").write_bytes((result.report_folder / REFINED).read_bytes())
    keys = [key + suffix for suffix in ("", "_fitted") for key, _, _ in FIGURES]
    others = ("training_seconds", "images", "refined")
    return {key: result.metrics[key] for key in (*keys, *others) if key in result.metrics}


def show_runs(console: Console, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the table of all runs."""
    titles = [title for _, title, _ in FIGURES]
    table = Table("trained on", *titles, *(f"{title}, fitted" for title in titles), *AGAINST)
    exact = found.get("exact", {})
    for name, values in found.items():
        cells = []
        for suffix in ("", "_fitted"):
            for key, _, digits in FIGURES:
                value = values.get(key + suffix)
                cells.append("" if value is None else f"{value:.{digits}f}")
        against = [f"{values[FITTED] - exact[key]:+.2f}" if exact else "" for key in ("psnr_db", FITTED)]
        table.add_row(name, *cells, *against)
    console.print(table)
    console.print("Fitted: the track's error of held-out frames fitted to their pictures, the avatar frozen")
