"""Errands on the server's side: checks, imports and exports, tracking of videos, and following a face live.

One of a group at a time, in a process beside the others.

The process starts with the first errand and goes some time after the last, since loading torch takes seconds. They
are jobs of the journal like trainings, but short, so what was asked is kept in memory: one that the server's end cut
off is told as failed, and nothing of it is left half done. They run beside a training, not after it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from backend.job_table import STALLED_GRACE_S, JobTable
from backend.jobs import ENDED, JobRecord, Journal, new_job_id, now_text
from backend.workers import Worker
from shared.desk_messages import StartCheck, StartExport, StartImport
from shared.errors import BadMessage, nearest
from shared.messages import ChangeJob, Failure, JobInfo, JobPreview
from shared.track_messages import StartDrive, StartTrack

KINDS: dict[type[Any], str] = {
    StartCheck: "check",
    StartImport: "import",
    StartExport: "export",
    StartTrack: "track",
    StartDrive: "drive",
}
BESIDE = (("check", "import", "export"), ("track",), ("drive",))
"""Kinds that take turns; each group has a process of its own, since tracking a film takes minutes."""
ACTIONS = ("cancel",)
RESUMED = "track"
"""The kind that goes on where it stopped when asked to resume: what it was asked is in its record."""
GONE_GRACE_S = 2.0
"""A worker that was told to cancel and goes on after this time is ended by force."""
MAX_WAITING = 32
KEPT_PREVIEWS = 4

log = logging.getLogger("effigy.errands")


def errand_name(asked: Any) -> str:
    """What the job is called in lists."""
    match asked:
        case StartCheck():
            return f"Check {Path(asked.capture).name or asked.capture}"[:80]
        case StartImport():
            return f"Import {asked.name or Path(asked.source).name}"[:80]
        case StartTrack():
            return f"Track {Path(asked.source).name}"[:80] if asked.source else "Install the face tracker"
        case StartDrive():
            return f"Follow {'camera ' + asked.source if asked.source.isdecimal() else Path(asked.source).name}"[:80]
    return f"Export {asked.avatar_id} as {asked.format}"[:80]


def _told_again(asked: StartTrack) -> dict[str, str]:
    """What a record must hold for a tracking to go on after the server's end."""
    names = ("output", "focal_mm", "step", "size_px", "subject", "licence", "height_m")
    return {name: str(getattr(asked, name)) for name in names} | {"body": "yes" if asked.body else ""}


