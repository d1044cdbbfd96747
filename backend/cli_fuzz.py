"""`fuzz`: damaged files and messages for every parser, for as long as wanted."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.table import Table

from shared.errors import BadConfig, EffigyError, nearest

FOUND_SOMETHING = 1
GRACE_S = 120.0
RANDOM_MESSAGES, MUTATED_MESSAGES, REJECT_GOAL_MS = 100_000, 10_000, 1.0


def add_fuzz(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser("fuzz", help="feed damaged files and messages to every parser")
    parser.add_argument("--minutes", type=float, default=2.0, help="for all parsers together (default: 2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these parsers only; 'list' shows their names")
    parser.add_argument("--output", type=Path, default=Path("fuzz"), help="crashes are saved here (default: fuzz/)")
    parser.add_argument("--sweep", action="store_true", help="cut and flip a saved avatar and checkpoint instead")
    parser.add_argument("--wire", action="store_true", help="100,000 random and 10,000 mutated messages instead")
    parser.add_argument("--replay", type=Path, metavar="FOLDER", help="read a saved crash again (needs --only NAME)")
    parser.set_defaults(run=run_fuzz)


def run_fuzz(arguments: argparse.Namespace) -> int:
    """Run what was asked for; 1 where something crashed or was not noticed."""
    from backend.fuzzing.parsers import PARSERS
    from backend.fuzzing.runner import replay

    console = Console()
    names = list(arguments.only or PARSERS)
    if names == ["list"]:
        console.print("\n".join(PARSERS), highlight=False)
        return 0
    for name in names:
        if name not in PARSERS:
            raise BadConfig(f"there is no parser {name!r}{nearest(name, PARSERS)}", expected=", ".join(PARSERS))
    if arguments.replay is not None:
        console.print(replay(PARSERS[names[0]], arguments.replay), highlight=False, markup=False)
        return 0
    if arguments.sweep:
        return _sweep(console, arguments.seed)
    if arguments.wire:
        return _wire(console, arguments.seed)
    rows: list[dict[str, Any]] = []
    try:
        for number, name in enumerate(names, 1):
            console.print(f"{number} of {len(names)}: {name}", end=" ", highlight=False)
            rows.append(_in_child(name, arguments.minutes * 60 / len(names), arguments.seed, arguments.output))
            console.print(f"{rows[-1]['cases']:,} cases, {len(rows[-1]['crashes'])} crashes", highlight=False)
    except KeyboardInterrupt:
        console.print("stopped; what was read until now:")
    _show(console, rows, arguments.output)
    return FOUND_SOMETHING if any(row["crashes"] for row in rows) else 0


def _in_child(name: str, seconds: float, seed: int, output: Path) -> dict[str, Any]:
    """One parser's row. A process that dies leaves its last case behind."""
    from backend.fuzzing.runner import CURRENT

    folder = output / name
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "backend.fuzzing.child", name, str(seconds), str(seed), str(folder)]
    with (folder / "log.txt").open("wb") as log:
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, timeout=seconds + GRACE_S, check=False)
            code, lines = done.returncode, done.stdout.decode("utf-8", "replace").strip().splitlines()
        except subprocess.TimeoutExpired:
            code, lines = -1, []
    if code == 0 and lines:
        row: dict[str, Any] = json.loads(lines[-1])
        return row
    what = f"the process ended with status {code} (log.txt says more); its last case is in {folder / CURRENT}"
    return {"name": name, "cases": 0, "accepted": 0, "refused": 0, "crashes": [what]} | dict.fromkeys(
        ("worst_ms", "worst_refusal_ms", "growth_bytes"), 0
    )


def _show(console: Console, rows: list[dict[str, Any]], output: Path) -> None:
    table = Table("parser", *("cases", "accepted", "refused", "worst ms", "growth MiB", "crashes"))
    for row in rows:
        table.add_row(
            row["name"],
            *(f"{row[key]:,}" for key in ("cases", "accepted", "refused")),
            f"{row['worst_ms']:.1f}",
            f"{row['growth_bytes'] / 2**20:.1f}",
            str(len(row["crashes"])),
        )
    total = [sum(row[key] for row in rows) for key in ("cases", "accepted", "refused")]
    crashes = sum(len(row["crashes"]) for row in rows)
    table.add_section()
    table.add_row("all", *(f"{number:,}" for number in total), "", "", str(crashes))
    console.print(table)
    for row in rows:
        for crash in row["crashes"]:
            console.print(f"{row['name']}: {crash}", highlight=False, markup=False)
    if crashes:
        console.print(f"The cases are in {output}; try one again with --only NAME --replay FOLDER.", highlight=False)


def _sweep(console: Console, seed: int) -> int:
    from backend.fuzzing.parsers import PARSERS
    from backend.fuzzing.sweeps import sweep

    table = Table("what", "file", "cut off", "bits flipped", "not noticed")
    missed = 0
    for name in ("avatar", "checkpoint"):
        for one in sweep(PARSERS[name], seed):
            table.add_row(one.name, one.file, str(one.cuts), str(one.flips), str(len(one.missed)))
            missed += len(one.missed)
    console.print(table)
    return FOUND_SOMETHING if missed else 0


def _wire(console: Console, seed: int) -> int:
    """Random bytes and damaged valid messages, each timed."""
    from backend.fuzzing.mutations import mutated
    from backend.fuzzing.runner import resident_bytes
    from backend.fuzzing.wire_samples import messages, read_parts

    random, valid = Random(seed), messages()
    read_parts(valid[0])
    begun_bytes, table = resident_bytes(), Table("messages", "cases", "accepted", "refused", "median ms", "worst ms")
    slow = 0
    for title, count in (("random bytes", RANDOM_MESSAGES), ("mutated valid ones", MUTATED_MESSAGES)):
        times, accepted = [], 0
        for _ in range(count):
            if title == "random bytes":
                files = {str(part): random.randbytes(random.randrange(200)) for part in range(random.randrange(1, 5))}
            else:
                files = dict(random.choice(valid))
                name = random.choice(list(files))
                files[name] = mutated(files[name], random, "json" if name == "0.json" else "bytes")
            begun = time.perf_counter()
            try:
                read_parts(files)
                accepted += 1
            except EffigyError:
                times.append((time.perf_counter() - begun) * 1e3)
        slow += sum(took >= REJECT_GOAL_MS for took in times)
        middle = sorted(times)[len(times) // 2]
        table.add_row(title, f"{count:,}", f"{accepted:,}", f"{len(times):,}", f"{middle:.3f}", f"{max(times):.2f}")
    console.print(table)
    grown = (resident_bytes() - begun_bytes) / 2**20
    console.print(f"{slow} refusals took {REJECT_GOAL_MS:g} ms or more; the process grew by {grown:.1f} MiB.")
    return 0
