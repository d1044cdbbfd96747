"""A face that is followed live: its poses come over a real socket onto the armature, and become keys when asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zmq

from blender_addon.logic.link import LinkState
from blender_addon.logic.performer import DRIVEN, LivePose, as_motion
from blender_addon.services import curves, rig_info
from blender_addon.services.connection import CONNECTION
from blender_addon.services.performing import PERFORMING, show
from blender_addon.services.rig_build import add_avatar
from blender_addon.services.tracking import choose_when_done, why_not
from blender_addon.ui.panels_track import draw_live, draw_track
from blender_addon.ui.panels_train import shown_elsewhere
from shared import desk_messages, messages, wire
from shared.track_messages import TrackBegins, TrackEnds, TrackFrame

from . import people
from .drawn import Layout

NAMES = ("jawOpen", "mouthSmileLeft", "mouthSmileRight", "notOurs")


def head_and_shoulders(addon) -> object:
    avatar = add_avatar(addon.context, people.detail(people.bust()))
    addon.context.view_layer.objects.active = avatar
    return avatar


class Tracker:
    """The pushing end."""

    def __init__(self, address: str) -> None:
        self.context: zmq.Context = zmq.Context()
        self.socket = self.context.socket(zmq.PUSH)
        self.socket.connect(address)
        self.sent = 0

    def __call__(self, message: object) -> None:
        self.socket.send_multipart(wire.encode(message))

    def begin(self, joints: tuple[str, ...] = ("left_collar", *DRIVEN)) -> None:
        self(TrackBegins("Ada", "effigy_human", "", "bust", "", np.zeros(0, np.float32), joints, NAMES))

    def pose(self, time_s: float, yaw: float, jaw: float, smile: float) -> None:
        rotations = np.zeros((6, 3), np.float32)
        rotations[0], rotations[2, 2], rotations[3, 0] = 9.0, yaw, jaw  # collars are not ours to move
        weights = np.array([0, smile, smile, 1], np.float32)
        image, none = np.zeros((0, 0, 4), np.uint8), np.zeros((0, 3), np.float32)
        self(TrackFrame(self.sent, time_s, image, np.eye(3), np.eye(4), rotations, np.zeros(3), weights, none))
        self.sent += 1


@pytest.fixture
def tracker(addon) -> Iterator[Tracker]:
    avatar = head_and_shoulders(addon)
    made = Tracker(PERFORMING.begin(avatar))
    yield made
    PERFORMING.end()
    made.context.destroy(linger=0)


def wait(good) -> None:
    until = time.monotonic() + 90
    while not good():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_poses_drive_the_armature_and_are_keyed_at_the_scenes_rate(addon, tracker: Tracker) -> None:
    avatar, performer, scene = PERFORMING.avatar(), PERFORMING.performer, addon.context.scene
    scene.render.fps, scene.frame_current = 24, 11
    keys = rig_info.proxy_of(avatar).data.shape_keys
    assert addon.ops.effigy.record_live() == {"CANCELLED"}  # begins: no undo step yet
    tracker.begin(("head",))
    wait(lambda: performer.problem)  # not a face's
    tracker.begin()
    for place in range(26):
        tracker.pose(5.0 + place / 25, 0.02 * place, 0.01 * place, min(1.0, place / 10))
    wait(lambda: performer.newest is not None and performer.newest.number == 25)
    assert PERFORMING.tick() > 0
    head = avatar.pose.bones["head"].rotation_quaternion
    assert 2 * np.arccos(abs(head[0])) == pytest.approx(0.5, abs=1e-4)
    assert keys.key_blocks["mouthSmileLeft"].value == pytest.approx(1)
    collar = avatar.pose.bones["left_collar"].rotation_quaternion
    assert abs(collar[0]) == pytest.approx(1)
    assert curves.curves_of(avatar) == []
    assert addon.ops.effigy.record_live() == {"FINISHED"}
    found = {(curve.data_path, curve.array_index): curve for curve in curves.curves_of(avatar)}
    assert {path.split('"')[1] for path, _ in found} == set(DRIVEN)
    real = found['pose.bones["head"].rotation_quaternion', 0]
    frames = [point.co.x for point in real.keyframe_points]
    assert frames == list(range(11, 11 + 25))  # one second at 24 frames
    turn = [2 * np.arccos(min(1.0, abs(real.evaluate(frame)))) for frame in (11, 17, 35)]
    np.testing.assert_allclose(turn, [0, 0.02 * 25 * 6 / 24, 0.5], atol=2e-3)
    smile = next(curve for curve in curves.curves_of(keys) if "mouthSmileLeft" in curve.data_path)
    assert smile.evaluate(11 + 12) == pytest.approx(1.0)
    assert not any("notOurs" in curve.data_path for curve in curves.curves_of(keys))
    assert not PERFORMING.recording
    assert addon.ops.effigy.record_live() == {"CANCELLED"}
    scene.effigy_live.tolerance = 0.01
    for place in range(26):
        tracker.pose(9.0 + place / 25, 0.02 * place, 0.0, 0.5)
    wait(lambda: performer.newest.number == 51)
    addon.ops.effigy.record_live()
    fewer = next(c for c in curves.curves_of(avatar) if '"head"' in c.data_path and c.array_index == 0)
    assert 2 <= len(fewer.keyframe_points) < 12  # an even turn needs few keys
    tracker(TrackEnds())
    wait(lambda: performer.over)


def test_recording_nothing_says_so_and_a_lost_avatar_is_no_fault(addon, tracker: Tracker) -> None:
    addon.ops.effigy.record_live()
    assert addon.ops.effigy.record_live() == {"CANCELLED"}  # with a warning
    tracker.begin()
    tracker.pose(0, 0, 0, 0)
    wait(lambda: PERFORMING.performer.newest is not None)
    addon.data.objects.remove(PERFORMING.avatar())
    assert PERFORMING.tick() > 0
    PERFORMING.end()
    assert PERFORMING.tick() is None
    with pytest.raises(RuntimeError, match="poll"):
        addon.ops.effigy.record_live()


def test_a_pose_of_another_expression_model_turns_the_head_only(addon) -> None:
    avatar = head_and_shoulders(addon)
    turned = np.zeros((5, 3))
    turned[1, 2] = 0.3
    show(avatar, LivePose(0, 0.0, turned, np.ones(2)), ("expr0", "expr1"))
    assert 2 * np.arccos(abs(avatar.pose.bones["head"].rotation_quaternion[0])) == pytest.approx(0.3, abs=1e-4)
    motion = as_motion([LivePose(0, k / 10, turned * k, np.ones(2)) for k in range(3)], ("a", "b"), 20.0, 0.1)
    assert len(motion) == 5
    assert np.isfinite(motion.rotations).all()


def test_a_video_is_asked_to_be_tracked_and_becomes_the_capture(addon, monkeypatch, tmp_path: Path) -> None:
    asked = []
    job = messages.JobInfo("j1", "track", "Track talk.mp4", "queued", capture=str(tmp_path / "talk_capture"))
    monkeypatch.setattr(CONNECTION, "ask_and_wait", lambda message, timeout: asked.append(message) or job)
    with pytest.raises(RuntimeError, match="no such video"):
        addon.ops.effigy.track_video(filepath=str(tmp_path / "talk.mp4"))
    (tmp_path / "talk.mp4").write_bytes(b"x")
    addon.ops.effigy.track_video(filepath=str(tmp_path / "talk.mp4"), focal_mm=26, step=2)
    assert asked[0].source == str(tmp_path / "talk.mp4")
    assert asked[0].output == str(tmp_path / "talk_capture")
    assert (asked[0].focal_mm, asked[0].step, asked[0].size_px) == (26, 2, 512)
    assert (asked[0].body, asked[0].height_m) == (False, 0)
    addon.ops.effigy.track_video(filepath=str(tmp_path / "talk.mp4"), whole="BODY", height_m=1.75)
    assert asked[1].body
    assert asked[1].height_m == pytest.approx(1.75)
    addon.ops.effigy.track_video(filepath=str(tmp_path / "talk.mp4"), whole="HEAD", height_m=1.75)
    assert (asked[2].body, asked[2].height_m) == (False, 0)
    window, training = addon.context.window_manager.effigy_panels, addon.context.scene.effigy.training
    assert window.track_job == "j1"
    training.name = ""
    assert not choose_when_done(addon.context.scene, job)
    (tmp_path / "talk_capture").mkdir()
    done = messages.JobInfo("j1", "track", "Track talk.mp4", "done", capture=str(tmp_path / "talk_capture"))
    assert choose_when_done(addon.context.scene, done)
    assert (training.source, training.name) == ("FOLDER", "talk")
    assert Path(training.folder) == tmp_path / "talk_capture"
    addon.ops.effigy.make_tracker()
    assert asked[-1].source == ""


def test_following_asks_for_what_the_form_says(addon, monkeypatch, tmp_path: Path) -> None:
    asked = []
    job = messages.JobInfo("j2", "drive", "Follow camera 0", "running")
    monkeypatch.setattr(CONNECTION, "ask_and_wait", lambda message, timeout: asked.append(message) or job)
    live, scene = addon.context.scene.effigy_live, addon.context.scene
    with pytest.raises(RuntimeError, match="No avatar is selected"):
        addon.ops.effigy.follow_live()
    avatar = head_and_shoulders(addon)
    live.source = str(tmp_path / "none.mp4")
    with pytest.raises(RuntimeError, match="no such source"):
        addon.ops.effigy.follow_live()
    live.source, live.focal_mm = "0", 30
    addon.ops.effigy.follow_live()
    assert asked[-1].source == "0"
    assert asked[-1].address == PERFORMING.performer.address
    assert asked[-1].focal_mm == 30
    assert (PERFORMING.job_id, PERFORMING.avatar()) == ("j2", avatar)
    addon.ops.effigy.stop_following()
    assert (asked[-1].job_id, asked[-1].action) == ("j2", "cancel")
    assert PERFORMING.performer is None
    live.purpose, job = "TRAIN", messages.JobInfo("j3", "online", "Ada", "running")
    scene.effigy.training.name = "Ada"
    addon.ops.effigy.follow_live()
    assert (asked[-1].source, asked[-1].location, asked[-1].name) == ("track", "0", "Ada")
    assert PERFORMING.performer is None


def test_why_nothing_can_be_tracked_is_said() -> None:
    assert "Connect" in why_not(None)
    welcome = messages.Welcome(1, "1", "e", "", "", "cpu", "numba", ("train",))
    state = LinkState("tcp://127.0.0.1:1", status="connected", welcome=welcome)
    assert "update" in why_not(state)
    able = messages.Welcome(1, "1", "e", "", "", "cpu", "numba", ("track",))
    health = desk_messages.Status(
        "cpu", "numba", 0, 0, 0, 0, 0, 1.0, "/data", tracker="The face tracker is not installed yet"
    )
    missing = LinkState("tcp://127.0.0.1:1", status="connected", welcome=able, health=health)
    assert "not installed" in why_not(missing)
    ready = desk_messages.Status("cpu", "numba", 0, 0, 0, 0, 0, 1.0, "/data")
    assert why_not(LinkState("tcp://127.0.0.1:1", status="connected", welcome=able, health=ready)) == ""


def test_the_panel_shows_reasons_progress_and_buttons(addon) -> None:
    context, window = addon.context, addon.context.window_manager.effigy_panels
    able = messages.Welcome(1, "1", "e", "", "", "cpu", "numba", ("track",))
    status = ("cpu", "numba", 0, 0, 0, 0, 0, 1.0, "/data")
    missing = LinkState(
        "tcp://127.0.0.1:1",
        status="connected",
        welcome=able,
        health=desk_messages.Status(*status, tracker="The face tracker is not installed yet (about 100 MB, once)"),
    )
    layout = Layout()
    draw_track(layout, context, missing)
    draw_live(layout, context, missing)
    assert "effigy.make_tracker" in layout.texts
    assert any(text.startswith("The face tracker") for text in layout.texts)
    assert "effigy.follow_live" not in layout.texts
    window.track_job = "j1"
    running = messages.JobInfo("j1", "track", "Track a.mp4", "running", 3, 12, message="Finding the face", capture="/a")
    ready = replace(missing, health=desk_messages.Status(*status), jobs=(running,))
    layout = Layout()
    draw_track(layout, context, ready)
    draw_live(layout, context, ready)
    assert "Finding the face: 3 / 12" in layout.texts
    assert "effigy.make_tracker" not in layout.texts
    assert "effigy.follow_live" in layout.texts
    stopped = replace(
        running,
        state="cancelled",
        message="Cancelled",
        findings=(desk_messages.Finding("film again", "doubtful", "turn to the left"),),
    )
    layout = Layout()
    draw_track(layout, context, replace(ready, jobs=(stopped,)))
    assert "Film again: turn to the left" in layout.texts
    assert layout.texts.count("effigy.change_job") == 2  # go on, or take it off the list
    PERFORMING.begin(head_and_shoulders(addon))
    try:
        PERFORMING.job_id = "j2"
        following = messages.JobInfo("j2", "drive", "Follow camera 0", "running", message="The face is out of sight")
        layout = Layout()
        draw_live(layout, context, replace(ready, jobs=(following,)))
        assert any("out of sight" in text for text in layout.texts)
        assert "effigy.record_live Record Keys" in layout.texts
        assert "effigy.stop_following" in layout.texts
        assert "j2" in shown_elsewhere(context)
    finally:
        PERFORMING.end()
        window.track_job = ""