class Errands(JobTable):
    """start: makes the worker. send: (worker, message). publish: tells clients. kinds: a group of `BESIDE`."""

    noun = "errand"

    def __init__(
        self,
        journal: Journal,
        start: Callable[[], Worker],
        send: Callable[[Worker, Any], None],
        publish: Callable[[JobInfo], None],
        kinds: tuple[str, ...] = BESIDE[0],
    ) -> None:
        super().__init__(journal, send, publish)
        self._start, self.kinds = start, kinds
        self._asked: dict[str, Any] = {}
        self._idle = True  # whether the worker, if there is one, waits for work
        for record in list(journal.records.values()):
            if record.kind in kinds and record.state not in ENDED:
                text = "The backend ended before it was done; " + (
                    "resume it" if record.kind == RESUMED else "ask for it again"
                )
                self._put(replace(record, state="failed", message=text))

    # --- what clients ask -------------------------------------------------------------------------------------------
    def info(self, job_id: str) -> JobInfo:
        """One errand with its newest words. Raises NotFound."""
        record = self._record(job_id)
        live = self._live.get(job_id)
        info = record.info() if live is None else replace(live, name=record.name, created=record.created)
        return self._watched(replace(info, job_id=job_id, state=record.state, message=record.message or info.message))

    def start(self, asked: Any) -> JobInfo:
        """Queue an errand. Raises BadMessage where too many wait."""
        if len(self._asked) >= MAX_WAITING:
            raise BadMessage("Too many errands are waiting", found=str(len(self._asked)), do="Ask again later")
        what = {StartCheck: "capture", StartExport: "output"}.get(type(asked), "source")
        record = JobRecord(
            new_job_id(),
            asked.key,
            errand_name(asked),
            str(getattr(asked, what)),
            "",
            _told_again(asked) if KINDS[type(asked)] == RESUMED else {},
            created=now_text(),
            kind=KINDS[type(asked)],
        )
        self._asked[record.job_id] = asked
        self._put(record)
        self.tick()
        return self.info(record.job_id)

    def change(self, asked: ChangeJob) -> JobInfo:
        """Cancel one, or resume a tracking. Asking for what is already so is no error. Raises NotFound, BadMessage."""
        record = self._record(asked.job_id)
        if asked.action == "resume" and record.kind == RESUMED:
            return self._resume(record)
        if asked.action not in ACTIONS:
            raise BadMessage(f"There is no action {asked.action!r} for it{nearest(asked.action, ACTIONS)}")
        if record.state not in ENDED:
            self._asked.pop(record.job_id, None)
            self._put(replace(record, state="cancelled", message="Cancelled"))
            if record.job_id == self._running and self.worker is not None:
                self._told_end_at_s = time.monotonic()
                self._send(self.worker, ChangeJob(record.job_id, "cancel"))
        return self.info(record.job_id)

    def _resume(self, record: JobRecord) -> JobInfo:
        if record.state in ("failed", "cancelled") and record.job_id != self._running:
            told = record.overrides
            self._asked[record.job_id] = StartTrack(
                record.key,
                record.capture,
                told["output"],
                float(told["focal_mm"]),
                int(told["step"]),
                int(told["size_px"]),
                told["subject"],
                told["licence"],
                bool(told.get("body")),  # records of earlier versions know heads only
                float(told.get("height_m", 0)),
            )
            self._live.pop(record.job_id, None)
            self._put(replace(record, state="queued", message=""))
            self.tick()
        return self.info(record.job_id)

    # --- what the worker says ----------------------------------------------------------------------------------------
    def greeted(self) -> None:
        """The worker is connected: tell it what to do."""
        asked = self._asked.get(self._running)
        if self.worker is not None and asked is not None:
            self._send(self.worker, replace(asked, key=self._running))

    def received(self, message: Any) -> None:
        """Progress, the sheet of a check, an end, or a failure the user can mend."""
        record = self._record(self._running)
        if isinstance(message, Failure) or (isinstance(message, JobInfo) and message.state == "done"):
            self._idle = True
        if record.state != "running":
            return  # cancelled meanwhile
        if isinstance(message, JobPreview):
            self._previews[record.job_id] = message
            while len(self._previews) > KEPT_PREVIEWS:
                del self._previews[next(iter(self._previews))]
        elif isinstance(message, Failure):
            self._end(replace(record, state="failed", message=str(message.error())))
        elif isinstance(message, JobInfo) and message.state == "done":
            self._live[record.job_id] = message
            self._end(record.ended(message))
        elif isinstance(message, JobInfo):
            before = self._live.get(record.job_id)
            text = message.message or (before.message if before is not None else "")
            self.watchdog.heard(message.step, text)
            self._live[record.job_id] = replace(message, message=text)
            self._publish(self.info(record.job_id))

    def _end(self, record: JobRecord) -> None:
        self._told_end_at_s = time.monotonic()
        self._asked.pop(record.job_id, None)
        self._happened(record)

    # --- time passes -------------------------------------------------------------------------------------------------
    def tick(self) -> None:
        """Notice the worker's end, begin the next errand."""
        if self.worker is not None and self.worker.ended() is not None:
            worker, self.worker = self.worker, None
            worker.stop()
            record = self.journal.records.get(self._running)
            if record is not None and record.state == "running" and worker.ended() != 0:
                failure = worker.failure("at it")
                log.error("errand %s: %s", record.job_id, failure)
                text = f"{failure.what} ({failure.found}); {worker.last_words()}"[:800]
                self._end(replace(record, state="failed", message=text))
            self._running, self._idle = "", True  # one that went for lack of work just now left its errand untouched
        if self.worker is not None and not self._idle:
            grace_s = STALLED_GRACE_S if self._stalled else GONE_GRACE_S
            if self._told_end_at_s is None:
                self._watch()
            elif time.monotonic() - self._told_end_at_s > grace_s:
                self.worker.process.kill()
            return
        if self._asked:
            self._running, self._told_end_at_s, self._idle = next(iter(self._asked)), None, False
            self._watch_anew()
            self._happened(replace(self._record(self._running), state="running"))
            if self.worker is None:
                self.worker = self._start()
            else:
                self.greeted()

    def active(self) -> bool:
        """Whether one runs or waits."""
        return bool(self._asked)

    def stop(self) -> None:
        """End the worker for the server's end; the next server tells that it was cut off."""
        if self.worker is not None:
            self.worker.stop()
