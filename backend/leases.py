"""Who may change a job: the process that started it, as long as it is there. Others look on, and are told who it is.

A lease lasts LEASE_S after its holder's last message, whichever. A job whose holder is gone is anyone's; the next that
changes it holds it. Leases are kept in memory: after the server's restart each job is anyone's until its first change.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from backend.jobs import ENDED, REMOVED
from shared.errors import Held
from shared.messages import JobInfo

LEASE_S = 15.0
MAX_HOLDERS = 1024


@dataclass(frozen=True)
class Holder:
    """token: what its connections have in common; name: how it is shown."""

    token: str
    name: str


NOBODY = Holder("", "")


class Leases:
    """clock: seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._jobs: dict[str, Holder] = {}

    def seen(self, holder: Holder) -> None:
        """It sent something."""
        self._seen[holder.token] = self._clock()
        self._seen.move_to_end(holder.token)
        while len(self._seen) > MAX_HOLDERS:
            self._seen.popitem(last=False)

    def give(self, job_id: str, holder: Holder) -> None:
        """The job is its own from now on. One without a token holds nothing."""
        if holder.token:
            self._jobs[job_id] = holder

    def require(self, job_id: str, holder: Holder) -> None:
        """It wants to change the job, and holds it afterwards. Raises Held."""
        now = self._holder(job_id)
        if now is not None and now.token != holder.token:
            raise Held(
                "Another client holds this job",
                found=now.name,
                do=f"Ask there, wait until {LEASE_S:.0f} s after it has gone, or: effigy jobs take {job_id}",
            )
        self.give(job_id, holder)

    def owner(self, job_id: str) -> str:
        """The name of who holds it, empty where nobody does."""
        holder = self._holder(job_id)
        return "" if holder is None else holder.name

    def owned(self, info: JobInfo) -> JobInfo:
        """With the name of who holds it; a job that is over is nobody's."""
        if info.state in (*ENDED, REMOVED):
            self._jobs.pop(info.job_id, None)
        return replace(info, owner=self.owner(info.job_id))

    def release(self, token: str) -> list[str]:
        """It has gone; the jobs that are anyone's now."""
        self._seen.pop(token, None)
        freed = [job_id for job_id, holder in self._jobs.items() if holder.token == token]
        for job_id in freed:
            del self._jobs[job_id]
        return freed

    def _holder(self, job_id: str) -> Holder | None:
        holder = self._jobs.get(job_id)
        if holder is not None and self._clock() - self._seen.get(holder.token, float("-inf")) > LEASE_S:
            del self._jobs[job_id]
            return None
        return holder
