"""Training through the server: real worker processes, killed, paused and restarted; every bad input one sentence."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from backend import training_jobs
from backend.jobs import JobRecord, Journal
from backend.launcher import RunningServer, running_server, start_server
from backend.training_jobs import TrainingJobs
from backend.workers import Worker
from shared import messages as m
from shared.client import BackendClient
from shared.errors import BadCapture, BadConfig, EffigyError
from tests.backend.test_server import worker_of
from tests.jobs import job_when
from tests.tiny import tiny_capture

TIMEOUT_S = 150.0
LONG = {"schedule.images": "4000"}


@pytest.fixture(scope="session")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_capture(
        tmp_path_factory.mktemp("captures") / "tiny_capture", size=48, frames=4, cameras=2, gaussians=600
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[RunningServer]:
    with running_server(home=home, device="cpu", key="") as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[BackendClient]:
    with BackendClient(server.address, name="test") as connected:
        yield connected


def training(capture: Path, key: str, **overrides: str) -> m.StartTraining:
    quick = {"reporting.curve_points": "0", "reporting.preview_s": "2"}
    return m.StartTraining(key, "Tiny Person", str(capture), "tiny", {**quick, **overrides})


def test_a_job_goes_on_without_its_client_and_ends_in_the_library(
    server: RunningServer, client: BackendClient, home: Path, capture: Path
) -> None:
    with BackendClient(server.address) as watcher:
        watcher.connect()
        watcher.events()
        with BackendClient(server.address) as blender:
            job = blender.request(training(capture, "k1"), timeout_s=TIMEOUT_S)
            assert job.state == "queued"
        done = job_when(client, job.job_id, lambda job: job.state not in ("queued", "running"))
        assert (done.state, done.avatar_id) == ("done", "Tiny_Person"), done.message
        assert done.step == done.steps == 60
        assert "PSNR" in done.message
        assert (Path(done.report_folder) / "metrics.json").is_file()
        events = watcher.events(1.0)
    numbers = [event.sequence for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert events[-1].job.state == "done"
    assert any(event.job.losses for event in events)
    (avatar,) = client.request(m.ListAvatars()).avatars
    assert (avatar.avatar_id, avatar.name, avatar.problem) == ("Tiny_Person", "Tiny Person", "")
    assert avatar.metrics["psnr_db"] > 5
    picture = client.request(m.GetJobPreview(job.job_id)).image
    assert picture.dtype == np.uint8
    assert picture.shape[1] == 2 * picture.shape[0]
    again = client.request(training(capture, "k1"), timeout_s=TIMEOUT_S)
    assert again.job_id == job.job_id
    assert not (home / "jobs" / job.job_id / "checkpoints").exists()


def test_pause_resume_cancel_and_one_at_a_time(client: BackendClient, capture: Path) -> None:
    first = client.request(training(capture, "long", **LONG), timeout_s=TIMEOUT_S)
    second = client.request(training(capture, "next", **LONG), timeout_s=TIMEOUT_S)
    job_when(client, first.job_id, lambda job: job.step > 0)
    assert job_when(client, second.job_id, lambda _: True).state == "queued"
    client.request(m.ChangeJob(first.job_id, "pause"))
    paused = job_when(client, first.job_id, lambda job: job.state == "paused")
    assert 0 < paused.step < 4000
    job_when(client, second.job_id, lambda job: job.state == "running")
    assert client.request(m.ChangeJob(first.job_id, "resume")).state == "queued"
    client.request(m.ChangeJob(second.job_id, "cancel"))
    job_when(client, second.job_id, lambda job: job.state == "cancelled")
    job_when(client, first.job_id, lambda job: job.state == "running" and job.step >= paused.step)
    client.request(m.ChangeJob(first.job_id, "cancel"))
    job_when(client, first.job_id, lambda job: job.state == "cancelled")
    assert client.request(m.ChangeJob(first.job_id, "cancel")).state == "cancelled"
    with pytest.raises(EffigyError, match=r"no action 'stop'"):
        client.request(m.ChangeJob(first.job_id, "stop"))


def test_a_killed_train_worker_goes_on_from_its_checkpoint(
    server: RunningServer, client: BackendClient, home: Path, capture: Path
) -> None:
    job = client.request(training(capture, "killed", **LONG), timeout_s=TIMEOUT_S)
    reached = job_when(client, job.job_id, lambda job: job.step >= 10).step
    worker_of(server, "backend.train_worker").kill()
    told = job_when(client, job.job_id, lambda job: "goes on from its last checkpoint" in job.message)
    assert "signal 9" in told.message
    assert told.state == "running"
    resumed = job_when(client, job.job_id, lambda job: job.step > 0 and "last checkpoint" not in job.message)
    assert resumed.step >= reached // 8 * 8 - 8
    client.request(m.ChangeJob(job.job_id, "cancel"))
    job_when(client, job.job_id, lambda job: job.state == "cancelled")
    assert "Traceback" not in (home / "jobs" / job.job_id / "worker.log").read_text()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits another process as Linux does")
def test_a_training_on_a_full_disk_says_so_and_goes_on_when_there_is_room(
    server: RunningServer, client: BackendClient, home: Path, capture: Path
) -> None:
    """The limit on its files stands for the disk's end."""
    job = client.request(training(capture, "full", **LONG), timeout_s=TIMEOUT_S)
    job_when(client, job.job_id, lambda job: job.step > 0)
    worker, resource = worker_of(server, "backend.train_worker").pid, pytest.importorskip("resource")
    _, hard = resource.prlimit(worker, resource.RLIMIT_FSIZE)
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (2_000, hard))
    told = job_when(client, job.job_id, lambda job: job.message.startswith(m.NO_ROOM))
    assert (told.state, told.stalled_s) == ("running", 0)
    checkpoints = home / "jobs" / job.job_id / "checkpoints"
    assert f"{checkpoints} needs " in told.message
    assert "goes on when there is room; waited " in told.message
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (hard, hard))
    job_when(client, job.job_id, lambda job: job.step > told.step and not job.message.startswith(m.NO_ROOM))
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (2_000, hard))
    job_when(client, job.job_id, lambda job: job.message.startswith(m.NO_ROOM))
    client.request(m.ChangeJob(job.job_id, "cancel"))
    job_when(client, job.job_id, lambda job: job.state == "cancelled")


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"overrides": {"schedul.images": "5"}}, BadConfig, "schedul.*did you mean 'schedule'"),
        ({"overrides": {"schedule.images": "many"}}, BadConfig, "schedule.images"),
        ({"preset": "tinny"}, BadConfig, "no preset 'tinny', did you mean 'tiny'"),
        ({"capture": "demo_hat"}, BadCapture, "no capture 'demo_hat'"),
        ({"name": "../up"}, BadConfig, "name cannot be an avatar's"),
        ({"name": ""}, BadConfig, "name cannot be an avatar's"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_requests_are_refused_before_they_wait(
    client: BackendClient, capture: Path, change: dict[str, object], kind: type[EffigyError], sentence: str
) -> None:
    before = len(client.request(m.ListJobs()).jobs)
    with pytest.raises(kind, match=sentence) as caught:
        client.request(replace(training(capture, "bad"), **change), timeout_s=TIMEOUT_S)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert len(client.request(m.ListJobs()).jobs) == before


def test_a_capture_with_unequal_counts_is_one_sentence(client: BackendClient, capture: Path, tmp_path: Path) -> None:
    shutil.copytree(capture, tmp_path / "uneven")
    with np.load(capture / "parameters.npz") as file:
        arrays = dict(file)
    arrays["expressions"] = arrays["expressions"][:-1]
    np.savez(tmp_path / "uneven" / "parameters.npz", **arrays)
    with pytest.raises(BadCapture, match=r"expressions") as caught:
        client.request(training(tmp_path / "uneven", "uneven"), timeout_s=TIMEOUT_S)
    assert "\n" not in str(caught.value)


def test_a_capture_of_another_template_is_one_sentence(client: BackendClient, capture: Path, tmp_path: Path) -> None:
    shutil.copytree(capture, tmp_path / "other")
    document = json.loads((capture / "capture.json").read_text())
    document["template"]["digest"] = "00" * 32
    (tmp_path / "other" / "capture.json").write_text(json.dumps(document))
    with pytest.raises(EffigyError, match="template") as caught:
        client.request(training(tmp_path / "other", "other"), timeout_s=TIMEOUT_S)
    assert "\n" not in str(caught.value)


def test_a_damaged_picture_is_named_by_the_failed_job(client: BackendClient, capture: Path, tmp_path: Path) -> None:
    shutil.copytree(capture, tmp_path / "damaged")
    picture = sorted((tmp_path / "damaged" / "images").iterdir())[-1]
    picture.write_bytes(picture.read_bytes()[:40])
    job = client.request(training(tmp_path / "damaged", "damaged"), timeout_s=TIMEOUT_S)
    job = job_when(client, job.job_id, lambda it: it.state == "failed")
    assert picture.name in job.message


def test_a_job_survives_the_kill_of_the_server(tmp_path: Path, capture: Path) -> None:
    first = start_server(home=tmp_path, device="cpu", key="")
    try:
        with BackendClient(first.address) as client:
            job = client.request(training(capture, "k", **LONG), timeout_s=TIMEOUT_S)
            reached = job_when(client, job.job_id, lambda job: job.step >= 10).step
            worker = worker_of(first, "backend.train_worker")
        os.kill(first.process.pid, signal.SIGKILL)
        worker.wait(60)
    finally:
        first.stop()
    with running_server(home=tmp_path, device="cpu", key="") as second, BackendClient(second.address) as client:
        resumed = job_when(client, job.job_id, lambda job: job.state == "running" and job.step > 0)
        assert resumed.step >= reached // 8 * 8 - 8


def test_stopping_the_server_writes_a_last_checkpoint_and_leaves_nobody(tmp_path: Path, capture: Path) -> None:
    running = start_server(home=tmp_path, device="cpu", key="")
    try:
        with BackendClient(running.address) as client:
            slow = {**LONG, "reporting.checkpoint_images": "100000"}
            job = client.request(training(capture, "k", **slow), timeout_s=TIMEOUT_S)
            job_when(client, job.job_id, lambda job: job.step > 0)
        family = psutil.Process(running.process.pid).children(recursive=True)
        checkpoints = tmp_path / "jobs" / job.job_id / "checkpoints"
        assert not checkpoints.exists() or not list(checkpoints.iterdir())
    finally:
        running.stop()
    assert list(checkpoints.iterdir())
    _, alive = psutil.wait_procs(family, 60)
    assert not alive
    assert Journal(tmp_path / "jobs" / "journal.jsonl").records[job.job_id].state == "queued"


def test_a_worker_that_always_crashes_is_given_up_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_jobs, "RESTART_AFTER_S", (0.01, 0.02, 0.03))
    told: list[m.JobInfo] = []

    def start(record: JobRecord) -> Worker:
        return Worker("no_such_module", "train", "ipc://@nowhere", [], tmp_path / "worker.log")

    jobs = TrainingJobs(Journal(tmp_path / "journal.jsonl"), start, lambda *_: None, told.append)
    job = jobs.start(m.StartTraining("k", "Anna", "demo_head", "tiny"))
    until = time.monotonic() + TIMEOUT_S
    while jobs.info(job.job_id).state != "failed" and time.monotonic() < until:
        jobs.tick()
        time.sleep(0.01)
    end = jobs.info(job.job_id)
    assert end.state == "failed"
    assert "4 times" in end.message
    assert "No module named no_such_module" in end.message
    assert [event.state for event in told][:2] == ["queued", "running"]
    assert jobs.change(m.ChangeJob(job.job_id, "resume")).state == "queued"
