"""How the camera numbers of a file are meant, and one camera out of them whatever was meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avatars.captures.flame_axes import MODEL_FROM_FLAME_4
from shared.errors import BadCapture

Floats = NDArray[np.float64]

FLIP_YZ = np.diag((1.0, -1.0, -1.0, 1.0))
"""OpenCV camera axes from OpenGL's (y up, looking along -z) and back."""


@dataclass(frozen=True)
class Reading:
    """What a file's numbers mean.

    matrix: the 4x4 takes world to camera ('camera_from_world') or camera to world. axes: of the camera, OpenCV's or
    OpenGL's. up: the up axis of the file's world; 'y' is FLAME's own. intrinsics: K 'as_is' (pixel centres at +0.5),
    'transposed', 'half_pixel' (pixel centres at whole numbers) or 'swapped' (x and y exchanged, as if width and height
    were).
    """

    matrix: Literal["camera_from_world", "world_from_camera"] = "camera_from_world"
    axes: Literal["opencv", "opengl"] = "opencv"
    up: Literal["y", "z"] = "y"
    intrinsics: Literal["as_is", "transposed", "half_pixel", "swapped"] = "as_is"

    def sentence(self) -> str:
        """In words, for reports."""
        way = "world to camera" if self.matrix == "camera_from_world" else "camera to world"
        axes = {"opencv": "OpenCV", "opengl": "OpenGL"}[self.axes]
        inside = {"as_is": "", "transposed": ", K transposed", "half_pixel": ", K half a pixel off", "swapped": ""}
        swapped = ", K with x and y exchanged" if self.intrinsics == "swapped" else inside[self.intrinsics]
        return f"{way}, {axes} axes, {self.up} up{swapped}"


INSTA_READING = Reading()
NERSEMBLE_READING = Reading(matrix="world_from_camera", axes="opengl")
EFFIGY_READING = Reading(matrix="world_from_camera", up="z")


def camera_from_flame(matrix: ArrayLike, reading: Reading) -> Floats:
    """OpenCV camera from FLAME's world (y up), [..., 4, 4], of a file's rigid matrix [..., 4, 4]."""
    found = np.asarray(matrix, np.float64)
    if reading.matrix == "world_from_camera":
        found = np.linalg.inv(found)
    if reading.axes == "opengl":
        found = FLIP_YZ @ found
    return found @ MODEL_FROM_FLAME_4 if reading.up == "z" else found


def inverse(matrix: ArrayLike, where: str) -> Floats:
    """The inverse [4, 4] of a file's matrix. Raises BadCapture where it has none: a camera without extent."""
    try:
        return np.asarray(np.linalg.inv(np.asarray(matrix, np.float64)), np.float64)
    except np.linalg.LinAlgError as error:
        raise BadCapture(f"the matrix of a camera in {where} has no inverse", expected="a rigid matrix") from error


def matrix_in_file(camera: ArrayLike, reading: Reading) -> Floats:
    """Inverse of `camera_from_flame`: the matrix a file of that reading would hold."""
    found = np.asarray(camera, np.float64)
    if reading.up == "z":
        found = found @ MODEL_FROM_FLAME_4.T
    if reading.axes == "opengl":
        found = FLIP_YZ @ found
    return np.linalg.inv(found) if reading.matrix == "world_from_camera" else found


def intrinsics(K: ArrayLike, reading: Reading) -> Floats:
    """K [3, 3] px with pixel centres at +0.5, of the K a file holds."""
    found = np.array(K, np.float64)
    if reading.intrinsics == "transposed":
        found = found.T.copy()
    elif reading.intrinsics == "half_pixel":
        found[:2, 2] += 0.5
    elif reading.intrinsics == "swapped":
        found[[0, 1], [0, 1]], found[:2, 2] = found[[1, 0], [1, 0]], found[[1, 0], 2]
    return found


def intrinsics_in_file(K: ArrayLike, reading: Reading) -> Floats:
    """Inverse of `intrinsics`."""
    found = np.array(K, np.float64)
    if reading.intrinsics == "half_pixel":
        found[:2, 2] -= 0.5
        return found
    return intrinsics(found, reading)  # the others undo themselves


def candidates(own: Reading) -> tuple[Reading, ...]:
    """Every reading of the matrix with the intrinsics of `own`, `own` first."""
    found = [
        Reading(matrix, axes, up, own.intrinsics)
        for matrix in ("camera_from_world", "world_from_camera")
        for axes in ("opencv", "opengl")
        for up in ("y", "z")
    ]
    return (own, *(reading for reading in found if reading != own))


def intrinsic_candidates(own: Reading) -> tuple[Reading, ...]:
    """Every reading of K with the matrix as `own` reads it, `own` first."""
    found = [Reading(own.matrix, own.axes, own.up, kind) for kind in ("as_is", "transposed", "half_pixel", "swapped")]
    return (own, *(reading for reading in found if reading != own))
