"""The journal of jobs: append-only JSON lines, synced at each change of state, replayed at start.

A line holds a job's whole record, so the last line of a job is its state and losing a line loses one change. A torn
last line (the machine died while writing) is cut off; a damaged line in between is skipped and counted.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import uuid
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from shared.errors import EnvironmentFailed
from shared.messages import JobInfo

log = logging.getLogger("effigy.jobs")

REMOVED = "removed"
STATES = ("queued", "running", "paused", "done", "failed", "cancelled", REMOVED)
ENDED = ("done", "failed", "cancelled")
QUEUED_KINDS = ("train", "edit")
"""Kinds that wait for their turn in one queue and go on from their checkpoints."""
COMPACT_ABOVE_LINES = 2_000


@dataclass(frozen=True)
class JobRecord:
    """A job as it is kept. kind: 'train', 'edit', 'online', 'check', 'import', 'export', 'track' or 'drive'.

    crashes: restarts of its worker since it was last started by hand. rank: smaller ones of the queue begin earlier.
    gpus: how many a training or an edit takes.
    """

    job_id: str
    key: str
    name: str
    capture: str
    preset: str
    overrides: dict[str, str] = field(default_factory=dict)
    state: str = "queued"
    created: str = ""
    step: int = 0
    steps: int = 0
    crashes: int = 0
    message: str = ""
    report_folder: str = ""
    avatar_id: str = ""
    kind: str = "train"
    rank: int = 0
    gpus: int = 1

    def info(self) -> JobInfo:
        """What clients are told."""
        trains = self.kind == "train"
        return JobInfo(
            job_id=self.job_id,
            kind=self.kind,
            name=self.name,
            state=self.state,
            step=self.step,
            steps=self.steps,
            message=self.message,
            created=self.created,
            report_folder=self.report_folder,
            avatar_id=self.avatar_id,
            capture=self.overrides.get("output", "") if self.kind == "track" else self.capture if trains else "",
            preset=self.preset if trains else "",
        )

    def ended(self, told: JobInfo) -> JobRecord:
        """The record after the worker's last word."""
        return replace(
            self,
            state=told.state,
            step=told.step,
            steps=told.steps,
            message=told.message,
            report_folder=told.report_folder,
            avatar_id=told.avatar_id,
        )


def new_job_id() -> str:
    """Sortable by time, unique, fit for a folder name: 20261121-101500-1a2b3c."""
    return f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"


def now_text() -> str:
    """The time in UTC, ISO 8601 to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class Journal:
    """The jobs by id, oldest first, and the file they are written to. Raises EnvironmentFailed where it cannot write.

    Jobs found running were cut off by the server's end: they are queued again and resume from their checkpoints. What
    became of live trainings is for `online_jobs` to say.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.damaged_lines = path, 0
        self._unwritten: set[str] = set()
        self.records: dict[str, JobRecord] = {}
        lines = self._replay()
        for record in list(self.records.values()):
            if record.state == "running" and record.kind in QUEUED_KINDS:
                self.records[record.job_id] = replace(record, state="queued", message="Resumes after a restart")
        if lines > COMPACT_ABOVE_LINES:
            self._compact()

    def put(self, record: JobRecord) -> JobRecord:
        """Write a record and sync it to disk; only then is it true."""
        assert record.state in STATES
        try:
            with self.path.open("ab", buffering=0) as file:
                whole = file.tell()
                line = _line(record)
                try:
                    written = file.write(line)
                    if written != len(line):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(whole)  # half a line would spoil the next one
                    raise
        except OSError as error:
            raise EnvironmentFailed(
                "The job journal cannot be written", found=f"{self.path}: {error.strerror}", do="Make room on the disk"
            ) from error
        self.records[record.job_id] = record
        return record

    def happened(self, record: JobRecord) -> JobRecord:
        """As `put`, of what cannot be refused any more, such as a job's end: where the disk does not take it, it is
        true nevertheless, and written with `catch_up`."""
        try:
            self._unwritten.discard(record.job_id)
            return self.put(record)
        except EnvironmentFailed as error:
            log.error("%s; it is written as soon as there is room", error)
            self._unwritten.add(record.job_id)
            self.records[record.job_id] = record
            return record

    def catch_up(self) -> None:
        """Write what the disk did not take, as far as it does now."""
        for job_id in [job_id for job_id in self._unwritten if job_id in self.records]:
            try:
                self.put(self.records[job_id])
            except EnvironmentFailed:
                return
            self._unwritten.discard(job_id)

    def remove(self, job_id: str) -> JobRecord:
        """Forget a job for good and return its last record."""
        removed = self.put(replace(self.records[job_id], state=REMOVED))
        del self.records[job_id]
        return removed

    def by_key(self, key: str) -> JobRecord | None:
        """The job started with this idempotency key; an empty key is nobody's."""
        return next((record for record in self.records.values() if key and record.key == key), None)

    def _replay(self) -> int:
        """Read the file, cut a torn end off, and return how many lines there were."""
        if not self.path.exists():
            return 0
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            self.damaged_lines += 1
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        lines = whole.splitlines()
        for line in lines:
            record = _record(line)
            if record is None:
                self.damaged_lines += 1
            elif record.state == REMOVED:
                self.records.pop(record.job_id, None)
            else:
                self.records[record.job_id] = record
        return len(lines)

    def _compact(self) -> None:
        """Keep one line per job: written beside, synced, renamed."""
        beside = self.path.with_suffix(".new")
        with beside.open("wb") as file:
            file.writelines(_line(record) for record in self.records.values())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path)


def _line(record: JobRecord) -> bytes:
    return json.dumps({"at": now_text(), **asdict(record)}, ensure_ascii=False).encode() + b"\n"


def _record(line: bytes) -> JobRecord | None:
    """A line's record, or None where it is damaged. Fields of a later version are left out."""
    try:
        data: Any = json.loads(line)
        known = {name.name: data[name.name] for name in fields(JobRecord) if name.name in data}
        record = JobRecord(**known)
    except (ValueError, TypeError, KeyError):
        return None
    kinds = {"str": str, "int": int, "dict[str, str]": dict}
    if not all(isinstance(getattr(record, item.name), kinds[str(item.type)]) for item in fields(JobRecord)):
        return None
    return record if record.state in STATES and record.job_id else None
