"""Whether a worker still gets on: its sockets answer from a thread of their own, also while the rest of it hangs.

A worker is stalled when nothing of it has moved for max(LEAST_S, TIMES_MEDIAN x its median step). What moves is its
step, or what it says it is doing: it evaluates, or writes a report, without steps. Before its first step it loads.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable

LEAST_S, TIMES_MEDIAN = 30.0, 20.0
LOADING_S = 600.0
KEPT_STEPS = 64


class Watchdog:
    """Of one worker at a time. clock: seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """Another worker starts."""
        self._moved_s = self._clock()
        self._step, self._doing, self._heard = -1, "", False
        self._step_s: deque[float] = deque(maxlen=KEPT_STEPS)

    def heard(self, step: int, doing: str = "") -> None:
        """What the worker tells of itself."""
        now = self._clock()
        if (step, doing) == (self._step, self._doing) and self._heard:
            return
        if step > self._step >= 0:
            self._step_s.append((now - self._moved_s) / (step - self._step))
        self._moved_s, self._step, self._doing, self._heard = now, step, doing, True

    def median_step_s(self) -> float:
        """The usual time of a step; 0 where it is not known."""
        return statistics.median(self._step_s) if self._step_s else 0.0

    def stalled_s(self) -> float:
        """For how long nothing has moved, where that is too long; else 0."""
        still_s = self._clock() - self._moved_s
        known = self._heard and self._step > 0
        limit_s = max(LEAST_S, TIMES_MEDIAN * self.median_step_s()) if known else LOADING_S
        return still_s if still_s > limit_s else 0.0
