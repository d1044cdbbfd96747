"""Frames pushed over a real socket: good ones arrive as sent, bad ones are counted and end nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import zmq

from avatars.online.frames import TrackedFrame, fitted
from avatars.online.push import PushSource
from avatars.templates.opening import embedded_template
from shared import wire
from shared.errors import EnvironmentFailed
from shared.track_messages import TrackBegins, TrackEnds, TrackFrame

NAMES = ("jaw", "head")
BEGINS = TrackBegins(
    "Ada", "effigy_human", "", "", "man", np.zeros(0, np.float32), NAMES, ("jawOpen", "eyeBlinkLeft"), "CC0-1.0"
)


def frame_message(number: int = 0, size: tuple[int, int] = (24, 32), **change: Any) -> TrackFrame:
    random = np.random.default_rng(number)
    message = TrackFrame(
        number,
        number / 25,
        random.integers(0, 256, (*size, 4), dtype=np.uint8),
        np.array([[80.0, 0, 16], [0, 80, 12], [0, 0, 1]]),
        np.eye(4),
        random.normal(0, 0.1, (2, 3)).astype(np.float32),
        np.array([0, 0.5, 0], np.float32),
        np.array([0.75, 0.25], np.float32),
        np.zeros((0, 3), np.float32),
    )
    return replace(message, **change)


class Pusher:
    def __init__(self, address: str) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.socket = self.context.socket(zmq.PUSH)
        self.socket.setsockopt(zmq.LINGER, 2000)
        self.socket.connect(address)

    def __call__(self, message: Any) -> None:
        self.socket.send_multipart(message if isinstance(message, list) else wire.encode(message))


@pytest.fixture
def source() -> Iterator[PushSource]:
    made = PushSource("tcp://127.0.0.1:0")
    yield made
    made.close()


@pytest.fixture
def push(source: PushSource) -> Iterator[Pusher]:
    pusher = Pusher(source.address)
    yield pusher
    pusher.context.destroy(linger=0)


def nothing_comes(source: PushSource, dropped: int) -> None:
    """Until so many messages have been dropped."""
    until = time.monotonic() + 60
    while sum(source.dropped.values()) < dropped and time.monotonic() < until:
        assert source.next(0.05) is None


def test_a_frame_arrives_as_it_was_sent(source: PushSource, push: Pusher) -> None:
    assert source.next(0.0) is None
    assert source.subject is None
    sent = frame_message(5)
    push(BEGINS)
    push(sent)
    push(TrackEnds())
    got = source.next(60.0)
    assert isinstance(got, TrackedFrame)
    assert source.subject is not None
    arrays = source.subject.template.open()
    assert (source.subject.name, source.subject.template.preset, arrays.template_id) == ("Ada", "man", "effigy_human")
    alpha = sent.image[..., 3:].astype(int)
    assert np.abs(got.rgba[..., :3] - sent.image[..., :3] * alpha / 255).max() <= 0.5
    assert (got.rgba[..., 3:] == alpha).all()
    assert (got.camera.width_px, got.camera.height_px) == (32, 24)
    assert (got.camera.K == sent.K).all()
    for place, name in enumerate(NAMES):
        assert (got.pose.rotations[arrays.joint_names.index(name)] == sent.rotations[place]).all()
    assert np.count_nonzero(np.any(got.pose.rotations, axis=1)) == 2, "joints that are not named rest"
    assert got.pose.expression[arrays.expression_names.index("jawOpen")] == 0.75
    assert got.pose.expression.sum() == 1.0
    assert got.vertices is None
    assert source.next(60.0) is None
    assert source.ended()
    assert source.dropped == {}


def test_a_mesh_may_come_along(source: PushSource, push: Pusher) -> None:
    mesh = embedded_template("bust").vertices + np.float32(0.01)
    push(BEGINS)
    push(frame_message(vertices=mesh))
    got = source.next(60.0)
    assert got is not None
    assert got.vertices is not None
    assert (got.vertices == mesh).all()


def other_version() -> list[bytes]:
    header = json.loads(bytes(wire.encode(TrackEnds())[0]))
    return [json.dumps({**header, "effigy": 1}).encode()]


NAN = np.full((2, 3), np.nan, np.float32)
BAD: dict[str, tuple[Any, str]] = {
    "noise": ([b"\x00\xff", b"zz"], "damaged"),
    "nothing": ([b""], "damaged"),
    "other version": (other_version(), "different versions"),
    "another message": (replace(BEGINS, joint_names=("jw",)), "no joint 'jw', did you mean 'jaw'"),
    "twice": (replace(BEGINS, joint_names=("jaw", "jaw")), "twice"),
    "another person": (replace(BEGINS, preset="woman"), "another person's track"),
    "unknown template": (replace(BEGINS, template_id="flame"), "needs its digest"),
    "grey": (frame_message(image=np.zeros((24, 32), np.uint8)), "not [H, W, 4] uint8"),
    "float picture": (frame_message(image=np.zeros((24, 32, 4), np.float32)), "not [H, W, 4] uint8"),
    "tiny picture": (frame_message(size=(2, 2)), "size is out of range"),
    "NaN": (frame_message(rotations=NAN), "not finite"),
    "another rig": (frame_message(rotations=np.zeros((3, 3), np.float32)), "rotations have the wrong shape"),
    "camera": (frame_message(world_from_camera=np.diag([2.0, 2, 2, 1])), "not rigid"),
    "mesh": (frame_message(vertices=np.zeros((7, 3), np.float32)), "vertices have the wrong shape"),
    "late": (frame_message(0), "late or twice"),
}


def test_bad_messages_are_counted_and_the_stream_goes_on(source: PushSource, push: Pusher) -> None:
    push(frame_message(0))
    push(BEGINS)
    push(frame_message(1))
    first = source.next(60.0)
    assert first is not None
    assert first.number == 1
    assert source.dropped == {"a frame came before TrackBegins": 1}
    for number, (name, (message, reason)) in enumerate(BAD.items()):
        before = sum(source.dropped.values())
        renumbered = (
            replace(message, number=2 + number) if isinstance(message, TrackFrame) and name != "late" else message
        )
        push(renumbered)
        nothing_comes(source, before + 1)
        assert sum(source.dropped.values()) == before + 1, name
        assert reason in source.last_problem, name
    push(frame_message(100))
    last = source.next(60.0)
    assert last is not None
    assert last.number == 100


def test_a_flood_of_noise_needs_no_memory_for_its_reasons(source: PushSource, push: Pusher) -> None:
    random = np.random.default_rng(0)
    for _ in range(300):
        push([random.bytes(int(random.integers(0, 60))) for _ in range(int(random.integers(1, 5)))])
    nothing_comes(source, 300)
    assert sum(source.dropped.values()) == 300
    assert len(source.dropped) < 5


def test_an_address_in_use_is_one_sentence(source: PushSource) -> None:
    with pytest.raises(EnvironmentFailed, match="address for tracked frames") as caught:
        PushSource(source.address)
    assert "\n" not in str(caught.value)


def test_pictures_are_brought_down_with_their_camera() -> None:
    from shared.types import Camera, Pose

    rgba = np.zeros((40, 80, 4), np.uint8)
    rgba[:, 40:] = 200
    camera = Camera(80, 40, np.array([[100.0, 0, 40], [0, 100, 20], [0, 0, 1]]), np.eye(4))
    pose = Pose(np.zeros((1, 3)), np.zeros(3), np.zeros(0))
    small = fitted(TrackedFrame(0, 0.0, rgba, camera, pose), 20)
    assert small.rgba.shape == (10, 20, 4)
    assert (small.rgba[:, :10] == 0).all()
    assert (small.rgba[:, 10:] == 200).all()
    assert np.allclose(small.camera.K, [[25, 0, 10], [0, 25, 5], [0, 0, 1]])
    assert fitted(small, 20) is small
