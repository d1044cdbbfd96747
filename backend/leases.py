"""Who may change a job: the process that started it, as long as it is there. Others look on, and are told who it is.

A lease lasts LEASE_S after its holder's last message, whichever. A job whose holder is gone is anyone's; the next that
changes it holds it. Leases outlive the server: after its restart each holder has LEASE_S to come back.
"""

from __future__ import annotations

import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from avatars.files import write_atomically
from backend.jobs import ENDED, REMOVED
from shared.errors import EnvironmentFailed, Held
from shared.messages import JobInfo

LEASE_S = 15.0
MAX_HOLDERS, MAX_KEPT_BYTES = 1024, 1 << 20

log = logging.getLogger("effigy.server")


@dataclass(frozen=True)
class Holder:
    """token: what its connections have in common, as a digest; name: how it is shown."""

    token: str
    name: str


NOBODY = Holder("", "")


class Leases:
    """clock: seconds that never go back. path: where they are kept for the next server; None: nowhere."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, path: Path | None = None) -> None:
        self._clock, self._path = clock, path
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._jobs: dict[str, Holder] = {} if path is None else _kept(path)
        for holder in self._jobs.values():
            self.seen(holder)

    def seen(self, holder: Holder) -> None:
        """It sent something."""
        self._seen[holder.token] = self._clock()
        self._seen.move_to_end(holder.token)
        while len(self._seen) > MAX_HOLDERS:
            self._seen.popitem(last=False)

    def give(self, job_id: str, holder: Holder) -> None:
        """The job is its own from now on. One without a token holds nothing."""
        if holder.token and self._jobs.get(job_id) != holder:
            self._jobs[job_id] = holder
            self._keep()

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
        if info.state in (*ENDED, REMOVED) and self._jobs.pop(info.job_id, None) is not None:
            self._keep()
        return replace(info, owner=self.owner(info.job_id))

    def release(self, token: str) -> list[str]:
        """It has gone; the jobs that are anyone's now."""
        self._seen.pop(token, None)
        freed = [job_id for job_id, holder in self._jobs.items() if holder.token == token]
        for job_id in freed:
            del self._jobs[job_id]
        if freed:
            self._keep()
        return freed

    def _keep(self) -> None:
        """For the next server. A disk that refuses costs that one its leases, nothing else."""
        if self._path is None:
            return
        document = {job_id: [holder.token, holder.name] for job_id, holder in self._jobs.items()}
        try:
            write_atomically(self._path, json.dumps(document).encode())
        except EnvironmentFailed as error:
            log.warning("who holds which job could not be kept: %s", error)

    def _holder(self, job_id: str) -> Holder | None:
        holder = self._jobs.get(job_id)
        if holder is not None and self._clock() - self._seen.get(holder.token, float("-inf")) > LEASE_S:
            del self._jobs[job_id]
            self._keep()
            return None
        return holder


def _kept(path: Path) -> dict[str, Holder]:
    """What the last server left; nothing where that cannot be read."""
    try:
        if path.stat().st_size > MAX_KEPT_BYTES:
            return {}
        document = json.loads(path.read_text(encoding="utf-8"))
        return {str(job_id): Holder(str(token), str(name)) for job_id, (token, name) in document.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
