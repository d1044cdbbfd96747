"""What clients ask of jobs, whichever table keeps them: list, change, remove, and whose they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from backend.errand_groups import ErrandGroups
from backend.errands import Errands
from backend.jobs import ENDED, QUEUED_KINDS
from backend.leases import Holder, Leases
from backend.online_jobs import OnlineJobs
from backend.training_lanes import TrainingLanes
from backend.trash import Trash
from shared.messages import ChangeJob, JobInfo, JobList


class JobDesk:
    """folders: where each job has one of its own. publish: tells all clients of a job."""

    def __init__(
        self,
        jobs: TrainingLanes,
        online: OnlineJobs,
        errands: ErrandGroups,
        leases: Leases,
        folders: Path,
        trash: Trash,
        publish: Callable[[JobInfo], None],
    ) -> None:
        self.jobs, self.online, self.errands = jobs, online, errands
        self.leases, self.folders, self.trash, self._publish = leases, folders, trash, publish

    def keeper(self, job_id: str) -> TrainingLanes | OnlineJobs | Errands:
        """Who looks after a job; of unknown ones the training jobs say so."""
        record = self.jobs.journal.records.get(job_id)
        if record is None or record.kind in QUEUED_KINDS:
            return self.jobs
        return self.online if record.kind == "online" else self.errands.of(record.kind)

    def info(self, job_id: str) -> JobInfo:
        """One job as it is now. Raises NotFound."""
        return self.keeper(job_id).info(job_id)

    def listed(self, count: int) -> JobList:
        """The newest jobs, newest first."""
        newest = list(self.jobs.journal.records)[: -count - 1 : -1]
        return JobList(tuple(self.leases.owned(self.info(job_id)) for job_id in newest))

    def change(self, asked: ChangeJob, holder: Holder) -> JobInfo:
        """Do what is asked, for whoever holds the job or takes it. Raises Held, NotFound, BadMessage."""
        before = self.info(asked.job_id)
        if asked.action == "take":
            self.leases.give(asked.job_id, holder)
            self._publish(before)
            return before
        if before.state not in ENDED or asked.action == "resume":
            self.leases.require(asked.job_id, holder)
        if asked.action != "remove":
            return self.keeper(asked.job_id).change(asked)
        removed = self.keeper(asked.job_id).remove(asked.job_id)
        folder = self.folders / asked.job_id
        if folder.is_dir():
            self.trash.throw(folder)
        return removed

    def begun(self, info: JobInfo, holder: Holder) -> JobInfo:
        """A job that was just made is its client's."""
        self.leases.give(info.job_id, holder)
        self._publish(info)
        return info
