"""Where AvatarReX, THuman4.0 and ActorsHQ keep their cameras, pictures and masks (bodies page C.2 to C.4).

    AvatarReX  calibration_full.json  SERIAL/00000000.jpg           SERIAL/mask/pha/00000000.jpg
    THuman4.0  calibration.json       images/cam00/00000000.jpg     masks/cam00/00000000.jpg
    ActorsHQ   calibration.csv        rgbs/Cam001/Cam001_rgb000000.jpg  masks/Cam001/Cam001_mask000000.png

Folders are listed, files are not opened: such recordings hold a hundred thousand pictures.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.captures.flame_axes import rigid
from avatars.captures.options import json_object, small_file
from shared.errors import BadCapture
from shared.template import rotation_matrices

Floats = NDArray[np.float64]

MAX_CALIBRATION_BYTES, MAX_LIST_BYTES = 16 << 20, 64 << 20
MOST_CAMERAS = 1000
SCALES = ("", "4x", "2x", "1x")
PARAMETERS, MISSING = "smpl_params.npz", "missing_img_files.txt"
PICTURE = re.compile(r"(?:.*?)(\d+)\.(?:jpg|jpeg|png|webp)", re.IGNORECASE)
ACTORSHQ_COLUMNS = ("name", "w", "h", "rx", "ry", "rz", "tx", "ty", "tz", "fx", "fy", "px", "py")


@dataclass(frozen=True, eq=False)
class FileCamera:
    """One camera as its file says. camera_from_world [4, 4] of the file's world, OpenCV axes; K [3, 3] px.

    distortion: OpenCV's five coefficients, () where the lens is straight.
    """

    name: str
    width_px: int
    height_px: int
    K: Floats
    camera_from_world: Floats
    distortion: tuple[float, ...]


@dataclass(frozen=True)
class BodyLayout:
    """How one data set names things. calibration: its file; pictures and masks: folder of a camera."""

    key: str
    title: str
    calibration: str
    read_cameras: Callable[[Path], tuple[FileCamera, ...]]
    pictures: Callable[[Path, str], Path]
    masks: Callable[[Path, str], Path]


def body_layout(folder: Path) -> tuple[BodyLayout, Path] | None:
    """The layout of a folder and the folder its files lie in (of ActorsHQ one of 4x, 2x, 1x), None for another."""
    if (folder / "calibration_full.json").is_file():
        return LAYOUTS["avatarrex"], folder
    if (folder / "calibration.json").is_file() and ((folder / "images").is_dir() or (folder / "masks").is_dir()):
        return LAYOUTS["thuman4"], folder
    for base in (folder, folder / "Sequence1"):
        for scale in SCALES:
            if (base / scale / "calibration.csv").is_file():
                return LAYOUTS["actorshq"], base / scale
    return None


def parameters_file(place: Path) -> Path:
    """smpl_params.npz in `place` or up to two folders above it. Raises BadCapture."""
    for folder in (place, *place.absolute().parents[:2]):
        if (folder / PARAMETERS).is_file():
            return folder / PARAMETERS
    raise BadCapture(
        f"{place.name} has no {PARAMETERS}, which says how the body stands in each frame",
        expected=f"{PARAMETERS} in it or up to two folders above",
        do="Download the registrations of the data set and put the file there",
    )


def calibration_json(path: Path) -> tuple[FileCamera, ...]:
    """Cameras of AvatarReX and THuman4.0 in their order. Raises BadCapture."""
    document = json_object(path, MAX_CALIBRATION_BYTES)
    cameras = []
    for name, entry in document.items():
        where = f"camera {name!r} of {path.name}"
        if not isinstance(entry, Mapping):
            raise BadCapture(f"{where} is damaged", found=type(entry).__name__, expected="K, R, T, distCoeff, imgSize")
        K, R, T = (_numbers(entry, key, count, where) for key, count in (("K", 9), ("R", 9), ("T", 3)))
        lens = _numbers(entry, "distCoeff", None, where) if "distCoeff" in entry else np.zeros(5)
        size = _numbers(entry, "imgSize", 2, where)
        coefficients = tuple(float(one) for one in np.append(lens, np.zeros(5))[:5])
        R = R.reshape(3, 3)
        if np.abs(R @ R.T - np.eye(3)).max() > 1e-2 or np.linalg.det(R) < 0:
            raise BadCapture(f"R of {where} is no rotation", expected="nine numbers of a rotation matrix")
        straight = float(np.abs(coefficients).sum()) <= 1e-4
        cameras.append(
            FileCamera(
                str(name),
                int(size[0]),
                int(size[1]),
                K.reshape(3, 3),
                rigid(_orthonormal(R), T),
                () if straight else coefficients,
            )
        )
    return _some(cameras, path)


def calibration_csv(path: Path) -> tuple[FileCamera, ...]:
    """Cameras of ActorsHQ in their order; sizes are those the rows say. Raises BadCapture."""
    text = small_file(path, MAX_CALIBRATION_BYTES).decode("utf-8", "replace")
    try:
        rows = list(csv.DictReader(io.StringIO(text), skipinitialspace=True))
    except csv.Error as error:
        raise BadCapture(f"{path.name} is no list of cameras", found=str(error)[:100]) from error
    cameras = []
    for number, row in enumerate(rows, 2):
        lacking = [column for column in ACTORSHQ_COLUMNS if row.get(column) in (None, "")]
        if lacking:
            raise BadCapture(f"line {number} of {path.name} lacks {lacking[0]!r}", expected=",".join(ACTORSHQ_COLUMNS))
        try:
            w, h, rx, ry, rz, tx, ty, tz, fx, fy, px, py = (float(row[column]) for column in ACTORSHQ_COLUMNS[1:])
        except ValueError as error:
            raise BadCapture(f"line {number} of {path.name} holds a word for a number", found=str(error)) from error
        if not all(map(math.isfinite, (w, h, rx, ry, rz, tx, ty, tz, fx, fy, px, py))) or min(w, h, fx, fy) <= 0:
            raise BadCapture(f"line {number} of {path.name} is no camera", expected="finite numbers, sizes above 0")
        world_from_camera = rigid(rotation_matrices(np.array([rx, ry, rz])), np.array([tx, ty, tz]))
        K = np.array([[fx * w, 0, px * w], [0, fy * h, py * h], [0, 0, 1]])
        name = str(row["name"]).strip()
        cameras.append(FileCamera(name, round(w), round(h), K, np.linalg.inv(world_from_camera), ()))
    return _some(cameras, path)


def listed(folder: Path, root: Path, lost: frozenset[str]) -> dict[int, Path]:
    """Frame number -> picture in a folder, by the last number in each name; none for a folder that is not there.

    lost: paths relative to `root`, with forward slashes, that count as absent.
    """
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.is_file()]
    except FileNotFoundError:
        return {}
    found = {}
    relative = os.path.relpath(folder, root).replace(os.sep, "/")
    for name in sorted(names):
        match = PICTURE.fullmatch(name)
        if match and f"{relative}/{name}" not in lost:
            found[int(match[1][-12:])] = folder / name
    return found


def lost_pictures(place: Path) -> frozenset[str]:
    """Relative paths in missing_img_files.txt, with forward slashes whatever the file uses; none without the file."""
    path = place / MISSING
    if not path.is_file():
        return frozenset()
    lines = small_file(path, MAX_LIST_BYTES).decode("utf-8", "replace").splitlines()
    return frozenset(line.strip().replace("\\", "/").removeprefix("./") for line in lines if line.strip())


def _numbers(entry: Mapping[str, Any], key: str, count: int | None, where: str) -> Floats:
    if key not in entry:
        raise BadCapture(f"{where} lacks {key!r}", expected="K, R, T, distCoeff, imgSize")
    try:
        array = np.array(entry[key], np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadCapture(f"{key} of {where} holds no numbers", found=str(error)[:100]) from error
    if (count is not None and array.size != count) or not np.isfinite(array).all():
        raise BadCapture(f"{key} of {where} has another size", found=str(array.size), expected=f"{count} numbers")
    return array


def _orthonormal(R: Floats) -> Floats:
    """The nearest rotation: files round to few digits."""
    U, _, Vt = np.linalg.svd(R)
    nearest: Floats = U @ Vt
    return nearest


def _some(cameras: list[FileCamera], path: Path) -> tuple[FileCamera, ...]:
    if not 0 < len(cameras) <= MOST_CAMERAS:
        raise BadCapture(f"{path.name} names no usable number of cameras", found=str(len(cameras)))
    for camera in cameras:
        if np.abs(camera.K[2] - (0, 0, 1)).max() > 1e-6 or camera.K[[0, 1], [0, 1]].min() <= 0:
            raise BadCapture(
                f"K of camera {camera.name!r} in {path.name} is no camera matrix",
                found=str(np.round(camera.K, 2).tolist()),
                expected="focal lengths above 0 and last row 0, 0, 1",
            )
    return tuple(cameras)


LAYOUTS: Mapping[str, BodyLayout] = MappingProxyType(
    {
        "avatarrex": BodyLayout(
            "avatarrex",
            "AvatarReX",
            "calibration_full.json",
            calibration_json,
            lambda place, camera: place / camera,
            lambda place, camera: place / camera / "mask" / "pha",
        ),
        "thuman4": BodyLayout(
            "thuman4",
            "THuman4.0",
            "calibration.json",
            calibration_json,
            lambda place, camera: place / "images" / camera,
            lambda place, camera: place / "masks" / camera,
        ),
        "actorshq": BodyLayout(
            "actorshq",
            "ActorsHQ",
            "calibration.csv",
            calibration_csv,
            lambda place, camera: place / "rgbs" / camera,
            lambda place, camera: place / "masks" / camera,
        ),
    }
)
