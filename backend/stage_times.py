"""How long each stage of a run took, by listening to its progress: by the clock, and in processor time."""

from __future__ import annotations

import time

import psutil


class StageTimes:
    """A `tell` of tracking runs: what passes between two calls belongs to the stage of the later one.

    Processor time is that of this process and of those it started (the detector); a busy machine does not change it.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.processor_s: dict[str, float] = {}
        self._own = psutil.Process()
        self._before_s, self._spent_s = time.perf_counter(), self._spent()

    def __call__(self, stage: str, done: int, of: int) -> None:
        """Note that the stage got on."""
        now, spent = time.perf_counter(), self._spent()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._before_s
        self.processor_s[stage] = self.processor_s.get(stage, 0.0) + spent - self._spent_s
        self._before_s, self._spent_s = now, spent

    def _spent(self) -> float:
        total = 0.0
        for process in (self._own, *self._own.children()):
            try:
                times = process.cpu_times()
            except psutil.Error:  # it has just ended
                continue
            total += times.user + times.system
        return total

    def a_picture(self, pictures: int) -> dict[str, float]:
        """Seconds a picture of each stage."""
        return {stage: round(value / pictures, 4) for stage, value in self.seconds.items()}

    def processor_a_picture(self, pictures: int) -> dict[str, float]:
        """Seconds of processor time a picture of each stage."""
        return {stage: round(value / pictures, 4) for stage, value in self.processor_s.items()}


def in_words(report: dict[str, dict[str, float]]) -> str:
    """Both of a benchmark's report as one line."""
    parts = []
    for name, title in (("processor_seconds_a_picture", "of processor time"), ("seconds_a_picture", "by the clock")):
        spent = report[name]
        each = ", ".join(f"{stage} {value:.3f}" for stage, value in spent.items())
        parts.append(f"{sum(spent.values()):.2f} {title} ({each})")
    return "Seconds a picture: " + "; ".join(parts)
