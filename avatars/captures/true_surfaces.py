"""True surfaces that lie beside a capture: the clothed person in some frames, to measure geometry against.

    surfaces.npz   frames [T]; part_names, part [F] uint8 into them; low [3] m and step_m: a vertex is low + step_m * n
                   vertices [T, 3, V] int16 and faces [3, F] int32: differences along the last axis, which zip well;
                   faces: of the first corner, then second and third minus first; error_mm [T] of what is stored

Only what can be seen from outside is in it; the hair is a hull around its strands, so it is told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadCapture
from shared.npz import read_npz

SURFACES, HAIR = "surfaces.npz", "hair"
MAX_BYTES, MAX_UNPACKED_BYTES = 256 << 20, 1 << 30
NEEDED = ("frames", "faces", "part", "part_names", "vertices", "low", "step_m")
STEP_M = 1e-4
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TrueSurfaces:
    """Faces [F, 3] of part [F] (indices into part_names) and places [T, V, 3] m in the `frames` [T] of a capture."""

    frames: tuple[int, ...]
    faces: NDArray[np.int64]
    part: NDArray[np.int64]
    part_names: tuple[str, ...]
    vertices: NDArray[np.float32]

    def mesh(self, frame: int, without: Sequence[str] = ()) -> tuple[Floats, NDArray[np.int64]]:
        """Vertices [V, 3] m in the world and triangles [F, 3] in one frame. Raises BadCapture for another frame."""
        if frame not in self.frames:
            raise BadCapture(
                f"there is no true surface of frame {frame}", expected=", ".join(str(one) for one in self.frames)
            )
        left_out = [self.part_names.index(name) for name in without if name in self.part_names]
        kept = self.faces[~np.isin(self.part, left_out)]
        used, renumbered = np.unique(kept, return_inverse=True)
        return self.vertices[self.frames.index(frame)][used].astype(np.float64), renumbered.reshape(-1, 3)


def read_true_surfaces(path: Path) -> TrueSurfaces:
    """Those of a capture's surfaces.npz. Raises BadCapture for a damaged file."""
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= MAX_BYTES else b""
    except OSError as error:
        raise BadCapture(f"{path} cannot be read", found=error.strerror or str(error)) from error
    where = f"{path.name} of {path.parent.name}"
    if size > MAX_BYTES:
        raise BadCapture(f"{where} is too large", found=f"{size} bytes", expected=f"at most {MAX_BYTES}")
    arrays = read_npz(content, where, BadCapture, max_unpacked_bytes=MAX_UNPACKED_BYTES)
    missing = [name for name in NEEDED if name not in arrays]
    if missing:
        raise BadCapture(f"{where} lacks {missing[0]!r}", found=", ".join(sorted(arrays)), expected=", ".join(NEEDED))
    return _checked(where, arrays)


def _checked(where: str, arrays: dict[str, NDArray[Any]]) -> TrueSurfaces:
    times, packed, corners = arrays["frames"].reshape(-1), arrays["vertices"], arrays["faces"]
    if times.dtype.kind not in "iu":
        raise BadCapture(f"frames of {where} are no whole numbers", found=str(times.dtype))
    count, most = (one.shape[-1] if one.ndim else 0 for one in (corners, packed))
    shapes = {"vertices": (len(times), 3, most), "low": (3,), "step_m": (), "faces": (3, count), "part": (count,)}
    for name, shape in shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype.kind not in "fiu":
            raise BadCapture(
                f"{name} of {where} does not fit", found=str(list(arrays[name].shape)), expected=str(shape)
            )
    first, second, third = corners.astype(np.int64)
    first = np.cumsum(first)
    faces, part = np.stack((first, first + second, first + third), 1), arrays["part"].astype(np.int64)
    names = tuple(str(name) for name in arrays["part_names"].reshape(-1))
    if not count or faces.min() < 0 or faces.max() >= most or not 0 <= part.min() <= part.max() < len(names):
        raise BadCapture(f"{where} names vertices or parts that are not there", do="Copy the capture again")
    steps = np.cumsum(packed.astype(np.int64), axis=-1).transpose(0, 2, 1)
    vertices = arrays["low"] + float(arrays["step_m"]) * steps
    if not np.isfinite(vertices).all():
        raise BadCapture(f"{where} holds places that are not finite", do="Copy the capture again")
    return TrueSurfaces(tuple(int(one) for one in times), faces, part, names, vertices.astype(np.float32))


def packed_surfaces(surfaces: TrueSurfaces, error_mm: Sequence[float]) -> dict[str, NDArray[Any]]:
    """The arrays of the file; places are rounded to 0.1 mm. Raises BadCapture for a person larger than three metres."""
    low = surfaces.vertices.min((0, 1)).astype(np.float64)
    steps = np.rint((surfaces.vertices - low) / STEP_M).astype(np.int64)
    if steps.max() > np.iinfo(np.int16).max:
        raise BadCapture(
            "true surfaces are larger than a person", found=f"{steps.max() * STEP_M:.1f} m", expected="3 m"
        )
    order = np.argsort(_along_a_curve(steps[0]), kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    faces = place[surfaces.faces]
    turn = (faces.argmin(1)[:, None] + np.arange(3)) % 3
    faces = np.take_along_axis(faces, turn, 1)
    rows = np.lexsort((faces[:, 0], surfaces.part))
    faces = faces[rows]
    first = np.diff(faces[:, 0], prepend=0)
    return {
        "frames": np.array(surfaces.frames, np.int32),
        "faces": np.stack((first, faces[:, 1] - faces[:, 0], faces[:, 2] - faces[:, 0])).astype(np.int32),
        "part": surfaces.part[rows].astype(np.uint8),
        "part_names": np.array(surfaces.part_names),
        "vertices": np.diff(steps[:, order].transpose(0, 2, 1), axis=-1, prepend=0).astype(np.int16),
        "low": low,
        "step_m": np.array(STEP_M),
        "error_mm": np.array(error_mm, np.float32),
    }


def _along_a_curve(steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers [V] that are near each other where places [V, 3] are (Morton's order), so that differences are small."""
    found = np.zeros(len(steps), np.int64)
    for bit in range(15):
        for axis in range(3):
            found |= ((steps[:, axis] >> bit) & 1) << (3 * bit + axis)
    return found
