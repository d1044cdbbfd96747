"""`fuzz`: damaged files and messages for every parser, for as long as wanted."""

from __future__ import annotations

import argparse
import gc
import json
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.table import Table

from avatars.files import write_atomically
from shared.errors import BadConfig, EffigyError, nearest

FOUND_SOMETHING = 1
TABLE = "table.json"
RANDOM_MESSAGES, MUTATED_MESSAGES, REJECT_GOAL_MS = 100_000, 10_000, 1.0


def add_fuzz(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser("fuzz", help="feed damaged files and messages to every parser")
    parser.add_argument("--minutes", type=float, default=2.0, help="for all parsers together (default: 2)")
    parser.add_argument(
        "--cases", type=int, default=0, help="at least so many for each parser, however long they take (default: 0)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these parsers only; 'list' shows their names")
    parser.add_argument(
        "--table",
        default="",
        metavar="MODULE",
        help="parsers of this module's PARSERS instead, such as tests.attacks.addon_parsers",
    )
    parser.add_argument("--output", type=Path, default=Path("fuzz"), help="crashes are saved here (default: fuzz/)")
    parser.add_argument(
        "--resume", action="store_true", help="leave out what the table in --output has already of the same options"
    )
    parser.add_argument("--sweep", action="store_true", help="cut and flip a saved avatar and checkpoint instead")
    parser.add_argument("--wire", action="store_true", help="100,000 random and 10,000 mutated messages instead")
    parser.add_argument("--replay", type=Path, metavar="FOLDER", help="read a saved crash again (needs --only NAME)")
    parser.set_defaults(run=run_fuzz)


def run_fuzz(arguments: argparse.Namespace) -> int:
    """Run what was asked for; 1 where something crashed or was not noticed."""
    from backend.fuzzing.parsers import table
    from backend.fuzzing.runner import replay

    console = Console()
    parsers = table(arguments.table)
    names = list(arguments.only or parsers)
    if names == ["list"]:
        console.print("\n".join(parsers), highlight=False)
        return 0
    for name in names:
        if name not in parsers:
            raise BadConfig(f"there is no parser {name!r}{nearest(name, parsers)}", expected=", ".join(parsers))
    if arguments.replay is not None:
        console.print(replay(parsers[names[0]], arguments.replay), highlight=False, markup=False)
        return 0
    if arguments.sweep:
        return _sweep(console, arguments.seed)
    if arguments.wire:
        return _wire(console, arguments.seed)
    return _fuzz(console, names, arguments)


def _fuzz(console: Console, names: list[str], arguments: argparse.Namespace) -> int:
    """One parser after the other. Stopped (Ctrl-C, SIGTERM) it shows what it has; the table is kept from row to row."""
    from backend.fuzzing.children import rows_of

    seconds = arguments.minutes * 60 / len(names)
    asked = {"seed": arguments.seed, "seconds": seconds, "least": arguments.cases}
    rows = _kept(arguments.output, asked) if arguments.resume else {}
    left = [name for name in names if name not in rows]
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        for row, whole in rows_of(left, seconds, arguments.seed, arguments.output, arguments.table, arguments.cases):
            name = row["name"]
            rows[name] = row | asked | ({} if whole else {"seconds": -1.0})
            write_atomically(arguments.output / TABLE, json.dumps(rows, indent=1).encode())
            said = f"{row['cases']:,} cases, {len(row['crashes'])} crashes"
            console.print(f"{names.index(name) + 1} of {len(names)}: {name}: {said}", highlight=False)
            if not whole:
                console.print("stopped; what was read until now:")
    finally:
        signal.signal(signal.SIGTERM, before)
    shown = [rows[name] for name in names if name in rows]
    _show(console, shown, arguments.output)
    return FOUND_SOMETHING if any(row["crashes"] for row in shown) else 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _kept(output: Path, asked: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """The rows of an earlier call with the same seed, and the same time and least number for each parser."""
    try:
        found: dict[str, dict[str, Any]] = json.loads((output / TABLE).read_text(encoding="utf-8"))
        return {
            name: row
            for name, row in found.items()
            if all(abs(row[key] - value) < 0.01 for key, value in asked.items())
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadConfig(f"{output / TABLE} is no table of fuzzing", found=str(error)[:100]) from error


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
    """Random bytes and damaged valid messages, each timed: by the clock, and by the processor's time it took.

    Python's collector is run beforehand and then left off: it takes its turn in whatever happens to be running.
    """
    from backend.fuzzing.mutations import mutated
    from backend.fuzzing.runner import resident_bytes
    from backend.fuzzing.wire_samples import messages, read_parts

    random, valid = Random(seed), messages()
    read_parts(valid[0])
    gc.collect()
    gc.disable()
    begun_bytes = resident_bytes()
    table = Table("messages", *("cases", "accepted", "refused", "median ms", "worst ms", "worst ms of processor"))
    slow: list[tuple[float, float, str]] = []
    for title, count in (("random bytes", RANDOM_MESSAGES), ("mutated valid ones", MUTATED_MESSAGES)):
        times: list[tuple[float, float]] = []  # ms, ms of processor
        accepted = 0
        for case in range(count):
            if case % 1000 == 0:
                gc.collect()
            if title == "random bytes":
                files = {str(part): random.randbytes(random.randrange(200)) for part in range(random.randrange(1, 5))}
            else:
                files = dict(random.choice(valid))
                name = random.choice(list(files))
                files[name] = mutated(files[name], random, "json" if name == "0.json" else "bytes")
            begun, worked = time.perf_counter(), time.thread_time()
            try:
                read_parts(files)
                accepted += 1
            except EffigyError as error:
                took = (time.perf_counter() - begun) * 1e3, (time.thread_time() - worked) * 1e3
                times.append(took)
                if max(took) >= REJECT_GOAL_MS:
                    slow.append((*took, str(error)))
        clock, processor = sorted(one[0] for one in times), max(one[1] for one in times)
        figures = f"{clock[len(clock) // 2]:.3f}", f"{clock[-1]:.2f}", f"{processor:.2f}"
        table.add_row(title, f"{count:,}", f"{accepted:,}", f"{len(times):,}", *figures)
    gc.enable()
    console.print(table)
    ours = [one for one in slow if one[1] >= REJECT_GOAL_MS]
    console.print(
        f"{len(slow)} refusals took {REJECT_GOAL_MS:g} ms or more by the clock, {len(ours)} of them by their own work; "
        f"the process grew by {(resident_bytes() - begun_bytes) / 2**20:.1f} MiB.",
        highlight=False,
    )
    for clock_ms, processor_ms, sentence in sorted(ours, reverse=True)[:10]:
        console.print(f"{clock_ms:.2f} ms, {processor_ms:.2f} of work: {sentence}", highlight=False, markup=False)
    return FOUND_SOMETHING if ours else 0
