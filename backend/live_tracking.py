"""A face followed live: pictures in, poses out, and the same pushed to a live training over ZeroMQ.

One thread reads pictures and asks the detector's process, the caller's fits and hands on: on two cores the detector has
one for itself.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import zmq
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from avatars.templates.opening import embedded_template, reference_of
from avatars.tracking.correspondences import embedded_correspondences
from avatars.tracking.detections import second_share
from avatars.tracking.landmark_model import JOINTS, LandmarkModel
from avatars.tracking.live import LiveFitter, LivePose, LiveSettings
from avatars.tracking.tracked_capture import ARMS_DOWN_RAD, Crop, choose_crop
from backend.clip_source import FULL_FRAME_MM
from backend.live_pictures import LivePictures
from backend.tracking_run import USUAL_35MM
from shared import wire
from shared.errors import EffigyError
from shared.sockets import make_socket
from shared.track_messages import TrackBegins, TrackEnds, TrackFrame

STORED_PX, MOVE_SHARE = 384, 1.25
"""Side of the pictures that are pushed; how much wider they are than the faces of the calm look need."""
WAITING, LOOK_S = 2, 0.25
PUSHED_QUEUE, PUSHED_BYTES, END_POLL_MS, END_WAIT_MS = 2, 16 << 20, 1000, 10_000
TRACKED_JOINTS = (
    "neck",
    "head",
    *JOINTS,
    *(f"{side}_{joint}" for joint in ARMS_DOWN_RAD for side in ("left", "right")),
)


log = logging.getLogger("effigy.live")


class Asked(Protocol):
    """What is asked of a detector (`backend.detector.Detector`)."""

    def faces(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Landmarks of the faces."""

    def mask(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The person's mask."""


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """A followed picture. number: how many were followed before. rgba: [S, S, 4] uint8, straight alpha, where pictures
    are wanted, else [0, 0, 4]; K: [3, 3] px of it."""

    number: int
    track: LivePose
    rgba: NDArray[np.uint8]
    K: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Seen:
    """What the detector said of a picture at time_s."""

    time_s: float
    landmarks: NDArray[np.float32] | None
    second: float
    rgba: NDArray[np.uint8] | None


class LiveTracker:
    """Follows the pictures of `source`. pictures: whether `LiveFrame` carries them, cut out. focal_px: 0 guesses.

    `run` blocks until the source or `stop` ends it. `said` is how it is, in a few words.
    """

    def __init__(
        self,
        source: LivePictures,
        detector: Asked,
        *,
        focal_px: float = 0.0,
        pictures: bool = True,
        settings: LiveSettings | None = None,
    ) -> None:
        where, response = embedded_correspondences()
        self.bust = embedded_template("bust")
        body = embedded_template("body")
        self.reference = reference_of(body.template_id)
        model = LandmarkModel(body, where, identity_modes=0, response=response)
        self.focal_px = focal_px or USUAL_35MM / FULL_FRAME_MM * max(source.size_px)
        self.fitter = LiveFitter(
            model, self.bust, self.reference, source.size_px, self.focal_px, settings or LiveSettings()
        )
        self.source, self.detector, self.pictures = source, detector, pictures
        self.stop = threading.Event()
        self.followed = 0
        self.spent_s = {"detect": 0.0, "fit": 0.0, "hand on": 0.0}
        self._crop: Crop | None = None
        self._seen: queue.Queue[_Seen | None] = queue.Queue(WAITING)
        self._failure: Exception | None = None
        self._face = False

    @property
    def said(self) -> str:
        """How it is."""
        if not self.fitter.started:
            if not self._face:
                return "Looking for a face"
            return f"Look at the camera with a calm face: {self.fitter.start_share:.0%}"
        return f"Following, {self.followed} pictures" if self._face else "The face is out of sight"

    def run(self, take: Callable[[LiveFrame], None], tell: Callable[[str], None] = lambda said: None) -> None:
        """Follow to the end; take gets every followed picture, tell hears `said` about four times a second.

        Raises what the source or the detector raises, once what was seen before is handed over.
        """
        reader = threading.Thread(target=self._read, name="effigy-detect", daemon=True)
        reader.start()
        told_s = 0.0
        # The fit's matrices are small: threads that spin for the next one would take the detector's core.
        calm = threadpool_limits(1, "blas")
        try:
            while not self.stop.is_set():
                try:
                    seen = self._seen.get(timeout=LOOK_S)
                except queue.Empty:
                    continue
                if seen is None:
                    break
                self._fit(seen, take)
                if time.monotonic() - told_s > LOOK_S:
                    told_s = time.monotonic()
                    tell(self.said)
        finally:
            self.stop.set()
            calm.restore_original_limits()
            reader.join(10.0)
        if self._failure is not None:
            raise self._failure

    def _read(self) -> None:
        try:
            while not self.stop.is_set() and (found := self.source.next()) is not None:
                began_s = time.perf_counter()
                time_s, picture = found
                faces = self.detector.faces(picture)
                rgba = self._cut_out(picture) if len(faces) and self.pictures and self._crop is not None else None
                landmarks = faces[0, :, :2] if len(faces) else None
                self.spent_s["detect"] += time.perf_counter() - began_s
                self._put(_Seen(time_s, landmarks, second_share(faces), rgba))
        except Exception as error:
            log.exception("reading pictures ended")
            self._failure = error
        self._put(None)

    def _put(self, seen: _Seen | None) -> None:
        while not self.stop.is_set():
            try:
                return self._seen.put(seen, timeout=LOOK_S)
            except queue.Full:
                continue

    def _cut_out(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        from PIL import Image

        crop = self._crop
        assert crop is not None
        box = (crop.left, crop.top, crop.left + crop.side_px, crop.top + crop.side_px)
        size = (crop.stored_px, crop.stored_px)
        shown = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR, box=box, reducing_gap=2.0))
        return np.dstack((shown, self.detector.mask(shown)))

    def _fit(self, seen: _Seen, take: Callable[[LiveFrame], None]) -> None:
        began_s = time.perf_counter()
        self._face = seen.landmarks is not None
        track = self.fitter.add(seen.landmarks, seen.time_s, seen.second)
        if self._crop is None and self.fitter.started:
            self._crop = _wider(
                choose_crop(self.fitter.start_landmarks, self.source.size_px, STORED_PX), self.source.size_px
            )
        fitted_s = time.perf_counter()
        self.spent_s["fit"] += fitted_s - began_s
        if track is None or self._crop is None or (self.pictures and seen.rgba is None):
            return
        rgba = seen.rgba if seen.rgba is not None else np.zeros((0, 0, 4), np.uint8)
        take(LiveFrame(self.followed, track, rgba, self._intrinsics(self._crop)))
        self.followed += 1
        self.spent_s["hand on"] += time.perf_counter() - fitted_s

    def _intrinsics(self, crop: Crop) -> NDArray[np.float64]:
        scale = crop.stored_px / crop.side_px
        across, down = self.source.size_px[0] / 2 - crop.left, self.source.size_px[1] / 2 - crop.top
        return np.array(
            [[self.focal_px * scale, 0, across * scale], [0, self.focal_px * scale, down * scale], [0, 0, 1]]
        )


