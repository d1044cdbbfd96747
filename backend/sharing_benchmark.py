"""Two clients and a training on one device: how long each waits for its pictures, and what memory that takes.

A real server with client processes of its own: the first client alone, both, both beside a training, and the first
again beside one that asks all the time and reads nothing (`docs/reliability.md`).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import zmq

import backend
from backend.benchmark_start import front_view
from backend.benchmark_wire import small_avatar
from backend.launcher import RunningServer, running_server
from shared import wire
from shared.client import BackendClient
from shared.desk_messages import GetStatus
from shared.errors import EnvironmentFailed, Held, WorkerFailed
from shared.messages import PROTOCOL_VERSION, ChangeJob, Hello, JobInfo, ListJobs, Ping, StartTraining
from shared.sockets import REPLY_BYTES, make_socket

AVATAR, FIRST, SECOND = "shared", "first", "second"
ALONE, BOTH, TRAINING, AGAIN, DEAF = "alone", "both", "both and a training", "alone again", "beside a deaf client"
READY_S, LOOK_S, SETTLE_S, WISH_EVERY_S = 600.0, 0.5, 1.0, 0.02
ENDLESS = {"schedule.images": "1000000", "reporting.curve_points": "0"}


@dataclass(frozen=True)
class SharingSettings:
    """seconds: of each part; deaf_seconds: of the one beside a deaf client. gaussians: of the avatar that is drawn."""

    device: str = "auto"
    seconds: float = 10.0
    deaf_seconds: float = 60.0
    size_px: int = 512
    gaussians: int = 15_000
    capture: str = "demo_head"
    preset: str = "tiny"


@dataclass(frozen=True)
class PartTiming:
    """One client in one part of the course. device_bytes: in use by everybody on the device at its end."""

    part: str
    client: str
    pictures: int
    median_ms: float
    p95_ms: float


@dataclass
class Sharing:
    """What came of it. memory: the most that a kind of process held, in bytes; device: part -> bytes in use.

    step_rate: training images a second beside both clients; refused: what the client was told that wanted to cancel the
    other's training; wishes: how many the deaf client sent.
    """

    rows: list[PartTiming] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    server_growth_bytes: int = 0
    device: dict[str, int] = field(default_factory=dict)
    step_rate: float = 0.0
    refused: str = ""
    wishes: int = 0

    def median_ms(self, part: str, client: str = FIRST) -> float:
        """Of one row; nan where there is none."""
        return next((row.median_ms for row in self.rows if (row.part, row.client) == (part, client)), float("nan"))


class Drawing:
    """A client process and the pictures it got: [(when, milliseconds)]."""

    def __init__(self, server: RunningServer, name: str, size_px: int) -> None:
        root = str(Path(backend.__file__).resolve().parent.parent)
        paths = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
        self.name, self.pictures = name, [(0.0, 0.0)][:0]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "backend.sharing_client", name, server.address, AVATAR, str(size_px)],
            env={**os.environ, "PYTHONPATH": paths, "EFFIGY_KEY": server.key},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            when, milliseconds = line.split()
            self.pictures.append((float(when), float(milliseconds)))

    def timing(self, part: str, begun_s: float) -> PartTiming:
        """Its pictures since a moment. Raises WorkerFailed where there are none."""
        taken = [milliseconds for when, milliseconds in self.pictures if when >= begun_s]
        if not taken:
            raise WorkerFailed(f"The {self.name} client got no picture", found=part, do="Allow more --seconds")
        median, p95 = np.percentile(taken, (50, 95))
        return PartTiming(part, self.name, len(taken), float(median), float(p95))

    def stop(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def measure_sharing(settings: SharingSettings) -> Iterator[tuple[str, Sharing]]:
    """Each part's name as it is done, with what is known by then. Raises EffigyError for what did not work."""
    outcome = Sharing()
    with tempfile.TemporaryDirectory(prefix="effigy-sharing-") as folder:
        small_avatar(Path(folder) / "library" / f"{AVATAR}.avatar", settings.gaussians)
        with (
            running_server(home=Path(folder), device=settings.device, key=secrets.token_hex(16)) as server,
            server.client("watch", instance=FIRST) as client,
            contextlib.ExitStack() as clients,
        ):
            course = _Course(settings, server, client, outcome)
            first = course.drawing(FIRST, settings.size_px)
            clients.callback(first.stop)
            yield course.part(ALONE, [first], settings.seconds)
            second = course.drawing(SECOND, settings.size_px)
            clients.callback(second.stop)
            yield course.part(BOTH, [first, second], settings.seconds)
            job_id = course.begin_training()
            yield course.part(TRAINING, [first, second], settings.seconds)
            course.end_training(job_id)
            second.stop()
            yield course.part(AGAIN, [first], settings.seconds)
            with course.deaf_client():
                yield course.part(DEAF, [first], settings.deaf_seconds)


