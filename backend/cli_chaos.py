"""`chaos`: how a backend stands what goes wrong, by making it go wrong (docs/reliability.md)."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from shared.errors import EnvironmentFailed

VIOLATED = 1


def add_chaos(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser("chaos", help="disturb a backend of its own, and see whether it holds")
    parser.add_argument("--minutes", type=float, default=2.0, help="of faults (default: %(default)s)")
    parser.add_argument(
        "--kills", type=int, default=0, metavar="N", help="instead: kill a training N times; its end must be the same"
    )
    parser.add_argument("--seed", type=int, help="of the schedule (default: a new one, which is printed)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="keep the data folder, the logs and chaos.json in here")
    parser.add_argument("--json", action="store_true", help="JSON instead of the table")
    parser.set_defaults(run=chaos)


def chaos(arguments: argparse.Namespace) -> int:
    """Run it and print what held; status 1 where something did not."""
    if not sys.platform.startswith("linux"):
        raise EnvironmentFailed("chaos needs Linux", do="Run it there: it stops processes and limits their files")
    from backend.chaos.faults import FAULTS
    from backend.chaos.run import run_chaos
    from backend.chaos.scene import new_folder

    seed = int(time.time()) % 100_000 if arguments.seed is None else arguments.seed
    console = Console(stderr=True, highlight=False)
    console.print(f"Seed {seed}")
    folder = new_folder(arguments.output)
    if arguments.kills:
        return _kills(arguments, folder, seed, console)
    try:
        outcome = run_chaos(folder, arguments.minutes * 60, seed, device=arguments.device, tell=console.print)
        text = json.dumps(outcome.as_json(), indent=1)
        if arguments.output is not None:
            (folder / "chaos.json").write_text(text, encoding="utf-8")
            console.print(f"Kept: {folder}")
    finally:
        if arguments.output is None:
            shutil.rmtree(folder, ignore_errors=True)
    if arguments.json:
        print(text)
        return VIOLATED if outcome.violations else 0
    out = Console(highlight=False)
    table = Table("fault", "what", "times", title=f"chaos, seed {seed}, {outcome.seconds:.0f} s")
    for name, times in outcome.faults.items():
        table.add_row(name, FAULTS[name].what, str(times))
    out.print(table)
    clients, jobs = outcome.clients, outcome.jobs
    sums = Table("held", "", show_header=False)
    for name, value in (
        ("faults injected", outcome.injected),
        ("survived", outcome.survived),
        ("looks at the invariants", outcome.looks),
        ("pictures asked for / answered", f"{clients['asked']} / {clients['answered']}"),
        ("requests lost", clients["lost"]),
        ("frames misdelivered", clients["wrong"]),
        ("jobs acknowledged / done", f"{jobs['acknowledged']} / {jobs['done']}"),
        ("jobs lost", jobs["lost"]),
        ("trainings that ended otherwise than an undisturbed one", jobs["different"]),
        ("corrupt files", outcome.corrupt_files),
        ("bytes leaked by a server (its growth at most)", f"{outcome.growth_bytes:,}"),
        ("bytes leaked by a render worker", f"{outcome.worker_growth_bytes:,}"),
        ("processes left behind", outcome.left_behind),
    ):
        sums.add_row(name, str(value))
    out.print(sums)
    for line in outcome.violations:
        out.print(f"NOT HELD  {line}", markup=False)
    if outcome.survived < outcome.injected:
        out.print(f"NOT HELD  {outcome.injected - outcome.survived} faults were not survived")
    return VIOLATED if outcome.violations else 0


def _kills(arguments: argparse.Namespace, folder: Path, seed: int, console: Console) -> int:
    from backend.chaos.kills import run_kills

    try:
        outcome = run_kills(folder, arguments.kills, seed, tell=console.print)
    finally:
        if arguments.output is None:
            shutil.rmtree(folder, ignore_errors=True)
    text = json.dumps(outcome.as_json(), indent=1)
    if arguments.output is not None:
        (folder / "kills.json").write_text(text, encoding="utf-8")
    words = (
        f"{outcome.kills} kills, {outcome.in_writes} of them inside the writing of a checkpoint, in {outcome.runs} runs"
    )
    same = f"{outcome.equal} ended with the weights of a run that was left alone"
    print(text if arguments.json else f"{words}; {same}")
    return 0 if outcome.equal == outcome.runs else VIOLATED
