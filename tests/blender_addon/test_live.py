"""An avatar that is still learning, added to a scene and rendered by the EFFIGY engine of a real Blender."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
import uuid

import numpy as np
import pytest

from blender_addon.viewport.frames import PASS, FrameThread, Wish
from shared import messages
from shared.client import BackendClient
from tests.jobs import job_when

from . import shots
from .conftest import ROOT, backend_python

TIMEOUT_S = 120.0
MAKE = "import sys; from tests.tiny import Path, tiny_capture; tiny_capture(Path(sys.argv[1]), 48, 40, 1, 600)"


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("live") / "tiny"
    done = subprocess.run([backend_python(), "-c", MAKE, folder], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return str(folder)


def viewport_keeps_up(address: str, client: BackendClient, live: str) -> None:
    """What a 3D view wished for once comes again and again while the avatar learns, and does not stay the same."""
    detail = client.request(messages.GetAvatar(live), timeout_s=TIMEOUT_S)
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3] = ((1, 0, 0), (0, 0, 1), (0, -1, 0))
    middle = (detail.proxy.vertices.max(axis=0) + detail.proxy.vertices.min(axis=0)) / 2
    world_from_camera[:3, 3] = middle - np.array((0, 1.5, 0))
    instance = messages.AvatarInstance(
        live,
        "",
        np.eye(4)[None],
        np.asarray(detail.rest_pose, np.float32)[None],
        np.zeros((1, 3), np.float32),
        np.zeros((1, len(detail.rig.expression_names)), np.float32),
    )
    K = np.array([[[100.0, 0, 32], [0, 100, 32], [0, 0, 1]]])
    request = messages.RenderRequest(
        "view/live", (instance,), 64, 64, K, world_from_camera[None], 0.1, 10.0, passes=(PASS,)
    )
    key = os.environ.get("EFFIGY_KEY", "")
    thread = FrameThread(lambda: BackendClient(address, key=key, name="test"), address)
    try:
        thread.want(Wish("view/live", "Scene", (), None, request, live=True))
        seen: dict[int, bytes] = {}
        until = time.monotonic() + TIMEOUT_S
        while len(set(seen.values())) < 3 and time.monotonic() < until:
            picture = thread.picture("view/live")
            if picture is not None:
                seen[picture.number] = picture.packed.tobytes()
            time.sleep(0.05)
    finally:
        thread.close()
    assert len(set(seen.values())) >= 3, f"{len(seen)} pictures; {thread.problem}"


def test_the_engine_renders_an_avatar_that_learns(addon, backend, capture: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("EFFIGY_ADDRESS", backend.address)
    overrides = {"snapshot_every": "1"}
    asked = messages.StartOnline(
        uuid.uuid4().hex, "Ada", "capture", capture, preset="online_tiny", overrides=overrides, video_fps=1.0
    )
    with BackendClient(backend.address, key=os.environ.get("EFFIGY_KEY", "")) as client:
        job = client.request(asked, timeout_s=TIMEOUT_S)
        live = job_when(client, job.job_id, lambda job: job.avatar_id, TIMEOUT_S).avatar_id
        assert live == f"live-{job.job_id}"
        shots.set_up(addon, avatar_id=live)
        addon.context.scene.render.film_transparent = True
        pictures = []
        for index in range(4):
            pictures.append(shots.render_exr(tmp_path / f"{index}.exr")["Combined"])
            time.sleep(0.3)
        viewport_keeps_up(backend.address, client, live)
        for picture in pictures:
            assert np.isfinite(picture).all()
            assert picture[..., 3].max() > 0.5
        assert any(np.abs(a - b).max() > 0 for a, b in itertools.pairwise(pictures)), "it went on learning"
        assert addon.ops.effigy.change_job(job_id=job.job_id, action="stop") == {"FINISHED"}
        ended = job_when(client, job.job_id, lambda job: job.state == "done", TIMEOUT_S)
        with pytest.raises(RuntimeError, match=f"is the avatar '{ended.avatar_id}'"):
            addon.ops.render.render()
    addon.ops.effigy.add_avatar(avatar_id=ended.avatar_id)


def test_a_live_training_is_started_from_blender(addon, backend, capture: str, monkeypatch) -> None:
    monkeypatch.setenv("EFFIGY_ADDRESS", backend.address)
    training = addon.context.scene.effigy.training
    training.source, training.folder, training.name = "FOLDER", capture, "Eve"
    assert addon.ops.effigy.start_live(source="CAPTURE", fps=2.0) == {"FINISHED"}
    with BackendClient(backend.address) as client:
        job = next(job for job in client.request(messages.ListJobs()).jobs if job.name == "Eve")
        assert job.kind == "online"
        assert addon.ops.effigy.change_job(job_id=job.job_id, action="cancel") == {"FINISHED"}
        job_when(client, job.job_id, lambda job: job.state == "cancelled", TIMEOUT_S)
