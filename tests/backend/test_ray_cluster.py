"""A real Ray cluster of three nodes, one of them killed in the middle of a film and of a training."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from avatars.avatar_folder import WEIGHTS
from backend.cli_render import request_of
from backend.engines.ray_cluster import LOOPBACK
from backend.launcher import RunningServer, running_server
from backend.library import Library
from backend.many_frames import rendered_in_order
from backend.rendering import Studio
from backend.training_run import run_training
from shared import messages as m
from shared.client import BackendClient
from shared.desk_messages import GetStatus
from shared.types import Motion
from tests.jobs import job_when
from tests.tiny import tiny_capture

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed (pip install 'effigy[ray]')"
)

ROOT = Path(__file__).resolve().parent.parent.parent
FRAMES, SIZE_PX = 24, 48
PATIENCE_S = 240.0
FOUND_DEAD = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
"""So that a killed node is known to be dead within seconds, not half a minute."""
ONLY_WHAT_IT_NEEDS = {"no_monitor": True, "include_log_monitor": False}
"""Neither an autoscaler nor a reader of logs: two processes that load Ray's Python less."""
RECORDING = "~/recordings/tiny"
"""Where the capture is on the backend's machine. On the first node there is nothing, on the second something else."""
TRAINING = {"schedule.images": "160", "reporting.checkpoint_images": "8", "reporting.curve_points": "0"}


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The home folders of three machines' users."""
    return {name: tmp_path_factory.mktemp(name) for name in ("backend", "first", "second")}


@contextlib.contextmanager
def living_in(home: Path) -> Iterator[None]:
    """What is started now has this home folder, and the caches of the real one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"))
        patch.setenv("EFFIGY_NODE_CACHE", str(home / "cache"))
        patch.setenv("HOME", str(home))
        yield


@pytest.fixture(scope="module")
def cluster(homes: dict[str, Path]) -> Iterator[Any]:
    """A head that computes nothing, and two nodes with a core and a home each, all of them on 127.0.0.1."""
    folder = Path(tempfile.mkdtemp(prefix="effigy-ray-"))  # short: sockets lie in it
    with pytest.MonkeyPatch.context() as patch:
        variables = {**LOOPBACK, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
        variables["RAY_TMPDIR"] = str(folder)  # Ray notes the cluster in its usual folder, and does not make that one
        for name, value in {**variables, "PYTHONPATH": path}.items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        small = {"object_store_memory": 80 * 1024**2, "include_dashboard": False}
        head = {"num_cpus": 0, "_system_config": FOUND_DEAD, "temp_dir": str(folder / "ray"), **small}
        head |= ONLY_WHAT_IT_NEEDS
        made = Cluster(initialize_head=True, head_node_args=head)
        try:
            for name in ("first", "second"):
                with living_in(homes[name]):
                    made.add_node(num_cpus=1, **small)
            yield made
        finally:
            made.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def capture(homes: dict[str, Path]) -> Path:
    place = {name: home / Path(RECORDING).relative_to("~") for name, home in homes.items()}
    made = tiny_capture(place["backend"], size=32, frames=4, cameras=2, gaussians=300)
    shutil.copytree(made, place["second"])
    pictures = sorted((place["second"] / "images").rglob("*.*"))
    shutil.copyfile(pictures[0], pictures[1])
    return made


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, avatar_folder: Path) -> Path:
    made = tmp_path_factory.mktemp("home")
    shutil.copytree(avatar_folder, made / "library" / "tiny.avatar")
    return made


@pytest.fixture(scope="module")
def server(cluster: Any, home: Path, homes: dict[str, Path]) -> Iterator[RunningServer]:
    options = ("--engine", "ray", "--ray-address", cluster.address)
    with living_in(homes["backend"]), running_server(home=home, device="cpu", key="", options=options) as running:
        yield running


def film(detail: m.AvatarDetail) -> list[m.RenderRequest]:
    """Small pictures of a head that turns, no two of them alike."""
    joints, expressions = len(detail.rig.joint_names), len(detail.rig.expression_names)
    motion = Motion(
        np.repeat(np.asarray(detail.rest_pose, np.float32)[None], FRAMES, 0).reshape(FRAMES, joints, 3),
        np.linspace((0, 0, 0), (0.02, 0, 0.01), FRAMES, dtype=np.float32),
        np.zeros((FRAMES, expressions), np.float32),
        25.0,
    )
    arguments = argparse.Namespace(size=(SIZE_PX, SIZE_PX), pitch=5.0, fov=25.0)
    return [request_of(arguments, detail, motion, index, 5.0 * index, "") for index in range(FRAMES)]


def node_of(log: Path) -> str:
    """Where a job trains, as its relay's log says last."""
    lines = [line for line in log.read_text().splitlines() if " trains on " in line]
    return lines[-1].rsplit(" ", 1)[1]


