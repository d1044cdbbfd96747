"""One parser's fuzzing in a process of its own, so that a crash of native code is seen and costs nothing else.

    python -m backend.fuzzing.child NAME SECONDS SEED FOLDER TABLE

prints one line of JSON, the `Row`. Started by `python -m backend fuzz`; told to end (SIGTERM, SIGINT) it finishes its
case and prints what it has.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

from backend.fuzzing.parsers import table
from backend.fuzzing.runner import bounded_memory, fuzz


def main(words: list[str]) -> int:
    """Fuzz one parser for a while."""
    name, seconds, seed, folder = words[0], float(words[1]), int(words[2]), Path(words[3])
    parser = table(words[4])[name]
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda heard, _: told.append(heard))
    parser.samples()  # what is loaded for the first time takes memory and time that are not the parser's
    with bounded_memory():
        end = time.monotonic() + seconds
        row = fuzz(parser, seed, lambda _: not told and time.monotonic() < end, save=folder, guarded=True)
    sys.stdout.write(json.dumps(row.as_json()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
