"""Ten wrong keys a minute from one address, then it has to wait: guessing keys is slow, and cheap to refuse."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable

MAX_FAILURES, WINDOW_S = 10, 60.0
MAX_ADDRESSES = 1024
"""Addresses remembered; the one that failed longest ago is forgotten."""
THIS_MACHINE = "this machine"


class Lockout:
    """Counts failures by address. clock: seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def failed(self, address: str) -> None:
        """Note one failure."""
        times = self._failures.setdefault(address, deque(maxlen=MAX_FAILURES))
        times.append(self._clock())
        self._failures.move_to_end(address)
        while len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)

    def left_s(self, address: str) -> float:
        """How long the address has to wait; 0 where it may try."""
        times = self._failures.get(address)
        if times is None or len(times) < MAX_FAILURES:
            return 0.0
        return max(0.0, times[0] + WINDOW_S - self._clock())


def address_of(peer: str) -> str:
    """A peer's address as failures are counted by it: all of this machine's are one. peer: as ZeroMQ tells it."""
    host = peer.strip("[]").removeprefix("::ffff:")
    if not host or host.startswith(("127.", "localhost")) or host == "::1":
        return THIS_MACHINE
    return host
