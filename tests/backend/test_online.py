"""Live trainings through the server: real processes, rendered while they learn, paused, saved, stopped, killed."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avatars.avatar_folder import load_avatar
from backend.jobs import JobRecord, Journal
from backend.launcher import RunningServer, running_server
from backend.library import Library
from backend.online_jobs import AUTOSAVE, RESULT, LiveDesk, OnlineJobs
from backend.workers import Worker
from shared import messages as m
from shared.client import BackendClient
from shared.errors import BadCapture, BadConfig, EffigyError, NotAllowed, NotFound
from tests.backend.test_rendering import request_for
from tests.backend.test_server import worker_of
from tests.jobs import job_when
from tests.tiny import tiny_capture

TIMEOUT_S = 150.0


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_capture(tmp_path_factory.mktemp("captures") / "tiny_live", size=48, frames=40, cameras=1, gaussians=600)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, avatar_folder: Path) -> Path:
    made = tmp_path_factory.mktemp("live")
    shutil.copytree(avatar_folder, made / "library" / "tiny.avatar")
    return made


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[RunningServer]:
    with running_server(home=home, device="cpu", key="") as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[BackendClient]:
    with BackendClient(server.address, name="test") as connected:
        yield connected


def live(capture: Path, key: str, fps: float = 4.0, **change: object) -> m.StartOnline:
    asked = m.StartOnline(key, "Live Person", "capture", str(capture), preset="online_tiny", video_fps=fps)
    return replace(asked, **change)  # type: ignore[arg-type]


def picture(client: BackendClient, detail: m.AvatarDetail, *others: m.AvatarInstance) -> np.ndarray:
    request = request_for(detail, 48, passes=("combined",))
    person = replace(request.instances[0], avatar_id=detail.summary.avatar_id, digest=detail.summary.digest)
    frame = client.render(replace(request, instances=(person, *others)), timeout_s=TIMEOUT_S)
    return frame.passes["combined"].astype(np.float32)


def test_an_avatar_is_seen_while_it_learns_and_becomes_an_ordinary_one(
    client: BackendClient, capture: Path, home: Path, tmp_path: Path
) -> None:
    job = client.request(live(capture, "k1", 1.0), timeout_s=TIMEOUT_S)
    assert (job.kind, job.state) == ("online", "running")
    assert client.request(live(capture, "k1"), timeout_s=TIMEOUT_S).job_id == job.job_id
    live_id = job_when(client, job.job_id, lambda job: job.avatar_id != "").avatar_id
    assert live_id == f"live-{job.job_id}"
    listed = client.request(m.ListAvatars()).avatars
    assert [avatar.avatar_id for avatar in listed] == [live_id, "tiny"]
    assert "learning" in listed[0].name
    detail = client.request(m.GetAvatar(live_id), timeout_s=TIMEOUT_S)
    assert detail.summary.digest == listed[0].digest
    assert len(detail.rig.joint_names) == len(detail.rest_pose)
    assert detail.proxy.vertices.shape[1] == 3
    pictures = []
    for _ in range(12):
        pictures.append(picture(client, detail))
        time.sleep(0.1)
    assert all(np.isfinite(image).all() and image[..., 3].max() > 0.5 for image in pictures)
    changes = [np.abs(later - earlier).max() for earlier, later in itertools.pairwise(pictures)]
    assert sum(change > 0 for change in changes) >= 4, changes
    # an ordinary avatar is still rendered, alone and beside the one that learns
    tiny = client.request(m.GetAvatar("tiny"), timeout_s=TIMEOUT_S)
    beside = request_for(tiny).instances[0]
    both = picture(client, detail, replace(beside, world_from_avatar=np.eye(4)[None] + 0.05 * np.eye(4, k=3)[None]))
    assert np.isfinite(both).all()
    assert client.render(request_for(tiny), timeout_s=TIMEOUT_S).passes["combined"].any()
    shown = client.request(m.GetJobPreview(job.job_id)).image
    assert shown.shape == (40, 80, 3)
    # pause, resume, save
    client.request(m.ChangeJob(job.job_id, "pause"))
    job_when(client, job.job_id, lambda job: job.state == "paused" and job.message.startswith("Paused"))
    still = [picture(client, detail) for _ in range(2)]
    assert (still[0] == still[1]).all()
    assert client.request(m.ChangeJob(job.job_id, "resume")).state == "running"
    client.request(m.ChangeJob(job.job_id, "save"))
    saved = job_when(client, job.job_id, lambda job: "Saved as" in job.message)
    assert saved.state == "running"
    assert (home / "library" / "Live_Person.avatar").is_dir()
    with pytest.raises(EffigyError, match="Another live training runs"):
        client.request(live(capture, "k2"), timeout_s=TIMEOUT_S)
    with pytest.raises(EffigyError, match="no action 'halt'"):
        client.request(m.ChangeJob(job.job_id, "halt"))
    # stop
    client.request(m.ChangeJob(job.job_id, "stop"))
    done = job_when(client, job.job_id, lambda job: job.state == "done")
    assert done.avatar_id.startswith("Live_Person-")
    assert load_avatar(home / "library" / f"{done.avatar_id}.avatar").rig().joint_names == detail.rig.joint_names
    report = Path(done.report_folder)
    assert {"online.yaml", "sample.txt", "step2frame.txt", "speed.txt"} == {path.name for path in report.iterdir()}
    with pytest.raises(NotFound, match=f"finished learning and is the avatar '{done.avatar_id}'"):
        picture(client, detail)
    with pytest.raises(NotFound, match="finished learning"):
        client.request(m.GetAvatar(live_id))
    assert live_id not in [avatar.avatar_id for avatar in client.request(m.ListAvatars()).avatars]
    ordinary = client.request(m.GetAvatar(done.avatar_id), timeout_s=TIMEOUT_S)
    assert picture(client, ordinary)[..., 3].max() > 0.5
    assert client.request(m.ChangeJob(job.job_id, "stop")).state == "done"


def test_a_killed_learner_leaves_the_server_up_and_says_so(
    server: RunningServer, client: BackendClient, capture: Path
) -> None:
    job = client.request(live(capture, "killed"), timeout_s=TIMEOUT_S)
    live_id = job_when(client, job.job_id, lambda job: job.avatar_id != "").avatar_id
    worker_of(server, "backend.online_worker").kill()
    failed = job_when(client, job.job_id, lambda job: job.state == "failed")
    assert "signal 9" in failed.message
    with pytest.raises(NotFound, match="learns no more and was not kept"):
        client.request(m.GetAvatar(live_id))
    cancelled = client.request(live(capture, "cancelled"), timeout_s=TIMEOUT_S)
    job_when(client, cancelled.job_id, lambda job: job.step > 0)
    client.request(m.ChangeJob(cancelled.job_id, "cancel"))
    assert job_when(client, cancelled.job_id, lambda job: job.state == "cancelled").avatar_id == ""


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"source": "captur"}, BadConfig, "no source 'captur', did you mean 'capture'"),
        ({"location": "demo_hat"}, BadCapture, "no capture 'demo_hat'"),
        ({"camera": "77"}, BadCapture, "no camera '77'"),
        ({"preset": "onlin"}, BadConfig, "no online preset 'onlin', did you mean 'online'"),
        ({"overrides": {"sampler.rin": "3"}}, BadConfig, "sampler has no setting 'rin', did you mean 'ring'"),
        ({"overrides": {"sampler.ring": "1"}}, BadConfig, "sampler.ring does not fit"),
        ({"source": "listen", "location": "tcp://0.0.0.0:5"}, NotAllowed, "from this machine only"),
        ({"source": "video", "location": "a.mp4", "track": "b.npz"}, BadCapture, "b.npz cannot be read"),
        ({"name": "../up"}, BadConfig, "name cannot be an avatar's"),
        ({"video_fps": -1.0}, BadConfig, "video_fps is out of range"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_requests_are_one_sentence(
    client: BackendClient, capture: Path, change: dict[str, object], kind: type[EffigyError], sentence: str
) -> None:
    before = len(client.request(m.ListJobs()).jobs)
    with pytest.raises(kind, match=sentence) as caught:
        client.request(live(capture, "bad", **change), timeout_s=TIMEOUT_S)
    assert "\n" not in str(caught.value)
    assert len(client.request(m.ListJobs()).jobs) == before


def test_what_a_learner_stored_before_the_backend_died_is_kept(avatar_folder: Path, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    for job_id in ("stored", "lost", "finished"):
        journal.put(JobRecord(job_id, job_id, "Ada", "c", "online_tiny", state="running", kind="online"))
    journal.put(JobRecord("train", "train", "Bob", "c", "tiny", state="running"))
    shutil.copytree(avatar_folder, tmp_path / "jobs" / "stored" / AUTOSAVE)
    shutil.copytree(avatar_folder, tmp_path / "library" / "Ada-1.avatar")
    (tmp_path / "jobs" / "finished").mkdir()
    (tmp_path / "jobs" / "finished" / RESULT).write_text('{"avatar_id": "Ada-1"}')
    told: list[m.JobInfo] = []
    again = Journal(tmp_path / "journal.jsonl")
    jobs = OnlineJobs(
        again,
        Library(tmp_path / "library"),
        tmp_path / "jobs",
        LiveDesk(no_worker, lambda *_: None, lambda *_: None, lambda *_: None),
        no_worker,
        lambda *_: None,
        told.append,
    )
    assert again.records["train"].state == "queued"
    ended = {job_id: jobs.info(job_id) for job_id in ("stored", "lost", "finished")}
    assert {info.state for info in ended.values()} == {"failed"}
    assert {job_id: info.avatar_id for job_id, info in ended.items()} == {
        "stored": "Ada",
        "lost": "",
        "finished": "Ada-1",
    }
    assert load_avatar(tmp_path / "library" / "Ada.avatar").method == "rgb_head"
    with pytest.raises(NotFound, match="is the avatar 'Ada' of the library now"):
        jobs.summary("live-stored")
    with pytest.raises(NotFound, match="was not kept"):
        jobs.summary("live-lost")
    with pytest.raises(EffigyError, match="Ada is over"):
        jobs.change(m.ChangeJob("stored", "resume"))


def no_worker(*_: object) -> Worker:
    raise AssertionError("nothing is started")
