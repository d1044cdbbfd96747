"""Fuzzing in processes of their own: one reads one parser after the other, and another takes over where it dies."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Timer
from typing import IO, Any

from backend.fuzzing.runner import CURRENT

SILENCE_S, LAST_CASE_S = 120.0, 20.0
"""A process that says nothing for so long hangs; for so long it may go on with its case when it is told to end."""
LOG = "log.txt"


def rows_of(
    names: Sequence[str], seconds: float, seed: int, output: Path, table: str, least: int = 0
) -> Iterator[tuple[dict[str, Any], bool]]:
    """Each parser's row in turn, and whether it had its whole time, or `least` cases where they take longer.

    A process that dies or is silent for long leaves its last case behind. Interrupted (KeyboardInterrupt, from this
    thread), the row until then comes last.
    """
    output.mkdir(parents=True, exist_ok=True)
    left = list(names)
    while left:
        words = str(seconds), str(least), str(seed), str(output), table, *left
        command = [sys.executable, "-m", "backend.fuzzing.child", *words]
        with (
            (output / LOG).open("ab") as log,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as child,
        ):
            assert child.stdout is not None
            try:
                while left and (line := _line(child, child.stdout, SILENCE_S)):
                    left.pop(0)
                    yield json.loads(line), True
            except KeyboardInterrupt:
                child.terminate()
                line = b""
                with contextlib.suppress(KeyboardInterrupt):
                    line = _line(child, child.stdout, LAST_CASE_S)
                child.kill()
                yield json.loads(line) if line else empty_row(left[0]), False
                return
        if left:  # it died of one
            name = left.pop(0)
            what = f"the process ended with status {child.returncode}; its last case is in {output / name / CURRENT}"
            yield empty_row(name) | {"crashes": [f"{what}, its words in {output / LOG}"]}, True


def empty_row(name: str) -> dict[str, Any]:
    """Of a parser that no case was read of."""
    numbers = ("cases", "accepted", "refused", "worst_ms", "worst_refusal_ms", "growth_bytes")
    return {"name": name, "crashes": []} | dict.fromkeys(numbers, 0)


def _line(child: subprocess.Popen[bytes], stream: IO[bytes], patience_s: float) -> bytes:
    """The next row; nothing where the process ends, or is ended for saying nothing."""
    while True:
        silent = Timer(patience_s, child.kill)
        silent.start()
        try:
            line = stream.readline()
        finally:
            silent.cancel()
        if line != b"\n":
            return line
