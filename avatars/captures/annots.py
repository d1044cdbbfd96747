"""`annots.npy` of ZJU-MoCap and MonoCap: the cameras of a studio and which picture each took of each frame.

    cams   K [3, 3] px, D [5] (OpenCV's lens), R [3, 3], T [3] millimetres, one of each for every camera
    ims    for every frame {"ims": [a picture's relative path for every camera]}

The file is a pickle inside an .npy; it is read as data only. Source: bodies page C.5.
"""

from __future__ import annotations

import io
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.captures.flame_axes import rigid
from avatars.captures.options import small_file
from avatars.captures.units import CLOSEST_M, STUDIO_M, millimetres
from avatars.templates.restricted_pickle import read_pickle
from shared.errors import BadCapture

Floats = NDArray[np.float64]

ANNOTS = "annots.npy"
MAX_BYTES, MAX_OPERATIONS, MAX_PARAMETER_BYTES = 256 << 20, 8_000_000, 1 << 20
MOST_CAMERAS = 1000
MM = 1e-3


@dataclass(frozen=True, eq=False)
class Annots:
    """Cameras and pictures. camera_from_world: [C, 4, 4] with OpenCV axes and `T` as in the file; K: [C, 3, 3] px.

    lenses: OpenCV's five coefficients of each camera, () where straight. pictures: [frame][camera], relative paths.
    """

    K: Floats
    camera_from_world: Floats
    lenses: tuple[tuple[float, ...], ...]
    pictures: tuple[tuple[PurePosixPath, ...], ...]


def read_annots(path: Path) -> Annots:
    """The content of such a file. Raises BadCapture."""
    where = f"{path.parent.name}/{path.name}"
    content = pickled_npy(path, MAX_BYTES, MAX_OPERATIONS)
    if not isinstance(content, Mapping) or not isinstance(content.get("cams"), Mapping):
        raise BadCapture(f"{where} is no list of cameras and pictures", expected="cams and ims")
    cams = content["cams"]
    try:
        K, R = (_stack(cams[key], 9).reshape(-1, 3, 3) for key in ("K", "R"))
        T = _stack(cams["T"], 3)
        lenses = [np.append(np.asarray(one, np.float64).reshape(-1)[:5], np.zeros(5))[:5] for one in cams["D"]]
        pictures = tuple(tuple(_relative(name, where) for name in frame["ims"]) for frame in content["ims"])
    except KeyError as error:
        raise BadCapture(f"{where} lacks {error.args[0]!r}", expected="K, D, R, T of cams, and ims") from error
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise BadCapture(f"{where} is damaged", found=str(error)[:100], expected="K, D, R, T of each camera") from error
    if not 0 < len(K) == len(R) == len(T) == len(lenses) <= MOST_CAMERAS:
        raise BadCapture(f"{where} has unequal counts", found=f"K {len(K)}, R {len(R)}, T {len(T)}, D {len(lenses)}")
    if not all(np.isfinite(one).all() for one in (K, R, T, np.stack(lenses))) or K[:, [0, 1], [0, 1]].min() <= 0:
        raise BadCapture(f"{where} holds a camera with impossible numbers", expected="finite, focal lengths above 0")
    if np.abs(R @ R.transpose(0, 2, 1) - np.eye(3)).max() > 1e-2 or np.linalg.det(R).min() < 0:
        raise BadCapture(f"R of a camera in {where} is no rotation", expected="world to camera")
    if not pictures or {len(frame) for frame in pictures} != {len(K)}:
        raise BadCapture(f"{where} has not one picture of each camera for every frame", found=f"{len(K)} cameras")
    straight = [float(np.abs(one).sum()) <= 1e-4 for one in lenses]
    coefficients = tuple(() if plain else tuple(map(float, one)) for plain, one in zip(straight, lenses, strict=True))
    matrices = np.stack([rigid(one, place) for one, place in zip(R, T, strict=True)])
    return Annots(K, matrices, coefficients, pictures)


def pickled_npy(path: Path, max_bytes: int = MAX_PARAMETER_BYTES, max_operations: int = 20_000) -> Any:
    """What an .npy of one Python object holds, as plain containers and arrays; nothing of it is run.

    Raises BadCapture.
    """
    where = f"{path.parent.name}/{path.name}"
    content = small_file(path, max_bytes)
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
    except (ValueError, EOFError, SyntaxError, TypeError, RuntimeError, MemoryError, tokenize.TokenError) as error:
        raise BadCapture(f"{where} is no .npy file", found=str(error)[:100], do="Copy the file again") from error
    if not dtype.hasobject or shape != ():
        raise BadCapture(f"{where} holds another kind of array", found=f"{list(shape)} {dtype}", expected="one object")
    return read_pickle(content[stream.tell() :], where, BadCapture, max_bytes=max_bytes, max_operations=max_operations)


def metres_of(annots: Annots, body_m: Floats, given: str, where: str) -> tuple[Floats, str]:
    """camera_from_world [C, 4, 4] in metres, and a sentence.

    body_m: [T, 3] places of the body's pelvis. given: "m" or "mm" as the user says, "" to tell it: cameras that stand
    farther than STUDIO_M from the body are in millimetres. Raises BadCapture where neither makes sense.
    """
    matrices = annots.camera_from_world.copy()
    middle = np.median(body_m, 0)

    def distance(scale: float) -> float:
        places = [-one[:3, :3].T @ one[:3, 3] * scale for one in matrices]
        return float(np.median(np.linalg.norm(np.stack(places) - middle, axis=1)))

    unit = given or ("m" if distance(1.0) < STUDIO_M else "mm")
    far = distance(MM if unit == "mm" else 1.0)
    reach = float(np.linalg.norm(matrices[:, :3, 3], axis=1).max())
    if unit == "mm" and reach * MM < CLOSEST_M / 3:  # all of them in one place, the world's origin
        far = reach * MM
    if not CLOSEST_M < far < STUDIO_M:
        raise millimetres(where, far)
    matrices[:, :3, 3] *= MM if unit == "mm" else 1.0
    long = {"m": "metres", "mm": "millimetres"}[unit]
    return matrices, f"Camera places are read as {long}: {far:.1f} m from the person"


def _stack(values: Sequence[Any], count: int) -> Floats:
    rows = [np.asarray(one, np.float64).reshape(count) for one in values]
    return np.stack(rows) if rows else np.zeros((0, count))


def _relative(name: Any, where: str) -> PurePosixPath:
    if not isinstance(name, str):
        raise ValueError("a picture's name is no text")
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name[:2]:
        raise BadCapture(f"{where} names a picture outside its folder", found=name[:80])
    return path
