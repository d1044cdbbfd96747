"""Ctrl-C in a command that has something to put in order first."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def first_interrupt(told: str) -> Iterator[threading.Event]:
    """The first Ctrl-C says `told` and sets the event, the second ends the process as usual."""
    asked = threading.Event()

    def note(*_: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stderr.write(f"\n{told}\n")

    before = signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
