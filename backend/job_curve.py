"""How the numbers of jobs went, kept in memory: enough points for a picture, however long a job runs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np

from shared.desk_messages import JobCurve

KEPT_JOBS = 8
MAX_POINTS = 512


class Curves:
    """Of the newest KEPT_JOBS jobs, at most MAX_POINTS each: where there are more, every second is dropped."""

    def __init__(self) -> None:
        self._points: OrderedDict[str, list[tuple[int, dict[str, float]]]] = OrderedDict()

    def note(self, job_id: str, step: int, values: Mapping[str, float]) -> None:
        """Add a point. A step before the last one (after a restart) replaces what came after it."""
        if not values:
            return
        points = self._points.setdefault(job_id, [])
        self._points.move_to_end(job_id)
        while points and points[-1][0] >= step:
            points.pop()
        points.append((step, dict(values)))
        if len(points) > MAX_POINTS:
            del points[1:-1:2]
        while len(self._points) > KEPT_JOBS:
            self._points.popitem(last=False)

    def curve(self, job_id: str) -> JobCurve:
        """All points of a job; none for an unknown one."""
        points = self._points.get(job_id, [])
        names = tuple(dict.fromkeys(name for _, values in points for name in values))
        table = [[values.get(name, np.nan) for name in names] for _, values in points]
        steps = np.array([step for step, _ in points], np.int64)
        return JobCurve(job_id, names, steps, np.array(table, np.float32).reshape(len(points), len(names)))

    def forget(self, job_id: str) -> None:
        """Drop a job's points."""
        self._points.pop(job_id, None)
