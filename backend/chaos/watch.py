"""What must hold all the time, looked at once a second, and at the end."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field

import psutil

from backend.chaos.faults import BROKEN, RENDER
from backend.chaos.scene import REFERENCE, Scene
from shared.client import BackendClient
from shared.errors import EffigyError
from shared.messages import JobInfo, ListAvatars, Ping

SILENT_S = 20.0
SETTLED_S, WORKER_SETTLED_S = 8.0, 30.0
"""A server has loaded all by then; a render worker also what its first pictures need, on a busy machine as well."""
GROWTH_BYTES = 64 * 1024**2
END_WITHIN_S = 600.0


@dataclass
class Growth:
    """Of one process after the other, each once it has settled. growth_bytes: the most that one grew by."""

    settle_s: float = SETTLED_S
    growth_bytes: int = 0
    pid: int = 0
    born_s: float = 0.0
    settled_bytes: int = 0

    def look(self, pid: int) -> None:
        """At the process that is there now."""
        if pid != self.pid:
            self.pid, self.born_s, self.settled_bytes = pid, time.monotonic(), 0
        try:
            rss = psutil.Process(pid).memory_info().rss
        except psutil.Error:
            return
        if time.monotonic() - self.born_s >= self.settle_s:
            self.settled_bytes = self.settled_bytes or rss
            self.growth_bytes = max(self.growth_bytes, rss - self.settled_bytes)


@dataclass
class Watch:
    """Violations, in words, with the second they were seen at, and what was measured on the way."""

    begun_s: float = field(default_factory=time.monotonic)
    violations: list[str] = field(default_factory=list)
    looks: int = 0
    server: Growth = field(default_factory=Growth)
    worker: Growth = field(default_factory=lambda: Growth(WORKER_SETTLED_S))
    silent_since_s: float = 0.0

    @property
    def growth_bytes(self) -> int:
        """The most that a server grew by."""
        return self.server.growth_bytes

    def violated(self, what: str) -> None:
        """Note it, each only once."""
        if what not in (line.partition(": ")[2] for line in self.violations):
            self.violations.append(f"{time.monotonic() - self.begun_s:.0f} s: {what}")

    def look(self, scene: Scene, client: BackendClient) -> dict[str, JobInfo] | None:
        """All that can be said now; the jobs, or None where the server does not answer (which it may not for long)."""
        self.looks += 1
        self._memory(scene)
        for one in scene.traffic:
            if one.process.poll() is not None and not one.expected_end:
                self.violated(f"client {one.name} ended with status {one.process.returncode}")
        try:
            client.request(Ping(), timeout_s=5.0)
            jobs = scene.listed(client)
            avatars = client.request(ListAvatars(), timeout_s=10.0).avatars
        except EffigyError as error:
            self.silent_since_s = self.silent_since_s or time.monotonic()
            if time.monotonic() - self.silent_since_s > SILENT_S:
                self.violated(f"the server has not answered for {SILENT_S:.0f} s ({error.code})")
            return None
        self.silent_since_s = 0.0
        for job_id in scene.jobs:
            if job_id not in jobs:
                self.violated(f"the acknowledged job {job_id} is not known any more")
        for avatar in avatars:
            if avatar.problem and avatar.avatar_id != BROKEN:
                self.violated(f"the avatar {avatar.avatar_id} is damaged: {avatar.problem}")
        if REFERENCE not in {avatar.avatar_id for avatar in avatars}:
            self.violated("the reference avatar is gone")
        return jobs

    def _memory(self, scene: Scene) -> None:
        """How much the server and its render worker have grown since they had settled."""
        self.server.look(scene.server.process.pid)
        for process in scene.workers(RENDER)[:1]:
            self.worker.look(process.pid)
        if self.growth_bytes > GROWTH_BYTES:
            self.violated("a server grew by more than 64 MiB")


def settle(scene: Scene, client: BackendClient, watch: Watch) -> dict[str, int]:
    """After the last fault: every acknowledged job must end, with the very weights of an undisturbed run."""
    until = time.monotonic() + END_WITHIN_S
    jobs: dict[str, JobInfo] = {}
    while time.monotonic() < until:
        found = watch.look(scene, client)
        if found is not None:
            jobs = found
            try:
                scene.take_up_failed(client, jobs)
            except EffigyError:
                continue
            if all(jobs[job_id].state == "done" for job_id in scene.jobs if job_id in jobs):
                break
        time.sleep(0.5)
    done = [job for job_id, job in jobs.items() if job_id in scene.jobs and job.state == "done"]
    lost = len(scene.jobs) - len(done)
    for job_id in scene.jobs:
        told = jobs.get(job_id)
        if told is None or told.state != "done":
            watch.violated(f"job {job_id} did not end: {f'{told.state}, {told.message}' if told else 'unknown'}")
    different = 0
    for job in done:
        try:
            different += scene.weights_sha256(job.avatar_id) != scene.reference_sha256
        except OSError as error:
            watch.violated(f"the avatar of {job.name} cannot be read: {error.strerror}")
    if different:
        watch.violated(f"{different} avatars have other weights than an undisturbed training gives")
    return {"acknowledged": len(scene.jobs), "done": len(done), "lost": lost, "different": different}


def corrupt_files(scene: Scene, watch: Watch) -> int:
    """Files of the data folder that cannot be read as what they are, at the end."""
    from avatars.avatar_folder import load_avatar

    corrupt = 0
    for folder in sorted(scene.home.library.glob("*.avatar")):
        try:
            load_avatar(folder)
        except EffigyError as error:
            corrupt += 1
            watch.violated(f"{folder.name} is damaged: {error}")
    for path in sorted(scene.home.jobs.glob("*/result.json")):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            corrupt += 1
            watch.violated(f"{path} is damaged")
    return corrupt
