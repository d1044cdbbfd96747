"""Checks, imports and exports as jobs: what they end with, that they can be cancelled, and what a crash leaves."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from avatars.avatar_folder import load_avatar
from avatars.formats.splat_ply import read_splat_ply
from avatars.formats.spz import read_spz
from backend.errands import Errands
from backend.exporting import plan_of
from backend.jobs import JobRecord, Journal
from backend.launcher import running_server
from shared import messages
from shared.client import BackendClient
from shared.desk_messages import StartCheck, StartExport, StartImport
from shared.errors import BadConfig, BadMessage
from shared.messages import ChangeJob, GetJobPreview, JobInfo, ListJobs

NO_POSES = (np.zeros((0, 0, 3), np.float32), np.zeros((0, 3), np.float32), np.zeros((0, 0), np.float32))


def ended(client: BackendClient, job: JobInfo, timeout_s: float = 150.0) -> JobInfo:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        now = next(item for item in client.request(ListJobs()).jobs if item.job_id == job.job_id)
        if now.state not in ("queued", "running"):
            return now
        time.sleep(0.1)
    raise AssertionError(f"{job.name} does not end: {now}")


def export(form: str, output: Path, poses: Any = NO_POSES, **more: Any) -> StartExport:
    return StartExport(uuid.uuid4().hex, "tiny", "", form, str(output), *poses, **more)


def poses_of(folder: Path, frames: int) -> tuple[Any, Any, Any]:
    """A jaw that opens over `frames`."""
    avatar = load_avatar(folder)
    rig = avatar.rig()
    rotations = np.repeat(np.asarray(avatar.rest_pose, np.float32)[None], frames, axis=0)
    rotations[:, rig.joint_names.index("jaw"), 0] += np.linspace(0, 0.3, frames)
    return rotations, np.zeros((frames, 3), np.float32), np.zeros((frames, len(rig.expression_names)), np.float32)


def test_a_shipped_capture_is_recognised_and_checked(client: BackendClient) -> None:
    asked = StartCheck("check-once", "demo_head", 2)
    job = client.request(asked)
    assert (job.kind, job.name) == ("check", "Check demo_head")
    assert client.request(asked).job_id == job.job_id, "the same key is the same job"
    done = ended(client, job)
    states = {finding.state for finding in done.findings}
    assert done.state == "done", done.message
    assert done.message == ("Can be trained on, with doubts" if "doubtful" in states else "Fit to train on")
    first, *others = done.findings
    assert first.name == "recognised"
    assert "Effigy capture" in first.found
    assert "pictures of" in first.found
    assert {finding.state for finding in others} <= {"ok", "doubtful"}
    sheet = client.request(GetJobPreview(job.job_id)).image
    assert sheet.shape[2] == 3
    assert sheet.std() > 5, "pictures with the template over them"
    assert (Path(done.report_folder) / "capture_check.png").is_file()
    missing = ended(client, client.request(StartCheck(uuid.uuid4().hex, "/nowhere/at all", 2)))
    assert missing.state == "failed"
    assert "there is no capture" in missing.message


def test_exports_are_the_posed_avatar(client: BackendClient, avatar_folder: Path, tmp_path: Path) -> None:
    poses = poses_of(avatar_folder, 3)
    still = ended(client, client.request(export("ply", tmp_path / "still.ply")))
    assert still.state == "done", still.message
    sequence = ended(client, client.request(export("ply", tmp_path / "frames", poses, sequence=True)))
    assert (sequence.state, sequence.report_folder) == ("done", str(tmp_path / "frames"))
    files = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert files == ["frame_0000.ply", "frame_0001.ply", "frame_0002.ply"]
    rest, open_mouth = read_splat_ply(tmp_path / "still.ply"), read_splat_ply(tmp_path / "frames" / files[2])
    moved = np.linalg.norm(rest.positions - open_mouth.positions, axis=1)
    assert moved.max() > 0.01, "the jaw opened"
    assert np.median(moved) < 1e-4, "most of the head stayed"
    last = tuple(values[2:] for values in poses)
    packed = ended(client, client.request(export("spz", tmp_path / "open", last)))
    assert packed.message == f"Written to {tmp_path / 'open.spz'}"
    turned = read_spz(tmp_path / "open.spz").positions[:, [0, 2, 1]] * (1, -1, 1)
    np.testing.assert_allclose(turned, open_mouth.positions, atol=1e-3)


def test_an_avatar_goes_out_and_comes_back_in(client: BackendClient, tmp_path: Path) -> None:
    out = ended(client, client.request(export("avatar", tmp_path / "copy.avatar")))
    assert out.state == "done", out.message
    asked = StartImport(uuid.uuid4().hex, str(tmp_path / "copy.avatar"), "Second")
    back = ended(client, client.request(asked))
    assert (back.state, back.avatar_id) == ("done", "Second")
    names = {item.avatar_id: item.name for item in client.request(messages.ListAvatars()).avatars}
    assert names["Second"] == "Second"
    with (tmp_path / "copy.avatar" / "weights.safetensors").open("r+b") as weights:
        weights.seek(-4, os.SEEK_END)
        weights.write(b"\xff\xff\xff\xff")
    bad = ended(client, client.request(dataclasses.replace(asked, key=uuid.uuid4().hex, name="Third")))
    assert bad.state == "failed"
    assert "is not the file that was saved" in bad.message
    assert "Third" not in {item.avatar_id for item in client.request(messages.ListAvatars()).avatars}


def test_wrong_wishes_are_one_sentence(client: BackendClient, avatar_folder: Path, tmp_path: Path) -> None:
    other = tuple(values[:, :2] for values in poses_of(avatar_folder, 1)[:1]) + NO_POSES[1:]
    asked = dataclasses.replace(export("ply", tmp_path / "a.ply"), digest="ab" * 32)
    assert "not the one that was asked for" in ended(client, client.request(asked)).message
    for request, sentence in (
        (export("obj", tmp_path / "a.obj"), "no format 'obj'"),
        (export("ply", Path("a.ply")), "no whole path"),
        (export("ply", tmp_path / "a.ply", other), "do not fit each other"),
        (export("ply", tmp_path / "a.ply", axes="x-up"), "no axes 'x-up'"),
    ):
        with pytest.raises(BadConfig, match=sentence):
            plan_of(request)
    few = tuple(values[..., :2, :] if values.ndim == 3 else values for values in poses_of(avatar_folder, 1))
    assert (
        "do not fit this avatar's rig" in ended(client, client.request(export("ply", tmp_path / "a.ply", few))).message
    )
    assert "nothing at" in ended(client, client.request(StartImport(uuid.uuid4().hex, "/nowhere/model.ply"))).message


def test_cancelling_leaves_nothing_half_done(client: BackendClient, avatar_folder: Path, tmp_path: Path) -> None:
    poses = poses_of(avatar_folder, 5000)
    job = client.request(export("ply", tmp_path / "long", poses, sequence=True), timeout_s=60)
    waiting = client.request(export("ply", tmp_path / "after.ply"))
    deadline = time.monotonic() + 150
    while (now := client.request(ListJobs()).jobs)[1].step < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (now[1].job_id, now[1].state, now[1].steps) == (job.job_id, "running", 5000)
    with pytest.raises(BadMessage, match="is not over"):
        client.request(ChangeJob(job.job_id, "remove"))
    assert client.request(ChangeJob(job.job_id, "cancel")).state == "cancelled"
    assert ended(client, waiting).state == "done", "the next one has its turn"
    assert [path.name for path in tmp_path.iterdir()] == ["after.ply"]
    assert client.request(ChangeJob(job.job_id, "remove")).state == "removed"
    assert job.job_id not in {item.job_id for item in client.request(ListJobs()).jobs}


def test_a_killed_worker_is_told_and_a_lost_server_as_well(avatar_folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(avatar_folder, home / "library" / "tiny.avatar")
    poses = poses_of(avatar_folder, 5000)
    with running_server(home=home, device="cpu") as server:
        with BackendClient(server.address, key=server.key) as client:
            job = client.request(export("ply", tmp_path / "long", poses, sequence=True), timeout_s=60)
            deadline = time.monotonic() + 150
            while not client.request(ListJobs()).jobs[0].step and time.monotonic() < deadline:
                time.sleep(0.05)
            for child in psutil.Process(server.process.pid).children():
                if "backend.errand_worker" in child.cmdline():
                    os.kill(child.pid, signal.SIGKILL)
            failed = ended(client, job)
            assert failed.state == "failed"
            assert "signal 9" in failed.message
            assert not (tmp_path / "long").exists()
            client.request(export("ply", tmp_path / "again", poses, sequence=True), timeout_s=60)
    with running_server(home=home, device="cpu") as server:
        with BackendClient(server.address, key=server.key) as client:
            assert "ask for it again" in client.request(ListJobs()).jobs[0].message


def test_errands_found_running_are_told_as_failed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.put(JobRecord("e1", "k", "Export a", "/x", "", state="running", kind="export"))
    told: list[JobInfo] = []

    def never() -> Any:
        raise AssertionError("nothing is to be started")

    errands = Errands(Journal(tmp_path / "journal.jsonl"), never, lambda worker, message: None, told.append)
    assert errands.info("e1").state == "failed"
    assert [info.state for info in told] == ["failed"]
    errands.tick()
    assert not errands.active()
