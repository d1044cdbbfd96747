"""Frames that a tracker in another process pushes over ZeroMQ (docs/online.md shows its side in twenty lines).

The tracker's PUSH socket connects to our PULL socket and sends TrackBegins, then TrackFrame again and again, then
TrackEnds, in the messages of `shared.wire`. What does not fit is dropped whole and counted by its reason; nothing that
arrives can end the training. The queue is short: a tracker that is faster than we are finds it full and should drop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray

from avatars.captures.images import premultiply
from avatars.online.frames import Subject, TrackedFrame
from avatars.templates.opening import TemplateReference, embedded_template
from shared import wire
from shared.errors import BadMessage, BadTemplate, EffigyError, EnvironmentFailed, VersionMismatch, nearest
from shared.sockets import make_socket
from shared.track_messages import TrackBegins, TrackEnds, TrackFrame
from shared.types import Camera, Pose

QUEUE = 4
FROM_TRACKER = wire.Limits(header_bytes=256 * 1024, parts=16, total_bytes=72 * 1024**2)
"""What is accepted: 72 MiB are 4096 x 4096 with alpha and a mesh."""
SIDE_PX = (16, 4096)
REASONS = 32
"""Different reasons that are counted apart."""

log = logging.getLogger("effigy.online")


class PushSource:
    """A bound PULL socket. A `FrameSource`.

    address: 'tcp://127.0.0.1:47620'; port 0 takes a free one (`address` then names it). Raises EnvironmentFailed when
    it cannot be bound. Whether others than this machine may reach it is the caller's to decide.
    """

    def __init__(self, address: str) -> None:
        self.dropped: dict[str, int] = {}
        self.expected = 0
        self.last_problem = ""
        self._subject: Subject | None = None
        self._joints: NDArray[np.int64] = np.zeros(0, np.int64)
        self._expressions: NDArray[np.int64] = np.zeros(0, np.int64)
        self._sizes = (0, 0, 0)
        self._newest: int | None = None
        self._over = False
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = make_socket(self._context, zmq.PULL, queue=QUEUE, max_part_bytes=FROM_TRACKER.total_bytes)
        try:
            self._socket.bind(address)
        except zmq.ZMQError as error:
            self.close()
            raise EnvironmentFailed(
                "The address for tracked frames cannot be used", found=f"{address}: {error}", do="Choose another port"
            ) from error
        self.address = bytes(self._socket.getsockopt(zmq.LAST_ENDPOINT)).decode().rstrip("\0")

    @property
    def subject(self) -> Subject | None:
        """Whom the tracker's TrackBegins named."""
        return self._subject

    def next(self, timeout_s: float) -> TrackedFrame | None:
        """The next good frame, or None when none came in time."""
        until = time.monotonic() + timeout_s
        while not self._over:
            left_ms = max(0, int((until - time.monotonic()) * 1000))
            if not self._socket.poll(left_ms):
                return None
            parts = [part.buffer for part in self._socket.recv_multipart(copy=False)]
            try:
                frame = self._taken(parts)
            except EffigyError as error:
                self._drop(error)
                continue
            if frame is not None:
                return frame
        return None

    def ended(self) -> bool:
        """Whether the tracker said TrackEnds."""
        return self._over

    def close(self) -> None:
        """Let go of the address."""
        self._context.destroy(linger=0)

    # --- reading --------------------------------------------------------------------------------------------------
    def _drop(self, error: EffigyError) -> None:
        """Count it by its kind of reason; details differ from frame to frame and are kept of the last only."""
        reason = error.what if error.what in self.dropped or len(self.dropped) < REASONS else "something else"
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        if self.dropped[reason] == 1:
            log.warning("a tracked frame was dropped: %s", error)
        self.last_problem = str(error)

    def _taken(self, parts: Sequence[wire.Part]) -> TrackedFrame | None:
        try:
            message = wire.decode(parts, limits=FROM_TRACKER).message
        except VersionMismatch:
            raise
        except EffigyError as error:
            raise BadMessage("a message was damaged", found=error.sentence()) from error
        match message:
            case TrackBegins():
                self._begin(message)
                return None
            case TrackFrame():
                return self._frame(message)
            case TrackEnds():
                self._over = True
                return None
        raise BadMessage("a message was not a tracker's", found=type(message).__name__)

    def _begin(self, message: TrackBegins) -> None:
        reference = reference_at_hand(message)
        arrays = reference.open()
        if self._subject is not None and self._subject.template != reference:
            raise BadMessage("another person's track began in between", found=message.name, do="Start another training")
        if self._subject is None and not message.joint_names and not message.expression_names:
            raise BadMessage("a TrackBegins named neither joints nor expressions")
        self._joints = _places(message.joint_names, arrays.joint_names, "joint")
        self._expressions = _places(message.expression_names, arrays.expression_names, "expression")
        self._sizes = (len(arrays.joint_names), len(arrays.expression_names), len(arrays.vertices))
        self._subject = Subject(message.name or "tracked", reference, message.licence, provenance={"capture": "live"})

    def _frame(self, message: TrackFrame) -> TrackedFrame:
        if self._subject is None:
            raise BadMessage("a frame came before TrackBegins")
        if self._newest is not None and message.number <= self._newest:
            raise BadMessage("a frame came late or twice", found=f"{message.number} after {self._newest}")
        joints, expressions, vertices = self._sizes
        image = message.image
        low, high = SIDE_PX
        if image.ndim != 3 or image.shape[2] != 4 or image.dtype != np.uint8:
            raise BadMessage("a picture is not [H, W, 4] uint8", found=f"{list(image.shape)} {image.dtype}")
        if not (low <= min(image.shape[:2]) and max(image.shape[:2]) <= high):
            raise BadMessage(
                "a picture's size is out of range", found=str(list(image.shape)), expected=f"{low} to {high}"
            )
        rotations, weights = np.zeros((joints, 3), np.float32), np.zeros(expressions, np.float32)
        rotations[self._joints] = _checked(message.rotations, (len(self._joints), 3), "rotations")
        weights[self._expressions] = _checked(message.expressions, (len(self._expressions),), "expressions")
        mesh = None if not message.vertices.size else _checked(message.vertices, (vertices, 3), "vertices")
        frame = TrackedFrame(
            message.number,
            message.time_s,
            premultiply(image),
            Camera(
                image.shape[1],
                image.shape[0],
                _checked(message.K, (3, 3), "K"),
                _checked(message.world_from_camera, (4, 4), "world_from_camera"),
            ),
            Pose(rotations, _checked(message.translation, (3,), "translation"), weights),
            mesh,
        )
        self._newest = message.number
        return frame


