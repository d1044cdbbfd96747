"""Light maps: shrinking, turning, sampling and looking at them through a camera. numpy only.

A map is latitude-longitude radiance as in `shared.types.Environment`: row 0 looks towards +z, the centre column to +x.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._shared import types

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

MAX_SENT_PX = (512, 256)
HALF_MAX = 65504.0
BLOCK_PX = 32768


def linear_from_srgb(encoded: ArrayLike) -> Float32:
    """Linear light of display-encoded sRGB values, any shape (IEC 61966-2-1)."""
    s = np.asarray(encoded, dtype=np.float32)
    return np.where(s <= 0.04045, s / 12.92, ((np.maximum(s, 0.04045) + 0.055) / 1.055) ** 2.4).astype(np.float32)


def constant(colour: ArrayLike) -> Float32:
    """A map [2, 4, 3] of one colour."""
    return np.broadcast_to(np.asarray(colour, dtype=np.float32), (2, 4, 3)).copy()


def shrink(radiance: Float32, limit_px: tuple[int, int] = MAX_SENT_PX) -> Float32:
    """The map at most limit_px (width, height) large, by area averages, so that no light is lost between samples."""
    for axis, limit in ((0, limit_px[1]), (1, limit_px[0])):
        count = radiance.shape[axis]
        if count > limit:
            edges = np.linspace(0, count, limit + 1)
            # Integral up to each edge by linear interpolation of the running sum: exact for piecewise constant pixels.
            total = np.concatenate(
                [np.zeros_like(np.take(radiance, [0], axis), dtype=np.float64), np.cumsum(radiance, axis, np.float64)],
                axis,
            )
            low = np.minimum(edges.astype(int), count - 1)
            share = (edges - low).reshape(-1, *([1] * (2 - axis)))
            at_edge = np.take(total, low, axis) * (1 - share) + np.take(total, low + 1, axis) * share
            radiance = (np.diff(at_edge, axis=axis) * (limit / count)).astype(np.float32)
    return radiance


def half(radiance: ArrayLike) -> NDArray[np.float16]:
    """float16 copy; what is brighter than a half can hold is cut, negative and undefined light is none."""
    return np.clip(np.nan_to_num(radiance, nan=0.0, posinf=HALF_MAX), 0.0, HALF_MAX).astype(np.float16)


def sample(radiance: Float32, directions: ArrayLike) -> Float32:
    """Radiance [..., 3] seen along directions [..., 3] of any length, bilinear; columns wrap around, poles do not."""
    d = np.asarray(directions, dtype=np.float32)
    height, width = radiance.shape[:2]
    column = (0.5 - np.arctan2(d[..., 1], d[..., 0]) / (2 * np.pi)) * width - 0.5
    row = (0.5 - np.arctan2(d[..., 2], np.hypot(d[..., 0], d[..., 1])) / np.pi) * height - 0.5
    row = np.clip(row, 0, height - 1)
    left, top = np.floor(column).astype(np.int32), np.floor(row).astype(np.int32)
    across, down = (column - left)[..., None], (row - top)[..., None]
    x0, x1, y1 = left % width, (left + 1) % width, np.minimum(top + 1, height - 1)
    above = radiance[top, x0] * (1 - across) + radiance[top, x1] * across
    below = radiance[y1, x0] * (1 - across) + radiance[y1, x1] * across
    return (above * (1 - down) + below * down).astype(np.float32)


def directions(height: int, width: int) -> Float64:
    """Unit directions [H, W, 3] that the pixel centres of a map of this size look at."""
    azimuth = (0.5 - (np.arange(width) + 0.5) / width) * 2 * np.pi
    elevation = (0.5 - (np.arange(height) + 0.5) / height) * np.pi
    level = np.cos(elevation)[:, None]
    up = np.broadcast_to(np.sin(elevation)[:, None], (height, width))
    return np.stack([level * np.cos(azimuth), level * np.sin(azimuth), up], axis=-1)


def turned(radiance: Float32, map_from_world: ArrayLike, size_px: tuple[int, int] = MAX_SENT_PX) -> Float32:
    """The map as a new one of size_px in world axes, looked up through the linear map_from_world [3, 3]."""
    looked_at = directions(size_px[1], size_px[0]) @ np.asarray(map_from_world, dtype=np.float64).T
    return sample(radiance, looked_at)


def turn_about_z(map_from_world: ArrayLike) -> float | None:
    """Environment.rotation_rad of a look-up matrix [3, 3], or None where it is not a rotation about +z alone.

    Light that the map holds at direction e is seen at map_from_world^-1 e: the light turns by the inverse.
    """
    matrix = np.asarray(map_from_world, dtype=np.float64)
    angle = np.arctan2(matrix[1, 0], matrix[0, 0])
    c, s = np.cos(angle), np.sin(angle)
    if np.abs(matrix - [[c, -s, 0], [s, c, 0], [0, 0, 1]]).max() > 1e-5:
        return None
    return float(-angle)


def background(camera: types.Camera, radiance: Float32, map_from_world: ArrayLike) -> Float32:
    """What the camera sees of the map, [H, W, 3], row 0 at the top; one ray through each pixel's centre.

    The rays of an orthographic camera are parallel, so it sees one point of the map everywhere, as in Cycles.
    """
    height, width = camera.height_px, camera.width_px
    if (radiance == radiance[:1, :1]).all():
        return np.broadcast_to(radiance[0, 0], (height, width, 3)).astype(np.float32)
    k = camera.K
    x = ((np.arange(width) + 0.5 - k[0, 2]) / k[0, 0]).astype(np.float32)
    y = ((np.arange(height) + 0.5 - k[1, 2]) / k[1, 1]).astype(np.float32)
    map_from_camera = np.asarray(map_from_world, dtype=np.float64) @ camera.world_from_camera[:3, :3]
    if camera.orthographic:
        return np.broadcast_to(sample(radiance, map_from_camera[:, 2]), (height, width, 3)).astype(np.float32)
    right, down, forward = map_from_camera.T.astype(np.float32)
    picture = np.empty((height, width, 3), np.float32)
    block = max(1, BLOCK_PX // width)  # small blocks stay in the processor's cache
    for top in range(0, height, block):
        rows = slice(top, top + block)
        rays = x[None, :, None] * right + (y[rows, None, None] * down + forward)
        picture[rows] = sample(radiance, rays)
    return picture
