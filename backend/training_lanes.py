"""Several trainings at once: lanes that take their jobs from one queue. One host has one lane, a cluster many."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from backend.jobs import JobRecord, Journal
from backend.training_jobs import TrainingJobs
from backend.workers import Worker
from shared.desk_messages import JobCurve
from shared.edit_messages import StartEdit
from shared.messages import ChangeJob, JobInfo, JobPreview, StartTraining


class TrainingLanes:
    """count: of lanes. start, send, publish: as in TrainingJobs. A job that begins in a lane stays there to its end."""

    def __init__(
        self,
        count: int,
        journal: Journal,
        start: Callable[[JobRecord], Worker],
        send: Callable[[Worker, Any], None],
        publish: Callable[[JobInfo], None],
    ) -> None:
        self.journal = journal
        self._lanes = [TrainingJobs(journal, start, send, publish) for _ in range(count)]

    def __iter__(self) -> Iterator[TrainingJobs]:
        return iter(self._lanes)

    def of(self, job_id: str) -> TrainingJobs:
        """The lane that a job runs in, or ran in last; any of them for one that none has seen."""
        running = (lane for lane in self._lanes if lane.holds(job_id))
        return next(running, None) or next((lane for lane in self._lanes if lane.knows(job_id)), self._lanes[0])

    def info(self, job_id: str) -> JobInfo:
        """One job with its newest numbers. Raises NotFound."""
        return self.of(job_id).info(job_id)

    def start(self, asked: StartTraining | StartEdit) -> JobInfo:
        """Queue a job; the same key again is the same job. Raises EnvironmentFailed."""
        known = self.journal.by_key(asked.key)
        return (self._lanes[0] if known is None else self.of(known.job_id)).start(asked)

    def change(self, asked: ChangeJob) -> JobInfo:
        """Pause, resume, cancel, or move it in the queue. Raises NotFound, BadMessage."""
        return self.of(asked.job_id).change(asked)

    def preview(self, job_id: str) -> JobPreview:
        """The newest preview picture. Raises NotFound."""
        return self.of(job_id).preview(job_id)

    def curve(self, job_id: str) -> JobCurve:
        """How its numbers went. Raises NotFound."""
        return self.of(job_id).curve(job_id)

    def remove(self, job_id: str) -> JobInfo:
        """Take a job that is over off the list. Raises NotFound, BadMessage."""
        return self.of(job_id).remove(job_id)

    def tick(self) -> None:
        """Let time pass in every lane; each that is free begins the next job of the queue."""
        for lane in self._lanes:
            lane.tick()

    def active(self) -> bool:
        """Whether a job runs or waits."""
        return self._lanes[0].active()

    def stop(self, grace_s: float) -> None:
        """End all workers for the server's end, with up to grace_s for their last checkpoints, all at the same time."""
        for lane in self._lanes:
            lane.ask_to_leave("pause")
        deadline = time.monotonic() + grace_s
        for lane in self._lanes:
            lane.stop(max(0.0, deadline - time.monotonic()))
