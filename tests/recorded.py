"""What the real detector said of `failing_clip`, kept so that its judging is proved where the detector is not.

Made again, where the tracker's environment is: `python -m tests.recorded`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from avatars.tracking.detections import Detections
from backend.detector import Detector
from shared.npz import read_npz
from tests.failing_clip import Picture, failing_clip

FILE = Path(__file__).parent / "failing_clip.npz"
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


if __name__ == "__main__":
    from backend.tracker_environment import make_tracker_environment

    write_recorded(detect(failing_clip()[0], make_tracker_environment()))
