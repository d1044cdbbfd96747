"""What the tables of training and of live jobs share: records, newest numbers, previews, and the worker's leaving."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from backend.job_curve import Curves
from backend.jobs import ENDED, JobRecord, Journal
from backend.watchdog import Watchdog
from backend.workers import Worker
from shared.desk_messages import JobCurve
from shared.errors import BadMessage, NotFound, nearest
from shared.messages import ChangeJob, JobInfo, JobPreview

STALLED_GRACE_S = 1.0
"""So long has a worker that stalls to go when it is told to: it is not expected to hear anything."""

log = logging.getLogger("effigy.jobs")


class JobTable(ABC):
    """One kind of jobs and the worker of the one that runs. send: (worker, message). publish: tells clients."""

    kind = ""
    """Of the records it answers for; empty: all."""
    noun = "job"

    def __init__(
        self, journal: Journal, send: Callable[[Worker, Any], None], publish: Callable[[JobInfo], None]
    ) -> None:
        self.journal, self._send, self._publish = journal, send, publish
        self.worker: Worker | None = None
        self._running = ""
        self._told_end_at_s: float | None = None
        self._live: dict[str, JobInfo] = {}
        self._previews: dict[str, JobPreview] = {}
        self._curves = Curves()
        self.watchdog = Watchdog()
        self._stalled = False

    @abstractmethod
    def info(self, job_id: str) -> JobInfo:
        """One job with its newest numbers. Raises NotFound."""

    @abstractmethod
    def greeted(self) -> None:
        """The worker is connected: tell it what to do."""

    @abstractmethod
    def received(self, message: Any) -> None:
        """What the worker says."""

    def preview(self, job_id: str) -> JobPreview:
        """The newest preview picture. Raises NotFound."""
        self._record(job_id)
        return self._previews.get(job_id) or JobPreview(job_id, 0, np.zeros((0, 0, 3), np.uint8))

    def curve(self, job_id: str) -> JobCurve:
        """How its numbers went. Raises NotFound."""
        self._record(job_id)
        return self._curves.curve(job_id)

    def remove(self, job_id: str) -> JobInfo:
        """Take a job that is over off the list; its state is 'removed' then. Raises NotFound, BadMessage."""
        record = self._record(job_id)
        if record.state not in ENDED or job_id == self._running:
            do = "Cancel it first" if record.state not in ENDED else "Try again in a moment"
            raise BadMessage(f"{record.name} is not over", found=record.state, do=do)
        removed = replace(self.info(job_id), state=self.journal.remove(job_id).state)
        for known in (self._live, self._previews):
            known.pop(job_id, None)
        self._curves.forget(job_id)
        self._publish(removed)
        return removed

    def holds(self, job_id: str) -> bool:
        """Whether it is at this job now."""
        return job_id == self._running

    def knows(self, job_id: str) -> bool:
        """Whether it has this job's newest numbers."""
        return job_id in self._live

    def ask_to_leave(self, action: str) -> None:
        """Ask the worker for `action`, after which it ends by itself."""
        if self.worker is not None:
            self._send(self.worker, ChangeJob(self._running, action))

    def _told(self, info: JobInfo) -> None:
        """Keep a job's newest numbers, and the curve they make."""
        self._live[info.job_id] = info
        self._curves.note(info.job_id, info.step, info.losses)

    def _watch_anew(self) -> None:
        """Another worker, or another job of the same one, begins."""
        self.watchdog.begin()
        self._stalled = False

    def _watched(self, info: JobInfo) -> JobInfo:
        """What is told of a job, which says so where its worker makes no step any more."""
        stalled_s = self.watchdog.stalled_s() if info.job_id == self._running and info.state == "running" else 0.0
        if not stalled_s:
            return info
        usual_s = self.watchdog.median_step_s()
        usually = f", where one takes {usual_s:.2g} s" if usual_s else ""
        text = f"No step for {stalled_s:.0f} s{usually}: it may hang. Cancel it, or wait"
        return replace(info, stalled_s=stalled_s, message=text)

    def _watch(self) -> None:
        """Tell when the worker stalls, and when it gets on again."""
        stalled = self.watchdog.stalled_s() > 0
        if stalled != self._stalled:
            self._stalled = stalled
            log.warning("job %s %s", self._running, "makes no step any more" if stalled else "gets on again")
            self._publish(self.info(self._running))

    def _leave(self, action: str, grace_s: float) -> None:
        """Ask the worker for `action`, give it grace_s to end by itself, and end it."""
        if self.worker is None:
            return
        self.ask_to_leave(action)
        deadline = time.monotonic() + grace_s
        while self.worker.ended() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        self.worker.stop()

    def _put(self, record: JobRecord) -> JobRecord:
        """What is asked for. Raises EnvironmentFailed, and nothing has changed, where it cannot be written."""
        self.journal.put(record)
        self._publish(self.info(record.job_id))
        return record

    def _happened(self, record: JobRecord) -> JobRecord:
        """What a worker did or said last: true whether or not it can be written now."""
        self.journal.happened(record)
        self._publish(self.info(record.job_id))
        return record

    def _record(self, job_id: str) -> JobRecord:
        record = self.journal.records.get(job_id)
        if record is None or self.kind not in ("", record.kind):
            raise NotFound(f"There is no {self.noun} {job_id[:80]!r}{nearest(job_id, self.journal.records)}")
        return record
