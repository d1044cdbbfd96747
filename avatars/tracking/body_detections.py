"""What a detector said of the body in each picture of a clip, in memory and in a file."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avatars.captures.options import small_file
from avatars.files import write_atomically
from avatars.tracking.body_landmarks import BODY, LEFT_HAND, POINTS, RIGHT_HAND
from avatars.tracking.detections import THUMBNAIL_PX
from shared.errors import BadCapture
from shared.npz import MAX_UNPACKED_BYTES, read_npz

SHARP_PX = 192
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class BodyDetections:
    """Of F pictures. number: [F] place in the video; points: [F, 75, 3] x, y px and how sure (0..1) of 33 landmarks of
    the body, 21 of the left and 21 of the right hand, NaN and 0 where not found; world: [F, 75, 3] m, the body's around
    its hips, a hand's around its own middle; second: [F] how tall another person is beside this one, 0 without;
    sharpness: [F] of the person; thumbnail: [F, 16, 16] uint8 grey."""

    number: NDArray[np.int64]
    points: Floats
    world: Floats
    second: Floats
    sharpness: Floats
    thumbnail: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.number)

    @property
    def seen(self) -> NDArray[np.bool_]:
        """[F] whether there is a body."""
        found: NDArray[np.bool_] = np.isfinite(self.points[:, :BODY]).all((1, 2))
        return found

    @staticmethod
    def of_picture(
        number: int,
        picture: NDArray[np.uint8],
        points: Floats | None,
        world: Floats | None,
        hands: Mapping[str, tuple[Floats, Floats]],
        second: float = 0.0,
    ) -> BodyDetections:
        """Of one RGB picture [H, W, 3]: points [33, 4], world [33, 3], hands by side -> ([21, 3] px, [21, 3] m);
        second: of another person."""
        grey = Image.fromarray(picture).convert("L")
        thumbnail = np.asarray(grey.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX))
        seen, places = np.full((POINTS, 3), np.nan, np.float32), np.full((POINTS, 3), np.nan, np.float32)
        seen[:, 2] = 0.0
        sharpness = 0.0
        if points is not None and world is not None:
            seen[:BODY, :2], seen[:BODY, 2], places[:BODY] = points[:, :2], points[:, 3], world
            for side, part in (("left", LEFT_HAND), ("right", RIGHT_HAND)):
                if side in hands:
                    seen[part, :2], seen[part, 2], places[part] = hands[side][0][:, :2], 1.0, hands[side][1]
            sharpness = _sharpness(grey, points[:, :2])
        return BodyDetections(
            np.array([number]),
            seen[None],
            places[None],
            np.array([second], np.float32),
            np.array([sharpness], np.float32),
            thumbnail[None],
        )

    @staticmethod
    def joined(parts: Sequence[BodyDetections]) -> BodyDetections:
        """Several, one after the other."""
        names = [field.name for field in fields(BodyDetections)]
        return BodyDetections(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def write(self, path: Path) -> None:
        """Into an .npz, whole or not at all. Raises EnvironmentFailed."""
        content = io.BytesIO()
        np.savez_compressed(content, **{field.name: getattr(self, field.name) for field in fields(BodyDetections)})
        write_atomically(path, content.getvalue())

    @staticmethod
    def read(path: Path) -> BodyDetections:
        """From `write`. Raises BadCapture for a damaged file."""
        arrays = read_npz(small_file(path, MAX_UNPACKED_BYTES), path.name, BadCapture)
        try:
            found = BodyDetections(*(arrays[field.name] for field in fields(BodyDetections)))
        except KeyError as error:
            raise BadCapture(
                f"{path.name} is damaged", found=f"no {error.args[0]}", do="Delete its folder and run again"
            ) from error
        if found.points.shape != (len(found), POINTS, 3) or found.world.shape != found.points.shape:
            raise BadCapture(
                f"{path.name} is damaged", found=str(found.points.shape), do="Delete its folder and run again"
            )
        return found


def _sharpness(grey: Image.Image, points: Floats) -> float:
    """Mean square of the Laplacian over the person at a fixed size, as a share of the picture's own contrast there."""
    low, high = np.maximum(points.min(0), 0), np.minimum(points.max(0), grey.size)
    if (high - low < 8).any():
        return 0.0
    side = float((high - low).max()) / SHARP_PX
    size = (max(8, round((high[0] - low[0]) / side)), max(8, round((high[1] - low[1]) / side)))
    small = grey.resize(size, Image.Resampling.BOX, box=(*low.tolist(), *high.tolist()))
    values = np.asarray(small, np.float64)
    laplacian = 4 * values[1:-1, 1:-1] - values[:-2, 1:-1] - values[2:, 1:-1] - values[1:-1, :-2] - values[1:-1, 2:]
    return float((laplacian**2).mean() / max(values.var(), 1.0))