def _wider(crop: Crop, size_px: tuple[int, int]) -> Crop:
    """Room to move in, inside pictures of size_px."""
    side = min(round(crop.side_px * MOVE_SHARE), *size_px)
    middle = np.array([crop.left, crop.top]) + crop.side_px / 2
    corner = np.clip(np.floor(middle - side / 2), 0, np.array(size_px) - side).astype(int)
    return Crop(int(corner[0]), int(corner[1]), side, min(side, STORED_PX))


class Pusher:
    """Pushes followed pictures to a live training that listens at `address`. A context manager.

    What it cannot take at once is counted in `dropped`: an avatar learns from newer ones instead.
    """

    def __init__(self, address: str, tracker: LiveTracker, name: str, licence: str = "") -> None:
        self.dropped, self.sent = 0, 0
        self._tracker, self._name, self._licence = tracker, name, licence
        self._joints = np.array([tracker.bust.joint(joint) for joint in TRACKED_JOINTS])
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = make_socket(self._context, zmq.PUSH, queue=PUSHED_QUEUE, max_part_bytes=PUSHED_BYTES)
        try:
            self._socket.connect(address)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise EffigyError(
                "The address of the live training cannot be used",
                found=f"{address}: {error}",
                expected="tcp://127.0.0.1:PORT",
            ) from error

    def __call__(self, frame: LiveFrame) -> None:
        """Push one."""
        if not self.sent and not self._send(self._begins()):
            self.dropped += 1
            return
        pose = frame.track.pose
        message = TrackFrame(
            frame.number,
            frame.track.time_s,
            frame.rgba,
            frame.K,
            frame.track.world_from_camera,
            pose.rotations[self._joints],
            pose.translation,
            pose.expression,
            np.zeros((0, 3), np.float32),
        )
        if self._send(message):
            self.sent += 1
        else:
            self.dropped += 1

    def _begins(self) -> TrackBegins:
        reference = self._tracker.reference
        return TrackBegins(
            self._name,
            reference.template_id,
            reference.digest,
            "bust",
            reference.preset,
            np.asarray(reference.shape, np.float32),
            TRACKED_JOINTS,
            tuple(self._tracker.bust.expression_names),
            self._licence,
        )

    def _send(self, message: TrackBegins | TrackFrame | TrackEnds) -> bool:
        try:
            self._socket.send_multipart(wire.encode(message), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def close(self) -> None:
        """Say that it ends, to whoever listens."""
        if self.sent and self._socket.poll(END_POLL_MS, zmq.POLLOUT):
            self._send(TrackEnds())
        self._context.destroy(linger=END_WAIT_MS)

    def __enter__(self) -> Pusher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def video_name(source: str) -> str:
    """Whom a source shows, where nobody said: the video's name."""
    return "tracked" if source.strip().isdecimal() else Path(source).stem
