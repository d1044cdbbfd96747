"""How long each stage of a run took, by listening to its progress."""

from __future__ import annotations

import time


class StageTimes:
    """A `tell` of tracking runs: what passes between two calls belongs to the stage of the later one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._before_s = time.perf_counter()

    def __call__(self, stage: str, done: int, of: int) -> None:
        """Note that the stage got on."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._before_s
        self._before_s = now

    def a_picture(self, pictures: int) -> dict[str, float]:
        """Seconds a picture of each stage."""
        return {stage: round(value / pictures, 4) for stage, value in self.seconds.items()}
