"""Waiting for a job of a running backend."""

from __future__ import annotations

import time
from collections.abc import Callable

from shared.client import BackendClient
from shared.messages import JobInfo, ListJobs

WITHIN_S = 180.0
"""Costs nothing where it comes sooner; three loaded processes on two cores take a minute to begin a training."""


def job_when(
    client: BackendClient, job_id: str, good: Callable[[JobInfo], bool], timeout_s: float = WITHIN_S
) -> JobInfo:
    """The job as soon as it is `good`. Raises AssertionError with what it is when the time is up."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        job = next(item for item in client.request(ListJobs()).jobs if item.job_id == job_id)
        if good(job):
            return job
        time.sleep(0.05)
    raise AssertionError(job)
