"""What a face detector said of each picture of a clip, in memory and in a file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avatars.captures.options import small_file
from avatars.files import write_atomically
from avatars.tracking.correspondences import LANDMARKS
from shared.errors import BadCapture
from shared.npz import MAX_UNPACKED_BYTES, read_npz

THUMBNAIL_PX = 16
FACE_PX, COLOUR_PX = 128, 64
NO_HANDS: NDArray[np.float32] = np.zeros((0, 21, 3), np.float32)
FACE_OUTLINE = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
"""Landmarks around the face, in order, from the forehead over its left side."""


@dataclass(frozen=True, eq=False)
class Detections:
    """Of F pictures. number: [F] place in the video; landmarks: [F, N, 2] px of the largest face, NaN without one;
    second: [F] size of the second face as a share of the first, 0 without; sharpness: [F] of the face, 0 without one;
    thumbnail: [F, 16, 16] uint8 grey of the whole picture, by which cuts are seen; hand: [F] how many points of a hand
    lie on the face; colours: [F, N, 3] uint8 at the landmarks."""

    number: NDArray[np.int64]
    landmarks: NDArray[np.float32]
    second: NDArray[np.float32]
    sharpness: NDArray[np.float32]
    thumbnail: NDArray[np.uint8]
    hand: NDArray[np.int64]
    colours: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.number)

    @property
    def seen(self) -> NDArray[np.bool_]:
        """[F] whether there is a face."""
        found: NDArray[np.bool_] = np.isfinite(self.landmarks).all((1, 2))
        return found

    @staticmethod
    def of_picture(
        number: int, picture: NDArray[np.uint8], faces: NDArray[np.float32], hands: NDArray[np.float32] = NO_HANDS
    ) -> Detections:
        """Of one RGB picture [H, W, 3], the faces [n, N, 3] found in it, the largest first, and hands [n, 21, 3]."""
        grey = Image.fromarray(picture).convert("L")
        thumbnail = np.asarray(grey.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX))
        landmarks = np.full((LANDMARKS, 2), np.nan, np.float32)
        sharpness, hand = 0.0, 0
        colours = np.zeros((LANDMARKS, 3), np.uint8)
        if len(faces):
            landmarks = faces[0, :, :2]
            sharpness = _sharpness(grey, landmarks)
            colours = _colours(picture, landmarks)
            outline = landmarks[list(FACE_OUTLINE)].astype(np.float64)
            hand = max((int(inside(outline, one[:, :2].astype(np.float64)).sum()) for one in hands), default=0)
        return Detections(
            np.array([number]),
            landmarks[None],
            np.array([second_share(faces)], np.float32),
            np.array([sharpness], np.float32),
            thumbnail[None],
            np.array([hand]),
            colours[None],
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
        arrays = read_npz(small_file(path, MAX_UNPACKED_BYTES), path.name, BadCapture)
        try:
            found = Detections(*(arrays[field.name] for field in fields(Detections)))
        except KeyError as error:
            raise BadCapture(
                f"{path.name} is damaged or of an earlier version",
                found=f"no {error.args[0]}",
                do="Delete its folder and run again",
            ) from error
        if found.landmarks.shape != (len(found), LANDMARKS, 2):
            raise BadCapture(f"{path.name} is damaged", found=str(found.landmarks.shape), do="Delete it and run again")
        return found


def second_share(faces: NDArray[np.float32]) -> float:
    """Size of the second of faces [n, N, 3] as a share of the first, 0 without one."""
    if len(faces) < 2:
        return 0.0
    return float(np.ptp(faces[1, :, :2], 0).max() / max(np.ptp(faces[0, :, :2], 0).max(), 1e-6))


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


def _colours(picture: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[N, 3] around each landmark, a 64th of the face wide; those outside take the picture's edge."""
    low, high = landmarks.min(0), landmarks.max(0)
    side = max(float((high - low).max()), 1.0)
    box = (*low.tolist(), *(low + side).tolist())
    size = picture.shape[1], picture.shape[0]
    inside_box = (max(box[0], 0), max(box[1], 0), min(box[2], size[0]), min(box[3], size[1]))
    if inside_box[2] - inside_box[0] < 1 or inside_box[3] - inside_box[1] < 1:
        return np.zeros((len(landmarks), 3), np.uint8)
    small = Image.fromarray(picture).resize((COLOUR_PX, COLOUR_PX), Image.Resampling.BOX, box=inside_box)
    scale = COLOUR_PX / np.array([inside_box[2] - inside_box[0], inside_box[3] - inside_box[1]])
    at = np.clip(((landmarks - np.array(inside_box[:2])) * scale).astype(int), 0, COLOUR_PX - 1)
    found: NDArray[np.uint8] = np.asarray(small)[at[:, 1], at[:, 0]]
    return found


def inside(outline: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """[P] whether points [P, 2] lie within the polygon [N, 2] (by how often a ray to the right crosses it)."""
    first, second = outline, np.roll(outline, -1, axis=0)
    above = (first[:, 1] > points[:, 1:]) != (second[:, 1] > points[:, 1:])
    rise = np.where(second[:, 1] == first[:, 1], 1.0, second[:, 1] - first[:, 1])
    across = first[:, 0] + (points[:, 1:] - first[:, 1]) / rise * (second[:, 0] - first[:, 0])
    found: NDArray[np.bool_] = ((above & (points[:, :1] < across)).sum(1) % 2).astype(np.bool_)
    return found