class Film(threading.Thread):
    """The film over and over, as `render --server` asks for it, until it has been told to stop; whole films only."""

    def __init__(self, address: str, requests: list[m.RenderRequest]) -> None:
        super().__init__(daemon=True)
        self.address, self.requests = address, requests
        self.drawn: list[bytes] = []
        self.enough = threading.Event()
        self.start()

    def run(self) -> None:
        frames = rendered_in_order(self._asked(), lambda: BackendClient(self.address), timeout_s=PATIENCE_S)
        for frame in frames:
            self.drawn.append(frame.passes["combined"].tobytes())

    def _asked(self) -> Iterator[m.RenderRequest]:
        while not self.enough.is_set():
            yield from self.requests


def until(done: Callable[[], bool]) -> None:
    """Wait for something. Raises AssertionError when it does not come."""
    end = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_film_and_a_training_survive_the_loss_of_a_machine(
    cluster: Any, server: RunningServer, home: Path, capture: Path, homes: dict[str, Path]
) -> None:
    with BackendClient(server.address) as client:
        requests = film(client.request(m.GetAvatar("tiny"), timeout_s=PATIENCE_S))
        studio = Studio(Library(home / "library"), "cpu")
        expected = [studio.render(request).images[0].tobytes() for request in requests]
        assert len(set(expected)) == FRAMES
        until(lambda: client.request(GetStatus()).render_workers == 2)
        job = client.request(m.StartTraining("k", "Trained", RECORDING, "tiny", TRAINING), timeout_s=PATIENCE_S)
        log, kept = home / "jobs" / job.job_id / "worker.log", home / "jobs" / job.job_id / "checkpoints"
        until(lambda: any(kept.glob("images_*")))
        made = Film(server.address, requests)
        until(lambda: len(made.drawn) > 1)
        lost = node_of(log)
        cluster.remove_node(next(node for node in cluster.worker_nodes if node.node_id == lost), allow_graceful=False)
        until(lambda: client.request(GetStatus()).render_workers == 1)
        made.enough.set()
        made.join(PATIENCE_S)
        done = job_when(client, job.job_id, lambda job: job.state not in ("queued", "running"), PATIENCE_S)
    assert made.drawn == expected * (len(made.drawn) // FRAMES), "missing, doubled or different"
    assert "was lost at a picture" in (home / "logs" / "render.log").read_text()
    assert done.state == "done", done.message
    assert node_of(log) != lost
    assert log.read_text().count("the capture was sent to") == 2, "once to each machine"
    assert len([*homes["first"].glob("cache/captures/*/tiny"), *homes["second"].glob("cache/captures/*/tiny")]) == 2
    reference = Library(home / "reference")
    reference.folder.mkdir()
    asked = m.StartTraining("undisturbed", "Undisturbed", str(capture), "tiny", TRAINING)
    undisturbed = run_training(asked, home / "undisturbed", reference, "cpu", lambda _: None, lambda: "")
    weights = [Library(home / "library").path(done.avatar_id), reference.path(undisturbed.avatar_id)]
    assert len({hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest() for folder in weights}) == 1
    assert (Path(done.report_folder) / "metrics.json").is_file()


def test_nothing_of_ray_listens_to_other_machines(cluster: Any, server: RunningServer) -> None:
    family = psutil.Process().children(recursive=True)
    ours = {process.pid for process in family}
    listening = [
        connection.laddr.ip
        for connection in psutil.net_connections("tcp")
        if connection.pid in ours and connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 4
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
