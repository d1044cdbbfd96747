"""Rot: a saved avatar or checkpoint cut off at many places and with single bits turned over. All must be noticed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random

from backend.fuzzing.runner import Parser, write_files
from shared.errors import EffigyError

CUTS, FLIPS = 200, 1000


@dataclass(frozen=True)
class Sweep:
    """What was seen of one file. missed: what was done where nothing was noticed."""

    name: str
    file: str
    cuts: int
    flips: int
    missed: tuple[str, ...]


def sweep(parser: Parser, seed: int = 0, cuts: int = CUTS, flips: int = FLIPS) -> tuple[Sweep, ...]:
    """Cut each file of the parser's samples at `cuts` places and turn `flips` single bits, one at a time.

    The first and last bytes are among the places. Damage counts as noticed where reading raises an EffigyError; any
    other error goes through.
    """
    assert parser.read is not None
    found = []
    for files in parser.samples():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_files(folder, files)
            parser.read(folder)
            for name, content in files.items():
                random, missed = Random(f"{seed}/{name}"), []
                places = {0, len(content) - 1, *(random.randrange(len(content)) for _ in range(cuts - 2))}
                damaged = {f"cut at byte {at}": content[:at] for at in sorted(places)}
                for _ in range(flips):
                    at, bit = random.randrange(len(content)), random.randrange(8)
                    damaged[f"bit {bit} of byte {at}"] = (
                        content[:at] + bytes((content[at] ^ (1 << bit),)) + content[at + 1 :]
                    )
                for what, new in damaged.items():
                    (folder / name).write_bytes(new)
                    try:
                        parser.read(folder)
                        missed.append(what)
                    except EffigyError:
                        continue
                (folder / name).write_bytes(content)
                found.append(Sweep(parser.name, name, len(places), len(damaged) - len(places), tuple(missed)))
    return tuple(found)
