"""Notices when what is not yet a message fills the memory.

libzmq bounds each part and each queue of whole messages, but not how many parts an unfinished message has, and a
program sees a message only when it is whole (measured: 600 parts of 0.9 MB without a last one are 516 MiB in the
receiver). Nothing in its interface drops one peer. So the server looks at its own size, and where that grows
beyond all need it closes the sockets of its clients, which frees what they hold, and opens them again; clients connect
anew by themselves.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable

import psutil

LIMIT_BYTES = 2 * 1024**3
"""Above the size at the start. Whole messages stay far below it: they are taken as soon as they are there."""
LOOK_EVERY_S = 0.2


def resident_bytes() -> int:
    """Memory this process takes."""
    return int(psutil.Process().memory_info().rss)


class FloodGuard:
    """size: bytes this process takes."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES, size: Callable[[], int] = resident_bytes) -> None:
        self._size, self._limit = size, size() + limit_bytes
        self._look_at_s = 0.0

    def flooded(self) -> bool:
        """Whether it is time to let go of everything; looks LOOK_EVERY_S at most."""
        now = time.monotonic()
        if now < self._look_at_s:
            return False
        self._look_at_s = now + LOOK_EVERY_S
        return self._size() > self._limit


def give_memory_back() -> None:
    """Hand freed memory back to the system (glibc keeps that of small parts otherwise)."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
