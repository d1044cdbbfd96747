"""Following live: pictures in, frames out over a real socket into a live training; the stand-in for the detector's and
the camera's processes is a real process too."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
import zmq

from avatars.captures.opening import open_capture
from avatars.formats.motions import read_motion
from avatars.online.config import load_online_config
from avatars.online.push import PushSource
from avatars.online.session import Session
from avatars.templates.opening import embedded_template
from avatars.templates.rig import rig_of
from avatars.tracking.live import LiveSettings
from backend.cli import main
from backend.launcher import running_server
from backend.live_pictures import Camera, VideoAtItsSpeed, open_live
from backend.live_source import TrackerSource
from backend.live_tracking import TRACKED_JOINTS, LiveFrame, LiveTracker, Pusher
from backend.tracker_environment import OVERRIDE
from shared import wire
from shared.client import BackendClient
from shared.desk_messages import GetStatus
from shared.errors import BadCapture, NotAllowed, WorkerFailed
from shared.messages import ChangeJob, GetJobPreview
from shared.track_messages import StartDrive, StartTrack, TrackBegins, TrackFrame
from tests.jobs import job_when
from tests.stand_in_tracker import Faces, grey_video, mask_of, stand_in_python

QUICK = LiveSettings(start_s=0.4, start_frames=8)
FPS, PICTURES = 25.0, 40


class Detected:
    """The stand-in in this process."""

    def __init__(self) -> None:
        self.all, self.asked = Faces(), 0

    def faces(self, picture: np.ndarray) -> np.ndarray:
        self.asked += 1
        return self.all.of(self.asked - 1, picture.shape[1], picture.shape[0])[None]

    def mask(self, picture: np.ndarray) -> np.ndarray:
        return mask_of(picture.shape[1], picture.shape[0])


class Pictures:
    size_px, fps, dropped = (160, 120), FPS, 0

    def __init__(self, count: int) -> None:
        self.left, self.count = count, count

    def next(self) -> tuple[float, np.ndarray] | None:
        self.left -= 1
        place = self.count - self.left - 1
        return (place / FPS, np.full((120, 160, 3), 90, np.uint8)) if self.left >= 0 else None

    def close(self) -> None:
        self.left = 0


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grey_video(tmp_path_factory.mktemp("clip") / "talk.mp4", PICTURES)


def test_followed_pictures_arrive_in_a_live_training(tmp_path: Path) -> None:
    source = PushSource("tcp://127.0.0.1:0")
    config = load_online_config("online_tiny", {"min_mask_iou": "0.05"})
    session = Session(source, config, "cpu", tmp_path / "run")
    session.start()
    tracker = LiveTracker(Pictures(100_000), Detected(), settings=QUICK)
    said: list[str] = []
    try:
        with Pusher(source.address, tracker, "Ada", "CC0-1.0") as push:

            def take(frame: LiveFrame) -> None:
                push(frame)
                time.sleep(0.01)
                if session.status.learner.images or session.failure is not None:
                    tracker.stop.set()

            tracker.run(take, said.append)
        until = time.monotonic() + 150
        while not session.over() and time.monotonic() < until:
            time.sleep(0.02)
        assert session.failure is None
        status = session.status
        assert tracker.followed == push.sent + push.dropped
        assert status.arrived == push.sent >= 2
        assert status.left_out == {}
        assert status.learner.images > 0
        assert any(text.startswith("Following") for text in said)
        assert source.subject is not None
        assert source.subject.name == "Ada"
        assert session.save(tmp_path / "Ada.avatar", "Ada")
    finally:
        session.close()


def test_a_pushed_frame_is_the_pose_and_the_cut_out() -> None:
    source, frames = PushSource("tcp://127.0.0.1:0"), []
    tracker = LiveTracker(Pictures(30), Detected(), settings=QUICK)
    try:
        with Pusher(source.address, tracker, "Ada") as push:

            def take(frame: LiveFrame) -> None:
                push(frame)
                got = source.next(30.0)
                if got is not None:
                    frames.append((frame, got))

            tracker.run(take)
        assert source.next(30.0) is None
        assert source.ended()
    finally:
        source.close()
    sent, got = frames[-1]
    bust = tracker.bust
    rows = [bust.joint(name) for name in TRACKED_JOINTS]
    np.testing.assert_allclose(got.pose.rotations[rows], sent.track.pose.rotations[rows])
    np.testing.assert_allclose(got.pose.expression, sent.track.pose.expression)
    np.testing.assert_allclose(got.camera.K, sent.K)
    assert got.rgba.shape[0] == got.rgba.shape[1] <= 120
    assert got.rgba[..., 3].max() == 255


def test_the_command_records_a_motion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(OVERRIDE, str(stand_in_python(tmp_path)))
    video, recording = grey_video(tmp_path / "talk.mp4", 90), tmp_path / "talk.npz"
    assert main(["live", str(video), "--record", str(recording), "--fps", "30", "--calm", "0.5"]) == 0
    assert "Recorded" in capsys.readouterr().err
    bust = embedded_template("bust")
    motion = read_motion(recording, rig_of(bust, torch.tensor(bust.joints), ()))
    assert motion.fps == 30
    assert 4 <= len(motion) <= 100  # at the scene's rate, from the end of the calm look on
    assert np.ptp(motion.rotations[:, bust.joint("jaw"), 0]) > 0.01
    assert main(["live", str(video), "--record", str(recording), "--calm", "9", "--seconds", "1"]) == 2
    assert "Nothing was recorded" in capsys.readouterr().err
    assert main(["live", str(video), "--calm", "0"]) == 2


def test_a_tracker_that_cannot_begin_says_why() -> None:
    source = TrackerSource("no.mp4", "Ada")
    try:
        with pytest.raises(WorkerFailed, match="there is no video"):
            last_word(source)
    finally:
        source.close()
        source.close()


def last_word(source: TrackerSource) -> None:
    for _ in range(300):
        source.next(0.1)


def test_a_camera_hands_over_its_newest_picture(tmp_path: Path) -> None:
    python = stand_in_python(tmp_path)
    with pytest.raises(BadCapture, match="no such camera"):
        Camera(3, python)
    with pytest.raises(BadCapture, match="there is no video"):
        open_live(str(tmp_path / "no.mp4"), python)
    camera = open_live("0", python)
    try:
        assert (camera.size_px, camera.fps) == ((160, 120), 25.0)
        first, second = camera.next(), camera.next()
        assert first is not None
        assert second is not None
        assert first[1].shape == (120, 160, 3)
        assert 0.02 < second[0] - first[0] < 20
        time.sleep(0.3)
        camera.next()
        assert camera.dropped >= 3  # nobody wanted those
    finally:
        camera.close()
        camera.close()


def test_a_video_plays_at_its_own_speed(video: Path) -> None:
    clip = VideoAtItsSpeed(video)
    try:
        began = time.monotonic()
        assert clip.next() is not None
        time.sleep(0.4)
        late = clip.next()
        assert late is not None
        assert late[0] >= 0.3  # what was missed is left out
        assert clip.dropped >= 6
        while clip.next() is not None:
            pass
        assert time.monotonic() - began >= (PICTURES - 1) / FPS
    finally:
        clip.close()


def test_the_server_tracks_and_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture of a video as a job that can be stopped and goes on, and poses of a camera pushed to a client."""
    monkeypatch.setenv(OVERRIDE, str(stand_in_python(tmp_path)))
    video = grey_video(tmp_path / "talk.mp4", 14)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    taken = context.socket(zmq.PULL)
    port = taken.bind_to_random_port("tcp://127.0.0.1")
    home = tmp_path / "home"
    with running_server(home=home, device="cpu", key="") as running, BackendClient(running.address, name="t") as client:
        assert client.request(GetStatus()).tracker == ""
        tracked = client.request(StartTrack("t1", str(video), str(tmp_path / "out"), 32.0, size_px=64, subject="Ada"))
        assert (tracked.kind, tracked.name, tracked.capture) == ("track", "Track talk.mp4", str(tmp_path / "out"))
        assert client.request(StartTrack("t1", str(video), str(tmp_path / "out"))).job_id == tracked.job_id
        client.request(ChangeJob(tracked.job_id, "cancel"))
        with pytest.raises(NotAllowed):
            client.request(StartDrive("d0", "0", "tcp://10.0.0.1:5000"))
        driven = client.request(StartDrive("d1", "0", f"tcp://127.0.0.1:{port}", 32.0))
        assert taken.poll(60_000)
        begins = wire.decode(taken.recv_multipart()).message
        assert isinstance(begins, TrackBegins)
        assert begins.joint_names == TRACKED_JOINTS
        assert taken.poll(60_000)
        frame = wire.decode(taken.recv_multipart()).message
        assert isinstance(frame, TrackFrame)
        assert frame.image.size == 0
        assert client.request(ChangeJob(driven.job_id, "cancel")).state == "cancelled"
        job_when(client, tracked.job_id, lambda job: job.state == "cancelled")
        until = time.monotonic() + 150
        while client.request(ChangeJob(tracked.job_id, "resume")).state == "cancelled":
            assert time.monotonic() < until
            time.sleep(0.1)
        done = job_when(client, tracked.job_id, lambda job: job.state in ("done", "failed"))
        assert done.state == "done", done.message
        assert done.message == "14 of 14 pictures kept"
        assert any(finding.name == "film again" for finding in done.findings)
        assert client.request(GetJobPreview(tracked.job_id)).image.size
        assert open_capture(Path(done.capture)).subject == "Ada"
    context.destroy(linger=0)
