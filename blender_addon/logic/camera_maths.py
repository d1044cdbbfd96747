"""Blender's perspective and orthographic cameras as matrices: sensor fit, lens shift, pixel aspect, border.

Follows BKE_camera_params_compute_viewplane of Blender's source (source/blender/blenkernel/intern/camera.cc), restated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._shared import errors, types

Float64 = NDArray[np.float64]
OPENCV_FROM_BLENDER = np.diag([1.0, -1.0, -1.0, 1.0])
"""Blender cameras look along -z with y up, OpenCV's along +z with y down; the matrix is its own inverse."""


@dataclass(frozen=True)
class PictureSize:
    """The picture of a scene: full size, pixel aspect and the rectangle that is rendered (row 0 at the bottom)."""

    width_px: int
    height_px: int
    aspect_x: float = 1.0
    aspect_y: float = 1.0
    border: tuple[int, int, int, int] | None = None  # x0, y0, x1, y1 px

    @property
    def rectangle(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 px of what is rendered, row 0 at the bottom."""
        return self.border or (0, 0, self.width_px, self.height_px)


def picture_size(
    resolution: tuple[int, int],
    percentage: int,
    aspect: tuple[float, float],
    border: tuple[float, float, float, float] | None,
) -> PictureSize:
    """Blender's own rounding of a scene's resolution and border (min x, min y, max x, max y in 0..1, None = off)."""
    width, height = (max(1, side * percentage // 100) for side in resolution)
    if border is None:
        return PictureSize(width, height, *aspect)
    # Blender multiplies in float32 and truncates; doubles would round 0.7 * 10 down to 6.
    left, bottom, right, top = (np.float32(n) for n in border)
    rectangle = (
        int(left * np.float32(width)),
        int(bottom * np.float32(height)),
        int(right * np.float32(width)),
        int(top * np.float32(height)),
    )
    if rectangle[2] <= rectangle[0] or rectangle[3] <= rectangle[1]:
        raise errors.EffigyError("The render region is empty", do="Draw a larger region or switch it off (Ctrl-Alt-B)")
    return PictureSize(width, height, *aspect, border=rectangle)


def intrinsics(
    lens_mm: float,
    sensor_mm: tuple[float, float],
    sensor_fit: str,
    shift: tuple[float, float],
    size: PictureSize,
) -> Float64:
    """K [3, 3] px of the rendered rectangle, OpenCV convention (row 0 at the top, pixel centres at +0.5).

    sensor_fit: 'AUTO', 'HORIZONTAL' or 'VERTICAL'. AUTO fits the sensor's width to the longer side of the picture.
    """
    sensor = sensor_mm[1] if sensor_fit == "VERTICAL" else sensor_mm[0]
    return _intrinsics(lens_mm / sensor, sensor_fit, shift, size)


def orthographic_intrinsics(scale_m: float, sensor_fit: str, shift: tuple[float, float], size: PictureSize) -> Float64:
    """K [3, 3] px per m of an orthographic camera; scale_m is Blender's: metres along the side the sensor is fit to."""
    return _intrinsics(1.0 / scale_m, sensor_fit, shift, size)


def _intrinsics(focal: float, sensor_fit: str, shift: tuple[float, float], size: PictureSize) -> Float64:
    """K for a focal length in units of the side the sensor is fit to."""
    width, height = size.width_px, size.height_px
    ratio = size.aspect_y / size.aspect_x
    vertical = sensor_fit == "VERTICAL" or (sensor_fit == "AUTO" and size.aspect_x * width < size.aspect_y * height)
    across = ratio * height if vertical else float(width)
    focal_x = focal * across
    x0, _, _, y1 = size.rectangle
    centre_x = width / 2 - shift[0] * across - x0
    centre_y = height / 2 + shift[1] * across / ratio - (height - y1)
    return np.array([[focal_x, 0.0, centre_x], [0.0, focal_x / ratio, centre_y], [0.0, 0.0, 1.0]])


def camera(
    world_from_blender_camera: ArrayLike,
    k: Float64,
    size: PictureSize,
    near_m: float,
    far_m: float,
    orthographic: bool = False,
) -> types.Camera:
    """The shared Camera of the rendered rectangle; scale in the camera object is dropped, as Blender does."""
    matrix = np.array(world_from_blender_camera, dtype=np.float64)
    matrix[:3, :3] /= np.linalg.norm(matrix[:3, :3], axis=0)
    x0, y0, x1, y1 = size.rectangle
    return types.Camera(x1 - x0, y1 - y0, k, matrix @ OPENCV_FROM_BLENDER, near_m, far_m, orthographic)


def refuse_other_projections(kind: str, name: str) -> None:
    """Raise one clear error for panoramic and other cameras whose rays are neither a pinhole's nor parallel."""
    if kind not in {"PERSP", "ORTHO"}:
        raise errors.EffigyError(
            f"Effigy renders perspective and orthographic cameras, camera {name!r} is another kind",
            found={"PANO": "panoramic"}.get(kind, kind.lower()),
            do="Set its lens type to Perspective in the camera's properties",
        )
