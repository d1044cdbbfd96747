"""What is disturbed: a data folder, a server that can be killed and started again at its address, clients, jobs."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from avatars.files import sha256_of
from backend.chaos.traffic import pixels_sha256, shots_of, write_plan
from backend.home import Home, open_home
from backend.launcher import RunningServer, start_server
from shared.client import BackendClient
from shared.errors import EnvironmentFailed
from shared.messages import ChangeJob, GetAvatar, JobInfo, ListJobs, StartTraining

REFERENCE = "reference"
PICTURES, LEARNING = "pictures", "learning"
CAPTURE, PRESET = "demo_head", "tiny"
# Small pictures and few Gaussians; a checkpoint about every second, so that there is one to fall back to.
TRAINING = {"schedule.images": "160", "reporting.checkpoint_images": "8", "reporting.curve_points": "0"}
JOBS_AT_ONCE, SHOTS = 2, 6
READY_WITHIN_S, PICTURE_WITHIN_S, REFERENCE_WITHIN_S = 60.0, 60.0, 600.0


@dataclass
class Traffic:
    """A client process and its newest counts."""

    name: str
    process: subprocess.Popen[str]
    counts: dict[str, Any] = field(default_factory=dict)
    expected_end: bool = False


class Scene:
    """Made with a server running, a reference avatar trained without disturbance, and two clients asking for pictures.

    folder: new or empty, for everything it writes. Raises EnvironmentFailed where the undisturbed part fails already.
    """

    def __init__(self, folder: Path, seed: int, device: str = "cpu") -> None:
        self.folder, self.device, self.random = folder, device, random.Random(seed)
        self.home: Home = open_home(folder / "home")
        self.key = secrets.token_hex(16)
        self.server: RunningServer = start_server(home=self.home.root, device=device, key=self.key)
        self.address = self.server.address
        self.jobs: dict[str, str] = {}
        """Acknowledged jobs by id, and their keys."""
        self.traffic: list[Traffic] = []
        self.gone: list[dict[str, Any]] = []
        """Counts of clients that were killed."""
        self.started = 0
        try:
            self.reference_sha256 = self._train_reference()
            self.plan = self._plan()
            for name in ("anna", "ben"):
                self.start_client(name)
        except BaseException:
            self.close()
            raise

    # --- the server --------------------------------------------------------------------------------------------------
    def client(self, name: str = "chaos") -> BackendClient:
        """A client of the scene's own. All of them are one owner of jobs."""
        return BackendClient(self.address, key=self.key, name=name, instance=self.key)

    def start_again(self) -> None:
        """The server once more at its address; the old one must be gone."""
        if self.server.process.stdout is not None:
            self.server.process.stdout.close()
        self.server = start_server(home=self.home.root, address=self.address, device=self.device, key=self.key)

    def workers(self, module: str) -> list[psutil.Process]:
        """The server's child processes that run a module."""
        found = []
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.server.process.pid).children():
                with contextlib.suppress(psutil.Error):
                    if module in child.cmdline():
                        found.append(child)
        return found

    def all_processes(self) -> list[psutil.Process]:
        """Every process of this data folder, whoever started it."""
        word, found = str(self.home.root), []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and word in process.cmdline():
                    found.append(process)
        return found

    # --- jobs --------------------------------------------------------------------------------------------------------
    def listed(self, client: BackendClient) -> dict[str, JobInfo]:
        """The jobs the server knows, by id. Raises EffigyError."""
        return {job.job_id: job for job in client.request(ListJobs(), timeout_s=20.0).jobs}

    def keep_training(self, client: BackendClient, jobs: dict[str, JobInfo]) -> None:
        """Start jobs while few are left, and those again that were given up. Raises EffigyError."""
        self.take_up_failed(client, jobs)
        open_jobs = [job for job in jobs.values() if job.state in ("queued", "running", "paused")]
        if len(open_jobs) < JOBS_AT_ONCE:
            self.start_job(client)

    def take_up_failed(self, client: BackendClient, jobs: dict[str, JobInfo]) -> None:
        """What a user would do with a job that crashed too often, or found the disk full. Raises EffigyError."""
        for job_id in self.jobs:
            if job_id in jobs and jobs[job_id].state in ("failed", "paused"):
                client.request(ChangeJob(job_id, "resume"), timeout_s=20.0)

    def start_job(self, client: BackendClient) -> str:
        """One more training. It counts from the moment the server acknowledges it; asked again with the same key, it is
        the same job. Raises EffigyError."""
        key = f"chaos {self.started}"
        asked = StartTraining(key, f"job{self.started}", CAPTURE, PRESET, dict(TRAINING))
        told: JobInfo = client.request(asked, timeout_s=30.0)
        self.jobs[told.job_id] = key
        self.started += 1
        return told.job_id

    def reached(self) -> dict[str, object]:
        """How far clients and trainings are, in a form that changes when they get on: what a fault may end again."""
        written = sorted(str(path) for path in self.home.jobs.glob("*/checkpoints/images_*"))
        done = sorted(str(path) for path in self.home.jobs.glob("*/result.json"))
        return {PICTURES: self.totals()["answered"], LEARNING: (written, done)}

    def weights_sha256(self, avatar_id: str) -> str:
        """Of an avatar's file in the library."""
        return sha256_of(self.home.library / f"{avatar_id}.avatar" / "weights.safetensors")

    # --- clients -----------------------------------------------------------------------------------------------------
    def start_client(self, name: str) -> Traffic:
        """A client process that asks for pictures until it is told to end."""
        process = subprocess.Popen(
            [sys.executable, "-m", "backend.chaos.traffic", name, self.address, str(self.plan)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self.folder / f"{name}.log").open("ab"),
            env={**os.environ, "EFFIGY_KEY": self.key},
            text=True,
        )
        one = Traffic(name, process)
        threading.Thread(target=_follow, args=(one,), name=f"counts of {name}", daemon=True).start()
        self.traffic.append(one)
        return one

    def totals(self) -> dict[str, int]:
        """Requests of all clients, those that were killed included."""
        every = self._every_count()
        return {
            name: sum(int(counts.get(name, 0)) for counts in every) for name in ("asked", "answered", "wrong", "lost")
        }

    def without_pictures(self) -> list[str]:
        """Clients that get no picture within PICTURE_WITHIN_S, now that nothing is disturbed any more."""
        waiting = {one.name: (one, one.counts.get("answered", 0)) for one in self.traffic}
        until = time.monotonic() + PICTURE_WITHIN_S
        while waiting and time.monotonic() < until:
            time.sleep(0.1)
            waiting = {name: at for name, at in waiting.items() if at[0].counts.get("answered", 0) == at[1]}
        return sorted(waiting)

    def why_lost(self) -> list[str]:
        """What was said last to requests that are lost."""
        return [why for counts in self._every_count() for why in counts.get("why", ())]

    def _every_count(self) -> list[dict[str, Any]]:
        return [*self.gone, *(one.counts for one in self.traffic)]

    def end_clients(self) -> None:
        """Let the clients finish what they wait for, and end them."""
        for one in self.traffic:
            one.expected_end = True
            if one.process.stdin is not None:
                one.process.stdin.close()
        for one in self.traffic:
            try:
                one.process.wait(30)
            except subprocess.TimeoutExpired:
                one.process.kill()
        time.sleep(0.2)  # their last counts are on the way

    def close(self) -> None:
        """End everything that runs."""
        for one in self.traffic:
            if one.process.poll() is None:
                one.process.kill()
            one.process.wait()
        self.server.stop()

    # --- before anything is disturbed --------------------------------------------------------------------------------
    def _train_reference(self) -> str:
        with self.client() as client:
            asked = StartTraining(REFERENCE, REFERENCE, CAPTURE, PRESET, dict(TRAINING))
            job_id = client.request(asked, timeout_s=READY_WITHIN_S).job_id
            until = time.monotonic() + REFERENCE_WITHIN_S
            while (job := self.listed(client)[job_id]).state != "done":
                if job.state in ("failed", "cancelled") or time.monotonic() > until:
                    raise EnvironmentFailed("The undisturbed training did not end", found=job.message or job.state)
                time.sleep(0.2)
        if job.avatar_id != REFERENCE:
            raise EnvironmentFailed("The data folder of a chaos run must be empty", found=f"an avatar {REFERENCE}")
        return self.weights_sha256(REFERENCE)

    def _plan(self) -> Path:
        """What each picture must look like, asked for twice: what is not the same twice cannot be held to anything."""
        plan = self.folder / "plan.json"
        with self.client() as client:
            shots = shots_of(client.request(GetAvatar(REFERENCE), timeout_s=READY_WITHIN_S), SHOTS, 1)
            known = []
            for shot in shots:
                first, second = (
                    pixels_sha256(client.render(shot.request("plan"), timeout_s=READY_WITHIN_S)) for _ in range(2)
                )
                if first != second:
                    raise EnvironmentFailed("The same picture came out differently when it was rendered again")
                known.append(replace(shot, sha256=first))
        write_plan(plan, tuple(known))
        return plan


def _follow(one: Traffic) -> None:
    assert one.process.stdout is not None
    for line in one.process.stdout:
        with contextlib.suppress(ValueError):
            one.counts = json.loads(line)


def new_folder(output: Path | None) -> Path:
    """Where a run writes: the given folder with a new one inside, or a temporary one."""
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="chaos-", dir=output))
