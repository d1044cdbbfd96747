"""Fuzzing in a process of its own, so that a crash of native code is seen and costs nothing else.

    python -m backend.fuzzing.child SECONDS SEED FOLDER TABLE NAME...

prints one line of JSON for each parser, its `Row`. Started by `backend/fuzzing/children.py`; told to end (SIGTERM,
SIGINT) it finishes its case and prints what it has.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from backend.fuzzing.parsers import table
from backend.fuzzing.runner import Parser, bounded_memory, fuzz, write_files


def main(words: list[str]) -> int:
    """Fuzz parsers one after the other, each for a while."""
    seconds, seed, folder, parsers = float(words[0]), int(words[1]), Path(words[2]), table(words[3])
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda heard, _: told.append(heard))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no row
    for name in words[4:]:
        _warm(parsers[name])
        with bounded_memory():
            end = time.monotonic() + seconds
            row = fuzz(
                parsers[name],
                seed,
                lambda _, end=end: not told and time.monotonic() < end,  # type: ignore[misc]
                save=folder / name,
                guarded=True,
            )
        answers.write(json.dumps(row.as_json()) + "\n")
        answers.flush()
        if told:
            break
    return 0


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
