"""Fuzzing in a process of its own, so that a crash of native code is seen and costs nothing else.

    python -m backend.fuzzing.child SECONDS CASES SEED FOLDER TABLE NAME...

reads with each parser for SECONDS and at least CASES cases, and prints one line of JSON for each, its `Row`; an empty
line now and then says that it goes on. Started by `backend/fuzzing/children.py`; told to end (SIGTERM,
SIGINT) it finishes its case and prints what it has.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from backend.fuzzing.parsers import table
from backend.fuzzing.runner import Parser, bounded_memory, fuzz, write_files

SIGN_S = 5.0


def main(words: list[str]) -> int:
    """Fuzz parsers one after the other, each for a while."""
    seconds, least, seed = float(words[0]), int(words[1]), int(words[2])
    folder, parsers = Path(words[3]), table(words[4])
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda heard, _: told.append(heard))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no row
    for name in words[5:]:
        _warm(parsers[name])
        with bounded_memory():
            more = _until(told, seconds, least, answers)
            row = fuzz(parsers[name], seed, more, save=folder / name, guarded=True)
        answers.write(json.dumps(row.as_json()) + "\n")
        answers.flush()
        if told:
            break
    return 0


def _until(told: list[int], seconds: float, least: int, answers: IO[str]) -> Callable[[int], bool]:
    """Whether another case is wanted, asked with the number of those that were read."""
    end, sign = time.monotonic() + seconds, time.monotonic()

    def more(count: int) -> bool:
        nonlocal sign
        now = time.monotonic()
        if now > sign + SIGN_S:
            sign = now
            answers.write("\n")
            answers.flush()
        return not told and (count < least or now < end)

    return more


def _warm(parser: Parser) -> None:
    """What is loaded for the first time takes memory and time that are not the parser's."""
    for files in parser.samples():
        with tempfile.TemporaryDirectory() as place:
            if parser.read is not None:
                write_files(Path(place), files)
                parser.read(Path(place))
            elif parser.parse is not None:
                parser.parse(files)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
