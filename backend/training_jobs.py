"""Trainings and edits on the server's side: one at a time, in a process of its own, brought back after a crash.

The journal is the truth about states; what moves quickly (step, losses, ETA, preview) is kept in memory only and comes
back from the worker. Every job has the folder jobs/ID, where the worker keeps checkpoints, report and log; what an edit
was asked for is kept there, too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from backend.edit_requests import put_request, read_request
from backend.job_table import STALLED_GRACE_S, JobTable
from backend.jobs import ENDED, QUEUED_KINDS, JobRecord, Journal, new_job_id, now_text
from backend.workers import Worker
from shared.edit_messages import StartEdit
from shared.errors import BadMessage, EffigyError, nearest
from shared.messages import ChangeJob, Failure, JobInfo, JobPreview, StartTraining

RESTART_AFTER_S = (1.0, 2.0, 4.0)
ACTIONS = ("pause", "resume", "cancel", "up", "down")
CANCEL_GRACE_S = 10.0
"""A worker that does not stop by itself within this time is ended by force; its last checkpoint stays."""
CATCH_UP_EVERY_S = 1.0
FINAL_STATES = ("done", "paused", "cancelled")

log = logging.getLogger("effigy.training")


class TrainingJobs(JobTable):
    """The queue. start: makes the worker of a job. send: (worker, message) to it. publish: tells clients of a job."""

    def __init__(
        self,
        journal: Journal,
        start: Callable[[JobRecord], Worker],
        send: Callable[[Worker, Any], None],
        publish: Callable[[JobInfo], None],
    ) -> None:
        super().__init__(journal, send, publish)
        self._start = start
        self._wanted = ""
        self._wanted_at_s = 0.0
        self._restart_at_s = self._catch_up_at_s = 0.0

    # --- what clients ask -------------------------------------------------------------------------------------------
    def info(self, job_id: str) -> JobInfo:
        """One job with its newest numbers. Raises NotFound."""
        record = self._record(job_id)
        live = self._live.get(job_id)
        place = self._waiting().index(job_id) + 1 if _waits(record) else 0
        if live is None:
            return replace(record.info(), place=place)
        told = record.info()
        kept = {name: getattr(told, name) for name in ("state", "created", "capture", "preset")}
        info = replace(live, **kept, message=live.message or record.message, place=place)
        return self._watched(info)

    def start(self, asked: StartTraining | StartEdit) -> JobInfo:
        """Queue a job; the same key again is the same job. Raises EnvironmentFailed."""
        known = self.journal.by_key(asked.key)
        if known is not None:
            if known.state not in ("running", "done") and asked.gpus != known.gpus:
                self._put(replace(known, gpus=asked.gpus))
            return self.info(known.job_id)
        record = JobRecord(
            new_job_id(),
            asked.key,
            asked.name,
            asked.capture,
            asked.editor if isinstance(asked, StartEdit) else asked.preset,
            dict(asked.overrides),
            created=now_text(),
            kind="edit" if isinstance(asked, StartEdit) else "train",
            gpus=asked.gpus,
            rank=1 + max((self.journal.records[job_id].rank for job_id in self._waiting()), default=0),
        )
        if isinstance(asked, StartEdit):
            put_request(self._folder(record.job_id), asked)
        self._put(record)
        return self.info(record.job_id)

    def change(self, asked: ChangeJob) -> JobInfo:
        """Pause, resume, cancel, or move it in the queue. Asking for what is already so is no error.

        Raises NotFound, BadMessage.
        """
        record = self._record(asked.job_id)
        if asked.action not in ACTIONS:
            raise BadMessage(f"There is no action {asked.action!r}{nearest(asked.action, ACTIONS)}")
        if asked.action in ("up", "down"):
            self._move(record, -1 if asked.action == "up" else 1)
        elif asked.action == "resume":
            if record.state in ("paused", "failed", "cancelled"):
                self._live.pop(record.job_id, None)
                self._put(replace(record, state="queued", crashes=0, message=""))
            elif record.state == "running" and self._wanted:
                self._want("")
        elif record.state == "running":
            self._want(asked.action)
        elif asked.action == "cancel" and record.state not in ENDED:
            self._put(replace(record, state="cancelled", message="Cancelled"))
        elif asked.action == "pause" and record.state == "queued":
            self._put(replace(record, state="paused", message="Paused before it began"))
        return self.info(record.job_id)

    # --- what the worker says ----------------------------------------------------------------------------------------
    def greeted(self) -> None:
        """The worker is connected: tell it what to do."""
        if self.worker is None:
            return
        record = self._record(self._running)
        try:
            self._send(self.worker, self._order(record))
        except EffigyError as error:
            self._told_end_at_s = time.monotonic()
            self.worker.process.kill()
            self._put(replace(record, state="failed", message=str(error)))
            return
        if self._wanted:
            self._want(self._wanted)

    def _order(self, record: JobRecord) -> StartTraining | StartEdit:
        if record.kind == "edit":
            return replace(read_request(self._folder(record.job_id), record.job_id), gpus=record.gpus)
        overrides = dict(record.overrides)
        return StartTraining(record.job_id, record.name, record.capture, record.preset, overrides, record.gpus)

    def _folder(self, job_id: str) -> Path:
        return self.journal.path.parent / job_id

    def received(self, message: Any) -> None:
        """Progress, a preview, an end, or a failure the user can mend."""
        record = self._record(self._running)
        if isinstance(message, JobPreview):
            self._previews = {record.job_id: message}  # one job trains; older pictures are in their report folders
        elif isinstance(message, Failure):
            self._told_end_at_s = time.monotonic()
            self._live.pop(record.job_id, None)  # its last progress would hide the reason
            self._happened(replace(record, state="failed", message=str(message.error())))
        elif isinstance(message, JobInfo) and message.state in FINAL_STATES:
            self._told_end_at_s = time.monotonic()
            self._told(replace(message, job_id=record.job_id))
            self._happened(record.ended(message))
        elif isinstance(message, JobInfo):
            self.watchdog.heard(message.step, message.message)
            if record.step != message.step:  # not worth a line of the journal; kept for the next one
                self.journal.records[record.job_id] = replace(record, step=message.step, steps=message.steps)
            self._told(replace(message, job_id=record.job_id))
            self._publish(self.info(record.job_id))

    # --- time passes -------------------------------------------------------------------------------------------------
    def tick(self) -> None:
        """Notice the worker's end, restart after a crash, begin the next job."""
        now = time.monotonic()
        if now >= self._catch_up_at_s:
            self._catch_up_at_s = now + CATCH_UP_EVERY_S
            self.journal.catch_up()
        if self.worker is not None:
            if self.worker.ended() is not None:
                self._ended(now)
            elif self._overdue(now):
                self.worker.process.kill()
            else:
                self._watch()
        if self.worker is None and now >= self._restart_at_s:
            job_id = self._running or next(iter(self._waiting()), "")
            if job_id:
                self._begin(job_id)

    def _waiting(self) -> list[str]:
        """Ids of the jobs that wait, in the order they will begin in."""
        waiting = [record for record in self.journal.records.values() if _waits(record)]
        return [record.job_id for record in sorted(waiting, key=lambda record: record.rank)]

    def _move(self, record: JobRecord, by: int) -> None:
        waiting = self._waiting()
        if record.job_id not in waiting:
            return
        place = waiting.index(record.job_id)
        waiting.insert(max(0, place + by), waiting.pop(place))
        for rank, job_id in enumerate(waiting, start=1):
            moved = self._record(job_id)
            if moved.rank != rank:
                self.journal.put(replace(moved, rank=rank))
        for job_id in waiting:
            self._publish(self.info(job_id))

    def active(self) -> bool:
        """Whether a job runs or waits."""
        jobs = self.journal.records.values()
        return any(record.state in ("queued", "running") for record in jobs if record.kind in (*QUEUED_KINDS, "online"))

    def stop(self, grace_s: float) -> None:
        """End the worker for the server's end, with up to grace_s for a last checkpoint. The job stays 'running' in
        the journal, so the next server takes it up again."""
        self._leave("pause", grace_s)

    def _begin(self, job_id: str) -> None:
        record = self._record(job_id)
        self._running, self._told_end_at_s = job_id, None
        if record.state != "running":
            self._wanted = ""
            record = self._happened(replace(record, state="running", message=""))
        self._watch_anew()
        self.worker = self._start(record)
        log.info("job %s (%s) begins in process %d", job_id, record.name, self.worker.process.pid)

    def _ended(self, now: float) -> None:
        worker, self.worker = self.worker, None
        assert worker is not None
        worker.stop()
        record = self._record(self._running)
        if self._told_end_at_s is not None:
            self._running = ""
            return
        failure = worker.failure("editing" if record.kind == "edit" else "training")
        log.error("job %s: %s", record.job_id, failure)
        self._live.pop(record.job_id, None)
        if self._wanted == "cancel":
            self._running = ""
            self._happened(replace(record, state="cancelled", message="Cancelled; its worker had to be ended by force"))
        elif record.crashes >= len(RESTART_AFTER_S):
            self._running = ""
            text = f"{failure.what} {record.crashes + 1} times ({failure.found}); {worker.last_words()}"
            self._happened(replace(record, state="failed", message=text))
        else:
            wait_s = RESTART_AFTER_S[record.crashes]
            self._restart_at_s = now + wait_s
            text = f"The worker stopped ({failure.found}); it goes on from its last checkpoint"
            self._happened(replace(record, crashes=record.crashes + 1, message=text))

    def _overdue(self, now: float) -> bool:
        """Whether the worker should be gone by now: it said its last, or was told to cancel, a good while ago."""
        if self._told_end_at_s is not None:
            return now - self._told_end_at_s > CANCEL_GRACE_S
        grace_s = STALLED_GRACE_S if self._stalled else CANCEL_GRACE_S
        return self._wanted == "cancel" and now - self._wanted_at_s > grace_s

    def _want(self, action: str) -> None:
        self._wanted, self._wanted_at_s = action, time.monotonic()
        if self.worker is not None:
            self._send(self.worker, ChangeJob(self._running, action or "resume"))


def _waits(record: JobRecord) -> bool:
    return record.kind in QUEUED_KINDS and record.state == "queued"
