"""What the real detector said of `failing_clip` and of a turning body, kept for where the detector is not.

Made again, where the tracker's environment is: `python -m tests.recorded`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from avatars.captures.capture import Capture
from avatars.captures.opening import open_capture
from avatars.tracking.body_detections import BodyDetections
from avatars.tracking.detections import Detections
from backend.detector import Detector
from shared.npz import read_npz
from tests.failing_clip import Picture, before_wall, failing_clip

FILE = Path(__file__).parent / "failing_clip.npz"
BODY_FILE = FILE.with_name("turning_body.npz")
BODY_EVERY, BODY_FRAMES = 3, 50
FINER = 16.0
"""Landmarks are kept in 16ths of a pixel, so as not to fill the repository."""


def detect(pictures: list[Picture], python: Path) -> Detections:
    """The detector's answers to each picture."""
    found = []
    with Detector(python) as detector:
        for number, picture in enumerate(pictures):
            faces = detector.faces(picture)
            found.append(Detections.of_picture(number, picture, faces, detector.hands(picture)))
    return Detections.joined(found)


def write_recorded(found: Detections) -> None:
    """Keep them."""
    landmarks = np.where(np.isfinite(found.landmarks), found.landmarks * FINER, -32768).round().astype(np.int16)
    np.savez_compressed(FILE, **{**vars(found), "landmarks": landmarks})


def read_recorded() -> Detections:
    """What was kept."""
    arrays = read_npz(FILE.read_bytes(), FILE.name, AssertionError)
    kept = arrays.pop("landmarks")
    return Detections(landmarks=np.where(kept == -32768, np.nan, kept / FINER).astype(np.float32), **arrays)


def turning_pictures() -> tuple[Capture, list[int]]:
    """Every third picture of a man who turns twice before the first camera of `demo_relight`."""
    capture = open_capture("demo_relight")
    return capture, [
        index
        for index, image in enumerate(capture.images)
        if image.camera == 0 and image.light is None and image.frame < BODY_FRAMES and image.frame % BODY_EVERY == 0
    ]


def detect_bodies(python: Path) -> BodyDetections:
    """The detector's answers to them."""
    capture, images = turning_pictures()
    found = []
    with Detector(python) as detector:
        for number, index in enumerate(images):
            picture = before_wall(capture.rgba(index))
            body = detector.body(picture)
            assert body is not None
            found.append(BodyDetections.of_picture(number, picture, body.points, body.world, body.hands, body.second))
    return BodyDetections.joined(found)


def write_recorded_bodies(found: BodyDetections) -> None:
    """Keep them, numbers in half precision but for pixels."""
    points = np.nan_to_num(found.points * FINER, nan=-32768).round().astype(np.int16)
    np.savez_compressed(BODY_FILE, **{**vars(found), "points": points, "world": found.world.astype(np.float16)})


def read_recorded_bodies() -> BodyDetections:
    """What was kept."""
    arrays = read_npz(BODY_FILE.read_bytes(), BODY_FILE.name, AssertionError)
    kept, world = arrays.pop("points"), arrays.pop("world").astype(np.float32)
    points = np.where(kept == -32768, np.nan, kept / FINER).astype(np.float32)
    return BodyDetections(points=points, world=world, **arrays)


if __name__ == "__main__":
    from backend.tracker_environment import make_tracker_environment

    tracker = make_tracker_environment()
    write_recorded(detect(failing_clip()[0], tracker))
    write_recorded_bodies(detect_bodies(tracker))
