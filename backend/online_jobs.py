"""Live trainings on the server's side: one at a time, each in a process of its own that also renders what it learns.

Its journal records are of kind 'online'. They never queue and never restart: a stream does not wait. What a worker had
learned when it died is kept, since it stores itself every minute.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from backend.job_table import STALLED_GRACE_S, JobTable
from backend.jobs import ENDED, JobRecord, Journal, new_job_id, now_text
from backend.library import Library
from backend.online_run import LEARNING, LIVE, live_id
from backend.render_desk import RenderDesk
from backend.workers import Worker
from shared.errors import BadMessage, EffigyError, NotFound, nearest
from shared.messages import AvatarList, AvatarSummary, ChangeJob, Failure, JobInfo, JobPreview, StartOnline

ACTIONS = ("pause", "resume", "stop", "save", "cancel")
END_GRACE_S = 30.0
"""A worker that was told to end and does not within this time is ended by force."""
RESULT, AUTOSAVE = "result.json", "autosave.avatar"

log = logging.getLogger("effigy.online")


class LiveDesk(RenderDesk):
    """The render desk of whatever live training runs. Its worker is started and watched by `OnlineJobs`."""

    def begin(self, worker: Worker) -> None:
        """Requests go to this worker once it says Welcome."""
        self.worker = worker

    def end(self, failure: Failure) -> None:
        """The worker is over; whoever still waits is told."""
        self._let_go(failure, everyone=True)

    def tick(self) -> None:
        """Nothing: see `begin` and `end`."""


class OnlineJobs(JobTable):
    """start: makes the worker of a job. send: (worker, message). publish: tells clients. folders: one for each job."""

    kind, noun = "online", "live training"

    def __init__(
        self,
        journal: Journal,
        library: Library,
        folders: Path,
        desk: LiveDesk,
        start: Callable[[JobRecord], Worker],
        send: Callable[[Worker, Any], None],
        publish: Callable[[JobInfo], None],
    ) -> None:
        super().__init__(journal, send, publish)
        self.library, self.folders, self.desk, self._start = library, folders, desk, start
        self._asked: StartOnline | None = None
        self._summary: AvatarSummary | None = None
        self._wanted: list[str] = []
        self._ending_since_s: float | None = None
        self._words, self._cancelled = 0, False
        for record in list(journal.records.values()):
            if record.kind == "online" and record.state not in ENDED:
                self._put(self._after_crash(record, "The backend ended while it learned"))

    # --- what clients ask -------------------------------------------------------------------------------------------
    def summaries(self) -> tuple[AvatarSummary, ...]:
        """The avatar that learns now, if there is one to show."""
        return () if self._summary is None else (self._summary,)

    def summary(self, avatar_id: str) -> AvatarSummary:
        """The avatar of that live id. Raises NotFound, which says what became of it."""
        if self._summary is not None and self._summary.avatar_id == avatar_id:
            return self._summary
        record = self.journal.records.get(avatar_id.removeprefix(LIVE))
        if record is None or record.kind != "online":
            raise NotFound(f"There is no avatar {avatar_id[:80]!r}", do="List the library")
        if record.avatar_id:
            raise NotFound(
                f"{record.name} has finished learning and is the avatar {record.avatar_id!r} of the library now",
                do="Add that one, or link to it",
            )
        if record.state in ENDED:
            raise NotFound(f"{record.name} learns no more and was not kept", found=record.message or record.state)
        raise NotFound(f"{record.name} has learned nothing yet", do="Wait for its first frames")

    def info(self, job_id: str) -> JobInfo:
        """One job with its newest numbers. Raises NotFound."""
        record = self._record(job_id)
        live = self._live.get(job_id)
        if live is None:
            return record.info()
        avatar_id = record.avatar_id or (live_id(job_id) if self._summary is not None else "")
        return self._watched(replace(live, state=record.state, created=record.created, avatar_id=avatar_id))

    def start(self, asked: StartOnline) -> JobInfo:
        """Begin; the same key again is the same job. Raises EffigyError while another one runs."""
        known = self.journal.by_key(asked.key)
        if known is not None:
            return self.info(known.job_id)
        if self.worker is not None and self._told_end_at_s is not None:
            self.worker.stop()  # all it had to do is done, it only has not gone yet
            self.tick()
        if self._running:
            name = self._record(self._running).name
            raise EffigyError("Another live training runs", found=name, do="Stop it first")
        record = JobRecord(
            new_job_id(),
            asked.key,
            asked.name,
            asked.location,
            asked.preset,
            dict(asked.overrides),
            state="running",
            created=now_text(),
            kind="online",
        )
        self._put(record)
        self._asked, self._running, self._told_end_at_s, self._wanted = asked, record.job_id, None, []
        self._ending_since_s, self._cancelled = None, False
        self._watch_anew()
        self.worker = self._start(record)
        self.desk.begin(self.worker)
        log.info("live training %s (%s) begins in process %d", record.job_id, record.name, self.worker.process.pid)
        return self.info(record.job_id)

    def change(self, asked: ChangeJob) -> JobInfo:
        """Pause, resume, stop, save or cancel. Raises NotFound, BadMessage, EffigyError for one that is over."""
        record = self._record(asked.job_id)
        if asked.action not in ACTIONS:
            raise BadMessage(f"There is no action {asked.action!r}{nearest(asked.action, ACTIONS)}")
        if record.state in ENDED:
            if asked.action in ("stop", "cancel", "pause"):
                return self.info(record.job_id)
            raise EffigyError(f"{record.name} is over", found=record.state, do="Start another live training")
        self._tell(asked.action)
        if asked.action in ("pause", "resume"):
            self._put(replace(record, state={"pause": "paused", "resume": "running"}[asked.action]))
        elif asked.action in ("stop", "cancel"):
            self._ending_since_s, self._cancelled = time.monotonic(), asked.action == "cancel"
        return self.info(record.job_id)

    # --- what the worker says ----------------------------------------------------------------------------------------
    def greeted(self) -> None:
        """The worker is connected: tell it what to do."""
        if self.worker is None or self._asked is None:
            return
        self._send(self.worker, replace(self._asked, key=self._running))
        for action in self._wanted:
            self._send(self.worker, ChangeJob(self._running, action))

    def received(self, message: Any) -> None:
        """Progress, a preview, the avatar that can be rendered, an end, or a failure the user can mend."""
        record = self._record(self._running)
        if isinstance(message, JobPreview):
            self._previews = {record.job_id: message}
        elif isinstance(message, AvatarList):
            self._summary = message.avatars[0]
            self._publish(self.info(record.job_id))
        elif isinstance(message, Failure):
            self._told_end_at_s = time.monotonic()
            self._live.pop(record.job_id, None)
            self._happened(replace(record, state="failed", message=str(message.error()), avatar_id=self._kept(record)))
        elif isinstance(message, JobInfo) and message.state in ENDED:
            self._told_end_at_s = time.monotonic()
            self._told(replace(message, job_id=record.job_id))
            self._summary = None
            self._happened(record.ended(message))
        elif isinstance(message, JobInfo):
            learns = message.message.startswith(
                LEARNING
            )  # else it waits for frames or stands still: saying so is enough
            self._words += not learns
            self.watchdog.heard(message.step, "" if learns else str(self._words))
            self._told(replace(message, job_id=record.job_id))
            self._publish(self.info(record.job_id))

    # --- time passes -------------------------------------------------------------------------------------------------
    def tick(self) -> None:
        """Notice the worker's end."""
        if self.worker is None:
            return
        if self.worker.ended() is None:
            now = time.monotonic()
            since = [at for at in (self._told_end_at_s, self._ending_since_s) if at is not None]
            if since and now - max(since) > (STALLED_GRACE_S if self._stalled else END_GRACE_S):
                self.worker.process.kill()
            elif not since:
                self._watch()
            return
        record = self._record(self._running)
        failure = self.worker.failure("learning")
        if self._told_end_at_s is None:
            log.error("live training %s: %s", record.job_id, failure)
            if self._cancelled:
                record = replace(record, state="cancelled", message="Cancelled; its worker had to be ended by force")
            else:
                record = self._after_crash(record, f"{failure.what} ({failure.found}); {self.worker.last_words()}")
            self._live.pop(record.job_id, None)
        self._summary = None
        try:
            self.summary(live_id(record.job_id))
        except NotFound as fate:
            self.desk.end(Failure.of(fate))
        self.worker, self._running, self._asked = None, "", None
        if self._told_end_at_s is None:
            self._put(record)

    def stop(self, grace_s: float) -> None:
        """End the worker for the server's end, with up to grace_s to store what it has learned."""
        self._leave("stop", grace_s)

    def _tell(self, action: str) -> None:
        if self.worker is None:
            return
        if self.worker.identity:
            self._send(self.worker, ChangeJob(self._running, action))
        else:
            self._wanted.append(action)

    def _after_crash(self, record: JobRecord, reason: str) -> JobRecord:
        """What is left of a job whose worker is gone without a word."""
        avatar_id = self._kept(record)
        if avatar_id:
            reason += f"; what it had learned is the avatar {avatar_id!r}"
        return replace(record, state="failed", message=reason[:800], avatar_id=avatar_id)

    def _kept(self, record: JobRecord) -> str:
        """The id of what a worker stored before its end, taken into the library if it is not there; or nothing."""
        folder = self.folders / record.job_id
        try:
            avatar_id = str(json.loads((folder / RESULT).read_text(encoding="utf-8"))["avatar_id"])
            if avatar_id in self.library.ids():
                return avatar_id
        except (OSError, ValueError, KeyError, TypeError):
            pass  # it did not come to its end
        if not (folder / AUTOSAVE).is_dir():
            return ""
        try:
            return self.library.adopt(folder / AUTOSAVE, record.name)
        except EffigyError as error:
            log.error("%s", error)
            return ""