class _Course:
    def __init__(
        self, settings: SharingSettings, server: RunningServer, client: BackendClient, outcome: Sharing
    ) -> None:
        self.settings, self.server, self.client, self.outcome = settings, server, client, outcome
        self.process = psutil.Process(server.process.pid)
        self.settled_bytes = 0

    def drawing(self, name: str, size_px: int) -> Drawing:
        """A client that has its first pictures."""
        made, until = Drawing(self.server, name, size_px), time.monotonic() + READY_S
        while len(made.pictures) < 3:
            if made.process.poll() is not None or time.monotonic() > until:
                made.stop()
                raise EnvironmentFailed(f"The {name} client got no pictures", do="Look at what it wrote")
            time.sleep(0.02)
        self.settled_bytes = self.settled_bytes or self.process.memory_info().rss
        return made

    def part(self, name: str, clients: list[Drawing], seconds: float) -> tuple[str, Sharing]:
        """Let time pass, look at memory meanwhile, and note what each client got."""
        time.sleep(SETTLE_S)
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            self._memory(clients)
            time.sleep(min(LOOK_S, seconds / 4))
        self.outcome.rows += [one.timing(name, begun) for one in clients]
        self.outcome.device[name] = self.client.request(GetStatus()).memory_used_bytes
        return name, self.outcome

    def _memory(self, clients: list[Drawing]) -> None:
        found = {"server": self.process, **{f"client {one.name}": psutil.Process(one.process.pid) for one in clients}}
        kinds = {"backend.render_worker": "render worker", "backend.train_worker": "train worker"}
        with contextlib.suppress(psutil.Error):
            for child in self.process.children():
                words = child.cmdline()
                found |= {name: child for module, name in kinds.items() if module in words}
            for name, process in found.items():
                held = process.memory_info().rss
                self.outcome.memory[name] = max(held, self.outcome.memory.get(name, 0))
            grown = self.process.memory_info().rss - self.settled_bytes
            self.outcome.server_growth_bytes = max(self.outcome.server_growth_bytes, grown)

    def begin_training(self) -> str:
        """A training that learns already, of the first client; another one that wants to end it is refused."""
        asked = StartTraining("sharing", "shared_training", self.settings.capture, self.settings.preset, ENDLESS)
        job_id = str(self.client.request(asked, timeout_s=READY_S).job_id)
        self._until(job_id, lambda job: job.step > 0)
        with self.server.client("other", instance="another") as other:
            try:
                other.request(ChangeJob(job_id, "cancel"))
            except Held as error:
                self.outcome.refused = str(error)
        return job_id

    def end_training(self, job_id: str) -> None:
        """Its pace, and its end."""
        self.outcome.step_rate = self._until(job_id, lambda job: True).images_per_s
        self.client.request(ChangeJob(job_id, "cancel"))
        self._until(job_id, lambda job: job.state == "cancelled")

    def _until(self, job_id: str, condition: Callable[[JobInfo], bool]) -> JobInfo:
        until = time.monotonic() + READY_S
        while True:
            job: JobInfo = next(one for one in self.client.request(ListJobs()).jobs if one.job_id == job_id)
            if condition(job):
                return job
            if job.state == "failed" or time.monotonic() > until:
                raise EnvironmentFailed("The training beside the clients did not work", found=job.message or job.state)
            time.sleep(0.05)

    @contextlib.contextmanager
    def deaf_client(self) -> Iterator[None]:
        """One that says Hello, asks for a picture fifty times a second, and never reads an answer."""
        welcome = self.client.connect()
        request = front_view(self.client, AVATAR, self.settings.size_px)
        over = threading.Event()

        def ask() -> None:
            with zmq.Context() as context, silent_socket(context, welcome.frames_address) as deaf:
                hello = Hello(PROTOCOL_VERSION, "deaf", "0", self.server.key, "deaf")
                deaf.send_multipart(wire.encode(hello, request_id=1))
                while not over.wait(WISH_EVERY_S):
                    wish = wire.encode(request, request_id=2 + self.outcome.wishes, epoch=welcome.epoch)
                    if deaf.poll(100, zmq.POLLOUT):
                        deaf.send_multipart(wish, zmq.NOBLOCK)
                        self.outcome.wishes += 1

        thread = threading.Thread(target=ask, name="deaf client", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.client.request(Ping())


def silent_socket(context: zmq.Context[zmq.Socket[bytes]], address: str) -> zmq.Socket[bytes]:
    """Connected, and taking one answer at most; never to be read from."""
    made = make_socket(context, zmq.DEALER, queue=64, max_part_bytes=REPLY_BYTES)
    made.setsockopt(zmq.RCVHWM, 1)
    made.setsockopt(zmq.HEARTBEAT_IVL, 0)
    made.connect(address)
    return made


def shares(outcome: Sharing) -> Mapping[str, float]:
    """Ratios of median times that say how fairly it is shared: 2 is half of the device each, 1 is undisturbed."""
    return {
        "both / alone": outcome.median_ms(BOTH) / outcome.median_ms(ALONE),
        "second / first": outcome.median_ms(BOTH, SECOND) / outcome.median_ms(BOTH),
        "with a training / both": outcome.median_ms(TRAINING) / outcome.median_ms(BOTH),
        "beside a deaf client / alone again": outcome.median_ms(DEAF) / outcome.median_ms(AGAIN),
    }
