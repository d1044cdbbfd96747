"""What a face detector said of each picture of a clip, in memory and in a file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avatars.files import write_atomically
from avatars.tracking.correspondences import LANDMARKS
from shared.errors import BadCapture
from shared.npz import read_npz

THUMBNAIL_PX = 16
FACE_PX = 128


@dataclass(frozen=True, eq=False)
class Detections:
    """Of F pictures. number: [F] place in the video; landmarks: [F, N, 2] px of the largest face, NaN without one;
    second: [F] size of the second face as a share of the first, 0 without; sharpness: [F] of the face, 0 without one;
    thumbnail: [F, 16, 16] uint8 grey of the whole picture, by which cuts are seen."""

    number: NDArray[np.int64]
    landmarks: NDArray[np.float32]
    second: NDArray[np.float32]
    sharpness: NDArray[np.float32]
    thumbnail: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.number)

    @property
    def seen(self) -> NDArray[np.bool_]:
        """[F] whether there is a face."""
        found: NDArray[np.bool_] = np.isfinite(self.landmarks).all((1, 2))
        return found

    @staticmethod
    def of_picture(number: int, picture: NDArray[np.uint8], faces: NDArray[np.float32]) -> Detections:
        """Of one RGB picture [H, W, 3] and the faces [n, N, 3] found in it, the largest first."""
        grey = Image.fromarray(picture).convert("L")
        thumbnail = np.asarray(grey.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX))
        landmarks = np.full((LANDMARKS, 2), np.nan, np.float32)
        second = sharpness = 0.0
        if len(faces):
            landmarks = faces[0, :, :2]
            sharpness = _sharpness(grey, landmarks)
        if len(faces) > 1:
            second = float(np.ptp(faces[1, :, :2], 0).max() / max(np.ptp(landmarks, 0).max(), 1e-6))
        return Detections(
            np.array([number]),
            landmarks[None],
            np.array([second], np.float32),
            np.array([sharpness], np.float32),
            thumbnail[None],
        )

    @staticmethod
    def joined(parts: Sequence[Detections]) -> Detections:
        """Several, one after the other."""
        names = [field.name for field in fields(Detections)]
        return Detections(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def write(self, path: Path) -> None:
        """Into an .npz, whole or not at all. Raises EnvironmentFailed."""
        content = io.BytesIO()
        np.savez_compressed(content, **{field.name: getattr(self, field.name) for field in fields(Detections)})
        write_atomically(path, content.getvalue())

    @staticmethod
    def read(path: Path) -> Detections:
        """From `write`. Raises BadCapture for a damaged file."""
        arrays = read_npz(path.read_bytes(), path.name, BadCapture)
        try:
            found = Detections(*(arrays[field.name] for field in fields(Detections)))
        except KeyError as error:
            raise BadCapture(
                f"{path.name} is damaged", found=f"no {error.args[0]}", do="Delete it and run again"
            ) from error
        if found.landmarks.shape != (len(found), LANDMARKS, 2):
            raise BadCapture(f"{path.name} is damaged", found=str(found.landmarks.shape), do="Delete it and run again")
        return found


def _sharpness(grey: Image.Image, landmarks: NDArray[np.float32]) -> float:
    """Mean square of the Laplacian over the face at a fixed size, as a share of the face's own contrast."""
    low, high = landmarks.min(0), landmarks.max(0)
    box = (*np.maximum(low, 0), *np.minimum(high, grey.size))
    if box[2] - box[0] < 4 or box[3] - box[1] < 4:
        return 0.0
    face = grey.crop(tuple(round(float(x)) for x in box)).resize((FACE_PX, FACE_PX), Image.Resampling.BOX)
    values = np.asarray(face, np.float64)
    laplacian = 4 * values[1:-1, 1:-1] - values[:-2, 1:-1] - values[2:, 1:-1] - values[1:-1, :-2] - values[1:-1, 2:]
    return float((laplacian**2).mean() / max(values.var(), 1.0))
