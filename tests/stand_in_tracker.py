"""A stand-in for the tracker's environment: answers like the detector's and the camera's processes, without mediapipe.

`stand_in_python(folder)` writes a program that can be named in EFFIGY_TRACKER_PYTHON. Every picture of the detector
shows the template's landmarks of a face that is calm for three seconds and then turns, talks and smiles.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

CALM_PICTURES = 12
FOCAL_SHARE = 32 / 36
UPRIGHT = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def stand_in_python(folder: Path) -> Path:
    """The program's path."""
    path = folder / "stand_in_python"
    root = Path(__file__).resolve().parent.parent
    environment = f'PYTHONPATH="{root}" OPENBLAS_NUM_THREADS=1'
    path.write_text(f'#!/bin/sh\n{environment} exec "{sys.executable}" -m tests.stand_in_tracker "$@"\n')
    path.chmod(0o755)
    return path


def grey_video(path: Path, pictures: int) -> Path:
    """A video, 25 pictures a second, in which the stand-in sees a face."""
    from backend.video import VideoFile

    with VideoFile(path, 25.0) as made:
        for _ in range(pictures):
            made.add(np.full((120, 160, 3), 90, np.uint8))
    return path


def state_of(
    picture: int, actions: int, names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rotation, place, turns and weights that picture `picture` shows."""
    from shared.template import rotation_matrices

    moving = max(0, picture - CALM_PICTURES)
    yaw = 0.3 * np.sin(moving / 6)
    weights = np.zeros(actions)
    weights[names.index("mouthSmileLeft")] = weights[names.index("mouthSmileRight")] = 0.5 - 0.5 * np.cos(moving / 4)
    turns = np.zeros(6)
    turns[0] = 0.12 * (1 - np.cos(moving / 3))
    return UPRIGHT @ rotation_matrices(np.array([0, 0, yaw])), np.array([0.0, 0.03, 0.7]), turns, weights


class Faces:
    """Landmarks of one picture after the other."""

    def __init__(self) -> None:
        from avatars.templates.opening import embedded_template
        from avatars.tracking.correspondences import embedded_correspondences
        from avatars.tracking.landmark_model import LandmarkModel

        where, response = embedded_correspondences()
        self.model = LandmarkModel(embedded_template("body"), where, identity_modes=0, response=response)

    def of(self, picture: int, width: int, height: int) -> np.ndarray:
        """[478, 3] float32."""
        from avatars.tracking.landmark_model import FrameState

        names = self.model.expression_names
        state = FrameState(*(part[None] for part in state_of(picture, len(names), names)))
        pixels = self.model.project(state, np.zeros(0), FOCAL_SHARE * max(width, height), (width / 2, height / 2))[0][0]
        return np.concatenate((pixels, np.zeros((len(pixels), 1))), 1).astype(np.float32)


def mask_of(width: int, height: int) -> np.ndarray:
    """[H, W] uint8, an ellipse."""
    down, across = np.mgrid[:height, :width]
    inside = ((across - width / 2) / (0.3 * width)) ** 2 + ((down - height / 2) / (0.42 * height)) ** 2 < 1
    return np.where(inside, 255, 0).astype(np.uint8)


def detect(questions: BinaryIO, answers: BinaryIO) -> None:
    """As backend/detector_process.py."""
    faces, asked = Faces(), 0

    def say(head: dict[str, Any], content: bytes = b"") -> None:
        answers.write(json.dumps(head).encode() + b"\n" + content)
        answers.flush()

    say({"ready": "stand-in"})
    while line := questions.readline():
        question = json.loads(line)
        width, height = question["width"], question["height"]
        picture = questions.read(width * height * 3)
        if question["want"] == "mask":
            say({}, mask_of(width, height).tobytes())
        elif question["want"] == "hands":
            say({"hands": 0})
        elif not any(picture[:300]):  # a black picture shows nobody
            say({"faces": 0})
        else:
            say({"faces": 1}, faces.of(asked, width, height).tobytes())
            asked += 1


class Film:
    """What cv2.VideoCapture does: 25 grey pictures a second."""

    def read(self) -> tuple[bool, np.ndarray]:
        import time

        time.sleep(0.04)
        return True, np.full((120, 160, 3), 90, np.uint8)

    def get(self, what: int) -> float:
        return 25.0


def main() -> int:
    """Which of the two processes is meant, the script's name says."""
    words = [word for word in sys.argv[1:] if word != "-I"]
    if words[0].endswith("camera_process.py"):
        from backend.camera_process import serve

        if words[1] != "0":
            sys.stdout.buffer.write(b'{"problem": "there is no such camera, or it is in use"}\n')
            return 1
        serve(Film(), sys.stdin.buffer, sys.stdout.buffer)
    else:
        detect(sys.stdin.buffer, sys.stdout.buffer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
