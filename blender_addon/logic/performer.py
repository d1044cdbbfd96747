"""Poses that a tracker pushes live, taken by a thread. No bpy: Blender's main thread only looks."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._shared import errors, performance, shared_module, track_messages, wire
from .motion_source import REST, SourceMotion

DRIVEN = ("neck", "head", "jaw", "left_eye", "right_eye")
"""Joints that a face says something of; the tracker's shoulders only hang."""
POLL_MS, QUEUE, MOST_BYTES = 100, 4, 1 << 20
MOST_KEPT = 60 * 60 * 30
"""An hour at 30 poses a second."""


@dataclass(frozen=True, eq=False)
class LivePose:
    """number: of the tracker; time_s: of its clock; rotations: [J, 3] rad of DRIVEN; expressions: [E]."""

    number: int
    time_s: float
    rotations: NDArray[np.float64]
    expressions: NDArray[np.float64]


class Performer:
    """Listens at a loopback address of its own (`address`) until `close`; `newest` is the last pose."""

    def __init__(self) -> None:
        self.newest: LivePose | None = None
        self.expression_names: tuple[str, ...] = ()
        self.over = False
        self.problem = ""
        self._joints: list[int] = []
        self._kept: list[LivePose] | None = None
        self._stop = threading.Event()
        import zmq  # brought along by the add-on, loaded where it is needed

        sockets = shared_module("sockets")
        self._context: Any = zmq.Context()
        self._socket = sockets.make_socket(self._context, zmq.PULL, queue=QUEUE, max_part_bytes=MOST_BYTES)
        self._socket.bind("tcp://127.0.0.1:0")
        self.address = bytes(self._socket.getsockopt(zmq.LAST_ENDPOINT)).decode().rstrip("\0")
        self._thread = threading.Thread(target=self._run, name="effigy-performer", daemon=True)
        self._thread.start()

    @property
    def recording(self) -> bool:
        """Whether poses are kept."""
        return self._kept is not None

    def record(self) -> None:
        """Keep every pose from now on."""
        self._kept = []

    def recorded(self) -> list[LivePose]:
        """What was kept, which ends with it."""
        kept, self._kept = self._kept, None
        return kept or []

    def close(self) -> None:
        """End the thread and let go of the address."""
        self._stop.set()
        self._thread.join(5.0)
        self._context.destroy(linger=0)

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._socket.poll(POLL_MS):
                continue
            try:
                self._take(wire.decode(self._socket.recv_multipart()).message)
            except errors.EffigyError as error:
                self.problem = str(error)

    def _take(self, message: Any) -> None:
        if isinstance(message, track_messages.TrackBegins):
            missing = [name for name in DRIVEN if name not in message.joint_names]
            if missing:
                raise errors.BadMessage("The tracker does not follow a face", found=f"no {missing[0]}")
            self._joints = [message.joint_names.index(name) for name in DRIVEN]
            self.expression_names = message.expression_names
        elif isinstance(message, track_messages.TrackEnds):
            self.over = True
        elif isinstance(message, track_messages.TrackFrame) and self._joints:
            values = np.asarray(message.rotations, np.float64), np.asarray(message.expressions, np.float64)
            fits = values[0].ndim == 2 and len(values[0]) > max(self._joints)
            if not fits or values[1].shape != (len(self.expression_names),):
                raise errors.BadMessage("A tracked pose has the wrong shape")
            pose = LivePose(message.number, message.time_s, values[0][self._joints], values[1])
            self.newest = pose
            kept = self._kept
            if kept is not None and len(kept) < MOST_KEPT and (not kept or pose.time_s > kept[-1].time_s):
                kept.append(pose)


def as_motion(
    poses: list[LivePose], expression_names: tuple[str, ...], fps: float, soften_s: float = 0.0
) -> SourceMotion:
    """Recorded poses (at least one) at every frame of `fps`, smoothed by a Gaussian of soften_s."""
    times = [pose.time_s for pose in poses]

    def of(name: str) -> NDArray[np.float64]:
        values = performance.on_frames(times, np.stack([getattr(pose, name) for pose in poses]), fps)
        return performance.softened(values, soften_s * fps)

    turns = of("rotations")
    return SourceMotion(
        "Performance",
        "live",
        DRIVEN,
        turns,
        "",
        np.zeros((len(turns), 3)),
        REST,
        expression_names,
        of("expressions"),
        fps,
    )
