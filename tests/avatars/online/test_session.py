"""A live training on a tiny capture, played back: it learns, can be rendered meanwhile, paused, stopped and saved."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zmq

from avatars.avatar_folder import load_avatar
from avatars.captures.capture import Capture
from avatars.captures.opening import open_capture
from avatars.online.config import OnlineConfig, load_online_config
from avatars.online.push import PushSource
from avatars.online.replay import CaptureReplay
from avatars.online.session import Session, draw
from avatars.rgb_head.objective import HeadObjective
from shared import wire
from shared.errors import EffigyError
from shared.track_messages import TrackBegins, TrackEnds, TrackFrame
from tests.tiny import tiny_capture

TIMEOUT_S = 150.0


@pytest.fixture(scope="module")
def capture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_capture(tmp_path_factory.mktemp("captures") / "tiny", size=48, frames=8, cameras=2, gaussians=600)


def session_of(folder: Path, fps: float = 50.0, output: Path | None = None, **overrides: str) -> Session:
    config: OnlineConfig = load_online_config("online_tiny", overrides)
    source = CaptureReplay(open_capture(folder), fps=fps, longest_px=config.frame_px)
    return Session(source, config, "cpu", output)


def wait_for(good: Callable[[], bool], session: Session) -> None:
    until = time.monotonic() + TIMEOUT_S
    while not good():
        assert session.failure is None, session.failure
        assert time.monotonic() < until, session.status
        time.sleep(0.01)


def test_a_replay_becomes_an_avatar(capture_folder: Path, tmp_path: Path) -> None:
    session = session_of(capture_folder, 12.0, tmp_path / "run", post_process_images="60")
    session.start()
    wait_for(session.over, session)
    status = session.status
    assert status.learner.state == "done"
    assert status.arrived == status.learner.frames == status.expected == 12
    assert status.left_out == {}
    assert status.learner.images >= 60 + 2
    digest = session.save(tmp_path / "run" / "Ada.avatar", "Ada")
    session.close()
    avatar = load_avatar(tmp_path / "run" / "Ada.avatar")
    assert len(digest) == 64
    assert avatar.method == "rgb_head"
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {"Ada.avatar", "online.yaml", "sample.txt", "step2frame.txt", "speed.txt"}
    samples = [list(map(int, line.split())) for line in (tmp_path / "run" / "sample.txt").read_text().splitlines()]
    newest = [int(line) for line in (tmp_path / "run" / "step2frame.txt").read_text().splitlines()]
    assert len(samples) == len(newest) == status.learner.steps
    assert all(len(set(row)) == 2 and max(row) <= now for row, now in zip(samples, newest, strict=True))
    assert newest == sorted(newest)
    assert newest[-1] == 11
    assert f"iterations: {status.learner.steps}" in (tmp_path / "run" / "speed.txt").read_text()
    assert load_online_config(str(tmp_path / "run" / "online.yaml")) == session.config


def test_it_learns_what_it_is_shown(capture_folder: Path) -> None:
    session = session_of(capture_folder, 100.0, post_process_images="600")
    session.start()
    wait_for(lambda: session.learner is not None and session.status.learner.images > 0, session)
    assert session.learner is not None

    def error() -> float:
        assert session.learner is not None
        with session.learner.read() as snapshot:
            frame = session.learner.newest()
            assert frame is not None
            rgba = frame.rgba.float() / 255
            drawn = draw(snapshot.avatar, frame)
            return float(
                (drawn.features[0] - rgba[..., :3]).abs().mean() + (drawn.alpha[0] - rgba[..., 3]).abs().mean()
            )

    early = error()
    wait_for(session.over, session)
    assert error() < 0.6 * early
    picture = session.preview()
    assert picture is not None
    assert picture.shape == (40, 80, 3)
    assert np.abs(picture[:, :40].astype(int) - picture[:, 40:]).mean() < 25
    session.close()


def test_snapshots_are_whole_while_others_are_written(capture_folder: Path) -> None:
    session = session_of(capture_folder, 100.0, post_process_images="800", snapshot_every="1")
    session.start()
    wait_for(lambda: session.learner is not None, session)
    learner = session.learner
    assert learner is not None
    versions, problems = set(), []

    def look() -> None:
        while not session.over():
            with learner.read() as snapshot:
                model = snapshot.avatar.model
                before = [parameter.clone() for parameter in model.parameters()]
                time.sleep(0.005)
                after = list(model.parameters())
                if not all(torch.equal(one, other) for one, other in zip(before, after, strict=True)):
                    problems.append(snapshot.version)
                versions.add(snapshot.version)

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    wait_for(session.over, session)
    for reader in readers:
        reader.join()
    session.close()
    assert problems == []
    assert len(versions) > 5
    with learner.read() as last:
        assert last.images == session.status.learner.images, "the last version holds everything"


def test_pause_resume_and_stop(capture_folder: Path, tmp_path: Path) -> None:
    session = session_of(capture_folder, 1.0)
    session.start()
    wait_for(lambda: session.status.learner.images > 4, session)
    session.pause()
    wait_for(lambda: session.status.learner.state == "paused", session)
    images, arrived = session.status.learner.images, session.status.arrived
    wait_for(lambda: session.status.arrived > arrived, session)  # frames are still taken
    assert session.status.learner.images == images
    session.save(tmp_path / "Half.avatar", "Half")
    assert load_avatar(tmp_path / "Half.avatar").rig().joint_names
    session.resume()
    wait_for(lambda: session.status.learner.images > images, session)
    session.close()
    assert session.status.learner.state == "done"
    assert session.status.arrived < session.status.expected


@pytest.mark.parametrize("budget", [{"max_steps_per_frame": "2"}, {"max_ms_per_frame": "1"}], ids=str)
def test_budgets_bound_what_is_learned_for_a_frame(capture_folder: Path, budget: dict[str, str]) -> None:
    session = session_of(capture_folder, 20.0, **budget)
    session.start()
    wait_for(session.over, session)
    status = session.status.learner
    session.close()
    if "max_steps_per_frame" in budget:
        assert 0 < status.steps <= 2 * status.frames
    else:
        assert 0 < status.steps <= status.frames


def test_frames_whose_mesh_lies_elsewhere_are_rejected_and_counted(capture_folder: Path) -> None:
    session = session_of(capture_folder, 200.0)
    good = session.source.next

    def moved(timeout_s: float):
        frame = good(timeout_s)
        if frame is None or frame.number % 3:
            return frame
        return replace(frame, rgba=np.roll(frame.rgba, 24, axis=1))

    session.source.next = moved  # type: ignore[method-assign]
    session.start()
    wait_for(session.over, session)
    session.close()
    assert session.status.left_out == {"the mesh does not cover what the mask shows": 4}
    assert session.status.learner.frames == 8


def test_a_stream_that_ends_too_soon_leaves_nothing_to_save(capture_folder: Path, tmp_path: Path) -> None:
    session = session_of(capture_folder, 200.0, **{"training.schedule.batch": "30", "sampler.ring": "30"})
    session.start()
    wait_for(session.over, session)
    with pytest.raises(EffigyError, match="nothing to save yet"):
        session.save(tmp_path / "None.avatar", "None")
    session.close()
    assert not (tmp_path / "None.avatar").exists()


def test_frames_that_a_tracker_pushes_are_learned_until_it_ends(capture_folder: Path, tmp_path: Path) -> None:
    capture = open_capture(capture_folder)
    source = PushSource("tcp://127.0.0.1:0")
    session = Session(source, load_online_config("online_tiny", {"post_process_images": "20"}), "cpu")
    session.start()
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.connect(source.address)
        reference = capture.template
        shape = np.zeros(0, np.float32)
        names = reference.template_id, "", reference.view, reference.preset, shape
        for message in (
            TrackBegins("Ada", *names, capture.joint_names, capture.expression_names, "CC0-1.0"),
            *(tracked(capture, number) for number in range(8)),
            replace(tracked(capture, 3), number=9, image=np.zeros((40, 40), np.uint8)),
            TrackEnds(),
        ):
            push.send_multipart(wire.encode(message))
    wait_for(session.over, session)
    status = session.status
    assert (status.learner.state, status.learner.frames) == ("done", 8)
    assert status.left_out == {"a picture is not [H, W, 4] uint8": 1}
    session.save(tmp_path / "Ada.avatar", "Ada")
    session.close()
    assert load_avatar(tmp_path / "Ada.avatar").template() == reference


def tracked(capture: Capture, number: int) -> TrackFrame:
    """A training image as a tracker would push it."""
    index = capture.split("train")[number]
    camera, pose = capture.camera_of(index), capture.motion.at(capture.images[index].frame)
    rgba = capture.rgba(index).astype(np.float32)
    straight = np.where(rgba[..., 3:] > 0, rgba[..., :3] * 255 / np.maximum(rgba[..., 3:], 1), 0)
    image = np.concatenate((straight, rgba[..., 3:]), -1).clip(0, 255).astype(np.uint8)
    parts = image, camera.K, camera.world_from_camera, pose.rotations, pose.translation, pose.expression
    return TrackFrame(number, number / 25, *parts, np.zeros((0, 3), np.float32))


def test_a_learner_that_breaks_ends_the_run_with_its_error(
    capture_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> dict[str, torch.Tensor]:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(HeadObjective, "losses", broken)
    session = session_of(capture_folder, 100.0)
    session.start()
    until = time.monotonic() + TIMEOUT_S
    while not session.over() and time.monotonic() < until:
        time.sleep(0.01)
    session.close()
    assert session.status.learner.state == "failed"
    assert "the device is gone" in str(session.failure)


def test_values_that_are_not_finite_are_never_shown(capture_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(capture_folder, 100.0, post_process_images="400")
    first = HeadObjective.first_colours

    def spoil(self: HeadObjective, *given: object) -> None:
        first(self, *given)  # type: ignore[arg-type]
        assert session.learner is not None
        if session.learner.status.images > 60:
            self.model.positions.data.fill_(float("nan"))

    monkeypatch.setattr(HeadObjective, "first_colours", spoil)
    session.start()
    until = time.monotonic() + TIMEOUT_S
    while not session.over() and time.monotonic() < until:
        time.sleep(0.01)
    session.close()
    assert "diverged" in str(session.failure)
    assert session.learner is not None
    with session.learner.read() as snapshot:
        assert snapshot.images > 0
        assert torch.isfinite(snapshot.avatar.model.positions).all()