def reference_at_hand(message: TrackBegins) -> TemplateReference:
    """The template a tracker means, by default this installation's. Raises BadTemplate, BadMessage."""
    if message.shape.ndim != 1 or not np.issubdtype(message.shape.dtype, np.floating) or len(message.shape) > 1000:
        raise BadMessage("a TrackBegins has a shape that is no list of numbers", found=str(list(message.shape.shape)))
    digest, view = message.digest, message.view or "bust"
    if not digest:
        arrays = embedded_template(view)
        if message.template_id != arrays.template_id:
            raise BadTemplate(f"the template {message.template_id!r} needs its digest", do="Send it in TrackBegins")
        digest = arrays.digest
    shape = tuple(float(number) for number in message.shape)
    return TemplateReference(message.template_id, digest, view, message.preset, shape)


def _places(names: Sequence[str], known: Sequence[str], what: str) -> NDArray[np.int64]:
    for name in names:
        if name not in known:
            raise BadMessage(f"the template has no {what} {name[:40]!r}{nearest(name, known)}")
    if len(set(names)) != len(names):
        raise BadMessage(f"a TrackBegins names a {what} twice")
    return np.array([list(known).index(name) for name in names], np.int64)


def _checked(array: NDArray[Any], shape: tuple[int, ...], name: str) -> NDArray[Any]:
    if array.shape != shape or array.dtype.kind not in "fiu":
        raise BadMessage(
            f"a frame's {name} have the wrong shape", found=str(list(array.shape)), expected=str(list(shape))
        )
    values = np.asarray(array, np.float64)
    if not np.isfinite(values).all() or np.abs(values).max(initial=0.0) > 1e6:
        raise BadMessage(f"a frame's {name} are not finite or far too large")
    return values if name in ("K", "world_from_camera") else values.astype(np.float32)
