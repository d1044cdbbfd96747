"""Camera paths in JSON: MMLPHuman's viewer's fields, one camera or one a frame, and paths of other viewers.

    one camera   {"w2c": 16 numbers row-major, OpenCV axes, "K": 9, "fovx": degrees, "height", "width"}
    a path       {"fps", "frames": [the same with "frame"]}, or a plain list of such cameras
    nerfstudio   {"camera_path": [{"camera_to_world": 16 numbers, OpenGL axes, "fov": vertical degrees}], "fps", ...}
    3DGS         [{"position", "rotation", "fx", "fy", "width", "height"}], as training writes cameras.json
Source: bodies page A.11.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import errors, motions, types

MAX_BYTES = 64 << 20
MAX_CAMERAS = 100_000
KINDS = "w2c, K, fovx, height and width; nerfstudio's camera_path; or 3DGS's cameras.json"
RIGID_WITHIN = 1e-2
OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class CameraPath:
    """Cameras in a z-up world, one a frame. frames: numbers that the file gives, else from 0. fps: None if not said."""

    cameras: tuple[types.Camera, ...]
    frames: tuple[int, ...]
    fps: float | None
    label: str


def read_path(content: bytes, name: str, up: str = "z") -> CameraPath:
    """The cameras in a file called `name`. Raises BadCapture.

    up: the file's up axis, a key of `motions.WORLD_FROM_UP`.
    """
    if len(content) > MAX_BYTES:
        raise errors.BadCapture(f"{name} is too large for a camera path", found=f"{len(content)} bytes")
    try:
        document = json.loads(content)
        path = _read(document, name)
    except (KeyError, TypeError, ValueError, RecursionError, OverflowError, errors.EffigyError) as error:
        what = error.what if isinstance(error, errors.EffigyError) else f"{type(error).__name__}: {error}"
        raise errors.BadCapture(f"{name} holds no camera path", found=what[:160], expected=KINDS) from error
    turn = np.eye(4)
    turn[:3, :3] = motions.WORLD_FROM_UP[up]
    turned = tuple(types.Camera(c.width_px, c.height_px, c.K, turn @ c.world_from_camera) for c in path.cameras)
    return CameraPath(turned, path.frames, path.fps, path.label)


def path_json(cameras: Sequence[types.Camera], frames: Sequence[int], fps: float) -> str:
    """The file of a path; a single camera is written as MMLPHuman's viewer writes it. Raises BadConfig for none."""
    if not cameras:
        raise errors.BadConfig("The range has no frames", do="Set the scene's first and last frame")
    entries = [_entry(camera) for camera in cameras]
    if len(entries) == 1:
        return json.dumps(entries[0], indent=1)
    numbered = [{"frame": frame, **entry} for frame, entry in zip(frames, entries, strict=True)]
    return json.dumps({"fps": fps, "frames": numbered}, indent=1)


def _entry(camera: types.Camera) -> dict[str, Any]:
    if camera.orthographic:
        raise errors.BadConfig(
            "An orthographic camera has no place in such a file", do="Set the camera's lens type to Perspective"
        )
    return {
        "w2c": camera.camera_from_world().reshape(-1).tolist(),
        "K": camera.K.reshape(-1).tolist(),
        "fovx": math.degrees(2 * math.atan(camera.width_px / 2 / camera.K[0, 0])),
        "height": camera.height_px,
        "width": camera.width_px,
    }


def _read(document: Any, name: str) -> CameraPath:
    if isinstance(document, Mapping) and "camera_path" in document:
        return _nerfstudio(document)
    fps = None
    if isinstance(document, Mapping):
        fps = float(document["fps"]) if "fps" in document else None
        document = document.get("frames", [document])
    if not isinstance(document, list) or not 0 < len(document) <= MAX_CAMERAS:
        raise ValueError("no list of cameras")
    if not all(isinstance(item, Mapping) for item in document):
        raise ValueError("a camera that is no object")
    frames = tuple(int(item.get("frame", index)) for index, item in enumerate(document))
    if "position" in document[0]:
        return CameraPath(tuple(_gaussian_splatting(item) for item in document), frames, fps, "3DGS cameras")
    return CameraPath(tuple(_viewer(item) for item in document), frames, fps, "camera path")


def _viewer(item: Mapping[str, Any]) -> types.Camera:
    """K counts where there is one: fovx, which the original reads alone, says the same of a centred camera."""
    width, height = int(item["width"]), int(item["height"])
    if "K" in item:
        K = np.array(item["K"], np.float64).reshape(3, 3)
    else:
        K = _lens(width, height, width / 2 / math.tan(math.radians(_angle(item["fovx"])) / 2))
    camera_from_world = _rigid(np.array(item["w2c"], np.float64).reshape(4, 4))
    world_from_camera = np.asarray(np.linalg.inv(camera_from_world), np.float64)
    return types.Camera(width, height, K, world_from_camera)


def _nerfstudio(document: Mapping[str, Any]) -> CameraPath:
    width, height = int(document["render_width"]), int(document["render_height"])
    kind = str(document.get("camera_type", "perspective"))
    if kind != "perspective":
        raise ValueError(f"cameras of type {kind}")
    cameras = []
    for item in document["camera_path"][:MAX_CAMERAS]:
        focal = height / 2 / math.tan(math.radians(_angle(item["fov"])) / 2)
        matrix = _rigid(np.array(item["camera_to_world"], np.float64).reshape(4, 4))
        cameras.append(types.Camera(width, height, _lens(width, height, focal), matrix @ OPENCV_FROM_OPENGL))
    if not cameras:
        raise ValueError("an empty camera_path")
    fps = float(document["fps"]) if document.get("fps") else None
    return CameraPath(tuple(cameras), tuple(range(len(cameras))), fps, "nerfstudio path")


def _gaussian_splatting(item: Mapping[str, Any]) -> types.Camera:
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(item["rotation"], np.float64).reshape(3, 3)
    matrix[:3, 3] = np.array(item["position"], np.float64).reshape(3)
    width, height = int(item["width"]), int(item["height"])
    K = _lens(width, height, float(item["fx"]))
    K[1, 1] = float(item["fy"])
    return types.Camera(width, height, K, _rigid(matrix))


def _angle(value: Any) -> float:
    angle = float(value)
    if not 0 < angle < 180:
        raise ValueError(f"a field of view of {angle:g} degrees")
    return angle


def _lens(width: int, height: int, focal_px: float) -> NDArray[np.float64]:
    return np.array([[focal_px, 0.0, width / 2], [0.0, focal_px, height / 2], [0.0, 0.0, 1.0]])


def _rigid(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix with its rotation made exact: files hold few digits."""
    rotation = matrix[:3, :3]
    if not np.isfinite(matrix).all() or np.abs(rotation @ rotation.T - np.eye(3)).max() > RIGID_WITHIN:
        raise ValueError("a matrix that is not rigid")
    if np.linalg.det(rotation) < 0:
        raise ValueError("a mirrored matrix")
    u, _, vt = np.linalg.svd(rotation)
    clean = np.eye(4)
    clean[:3, :3], clean[:3, 3] = u @ vt, matrix[:3, 3]
    return clean
