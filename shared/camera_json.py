"""One camera as MMLPHuman's viewer writes it: w2c, K, fovx, height, width (method page A.11). numpy only, for Blender.

w2c is the row-major world-to-camera matrix in OpenCV axes; fovx in degrees. The world is that of the poses it is used
with, z up as in AMASS unless said otherwise.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from .errors import BadCapture
from .motions import WORLD_FROM_UP
from .types import Camera

MAX_BYTES = 1 << 20
NEAREST_RIGID = 1e-2


def camera_from_json(content: bytes | str, name: str, up: str = "z") -> Camera:
    """The camera in a file called `name`; up: the file's up axis, a key of WORLD_FROM_UP. Raises BadCapture.

    As the original's test does, K is made from fovx with the principal point in the middle; where fovx is absent, K is
    taken as it is.
    """
    if len(content) > MAX_BYTES:
        raise BadCapture(f"{name} is too large for a camera", found=f"{len(content)} bytes")
    try:
        values = json.loads(content)
        if not isinstance(values, dict):
            raise TypeError("not an object")
        width, height = int(values["width"]), int(values["height"])
        w2c = np.array(values["w2c"], np.float64).reshape(4, 4)
        fovx = values.get("fovx")
        K = np.array(values["K"], np.float64).reshape(3, 3) if fovx is None else _from_fov(float(fovx), width, height)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise BadCapture(
            f"{name} is no camera of MMLPHuman's viewer", found=str(error)[:120], expected="w2c, fovx, height, width"
        ) from error
    rotation = w2c[:3, :3]
    off = np.abs(rotation @ rotation.T - np.eye(3)).max() if np.isfinite(w2c).all() else math.inf
    if not (np.isfinite(K).all() and off < NEAREST_RIGID and np.linalg.det(rotation) > 0):
        raise BadCapture(f"w2c of {name} is not rigid", found=f"off by {off:.2g}", do="Export the camera again")
    u, _, vt = np.linalg.svd(rotation)  # files hold few digits
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3] = (u @ vt).T
    world_from_camera[:3, 3] = -world_from_camera[:3, :3] @ w2c[:3, 3]
    turn = np.eye(4)
    turn[:3, :3] = WORLD_FROM_UP[up]
    return Camera(width, height, K, turn @ world_from_camera)


def camera_as_json(camera: Camera) -> str:
    """The file of a camera in our z-up world. fovx says what K does as far as a symmetric camera can."""
    values: dict[str, Any] = {
        "w2c": camera.camera_from_world().reshape(-1).tolist(),
        "K": camera.K.reshape(-1).tolist(),
        "fovx": math.degrees(2 * math.atan(camera.width_px / 2 / camera.K[0, 0])),
        "height": camera.height_px,
        "width": camera.width_px,
    }
    return json.dumps(values, indent=1)


def _from_fov(fovx_deg: float, width: int, height: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    if not 0 < fovx_deg < 180:
        raise ValueError(f"fovx {fovx_deg:g}")
    focal = width / 2 / math.tan(math.radians(fovx_deg) / 2)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
