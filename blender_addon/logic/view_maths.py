"""Blender's 3D view as a camera the backend renders through, and how late pictures are moved to the present view.

A view is given by its view matrix (view from world; looks along -z, y up) and its window matrix (clip from view), both
as Blender's RegionView3D has them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .camera_maths import OPENCV_FROM_BLENDER

Float64 = NDArray[np.float64]

MARGIN_M = 0.6
"""Hair and clothes reach this far beyond an avatar's joints."""
NEAREST_M = 0.005
MIN_DEPTH_RATIO = 1.01


@dataclass(frozen=True, eq=False)
class ViewCamera:
    """The view as a pinhole (or, orthographic, with K in px a metre), and what the shader needs to place its pixels.

    view_from_world: [4, 4], as Blender's but moved back to the orthographic camera's place. lens: fx, fy, cx, cy in px.
    """

    width_px: int
    height_px: int
    K: Float64
    world_from_camera: Float64
    near_m: float
    far_m: float
    orthographic: bool
    view_from_world: Float64

    @property
    def lens(self) -> tuple[float, float, float, float]:
        """fx, fy, cx, cy."""
        return self.K[0, 0], self.K[1, 1], self.K[0, 2], self.K[1, 2]


def view_camera(
    view_from_world: ArrayLike,
    clip_from_view: ArrayLike,
    size_px: tuple[int, int],
    centres_world: ArrayLike,
    radii_m: ArrayLike,
) -> ViewCamera | None:
    """The camera of a view for avatars inside balls around centres_world [N, 3]; None where all are behind it.

    size_px: width and height of the picture to ask for. near and far lie closely around the balls, because depth is
    sent in 65536 logarithmic steps between them.
    """
    view = np.array(view_from_world, np.float64)
    window = np.array(clip_from_view, np.float64)
    view[:3, :3] /= np.linalg.norm(view[:3, :3], axis=1, keepdims=True)
    orthographic = abs(window[3, 2]) < 1e-9
    centres, radii = np.asarray(centres_world, np.float64), np.asarray(radii_m, np.float64)
    away = -(centres @ view[2, :3] + view[2, 3])
    nearest, farthest = (away - radii).min(), (away + radii).max()
    if orthographic:
        depth = farthest - nearest
        view[2, 3] -= depth - nearest  # the camera may stand anywhere along its parallel rays: all is in front of it
        nearest, farthest = depth, 2 * depth
    elif farthest <= NEAREST_M:
        return None
    near = max(nearest, NEAREST_M)
    far = max(farthest, near * MIN_DEPTH_RATIO)
    width, height = size_px
    k = np.eye(3)
    k[0, 0], k[1, 1] = window[0, 0] * width / 2, window[1, 1] * height / 2
    if orthographic:
        k[0, 2], k[1, 2] = (1 + window[0, 3]) * width / 2, (1 - window[1, 3]) * height / 2
    else:
        k[0, 2], k[1, 2] = (1 - window[0, 2]) * width / 2, (1 + window[1, 2]) * height / 2
    world_from_camera = np.linalg.inv(view) @ OPENCV_FROM_BLENDER
    return ViewCamera(width, height, k, world_from_camera, near, far, orthographic, view)


def reach_m(parents: ArrayLike, rest_joints: ArrayLike) -> float:
    """How far from its root any part of an avatar can be, in whatever pose: its longest chain of bones and MARGIN_M."""
    parents, joints = np.asarray(parents), np.asarray(rest_joints, np.float64)
    reach = np.zeros(len(joints))
    for index, parent in enumerate(parents):
        if parent >= 0:
            reach[index] = reach[parent] + np.linalg.norm(joints[index] - joints[parent])
    return float(reach.max(initial=0.0)) + MARGIN_M


def clip_from_picture(camera: ViewCamera, view_from_world: ArrayLike, clip_from_view: ArrayLike) -> Float64:
    """[4, 4] from the axes of the view a picture was made for to clip space of the view it is drawn in."""
    present = np.asarray(clip_from_view, np.float64) @ np.asarray(view_from_world, np.float64)
    return present @ np.linalg.inv(camera.view_from_world)


def same_view(camera: ViewCamera, view_from_world: ArrayLike, clip_from_view: ArrayLike) -> bool:
    """Whether a picture was made for exactly this view, so that its pixels need not be moved."""
    moved = clip_from_picture(camera, view_from_world, clip_from_view)
    corners = np.array([[x, y, z] for x in (0, camera.width_px) for y in (0, camera.height_px) for z in (1.0, 2.0)])
    # Very close to the eye the rounding of Blender's float32 matrices is many pixels; nothing is sharp there.
    depth = np.array([max(camera.near_m, camera.far_m / 10), camera.far_m])[corners[:, 2].astype(int) - 1]
    fx, fy, cx, cy = camera.lens
    spread = 1.0 if camera.orthographic else depth
    points = np.stack([(corners[:, 0] - cx) / fx * spread, (cy - corners[:, 1]) / fy * spread, -depth], axis=-1)
    clip = points @ moved[:, :3].T + moved[:, 3]
    if (clip[:, 3] <= 0).any():
        return False
    seen = (clip[:, :2] / clip[:, 3:] + 1) / 2
    there = corners[:, :2] / (camera.width_px, camera.height_px)
    there[:, 1] = 1 - there[:, 1]
    return bool(np.abs(seen - there).max() * max(camera.width_px, camera.height_px) < 0.05)


SCALES = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12)
"""Parts of each side. The last are coarse: for renderers or networks that would otherwise give no motion at all."""


def picture_scale(milliseconds_per_megapixel: float, region_px: tuple[int, int], budget_ms: float) -> float:
    """The part (of each side) of a region to render while it moves, so that a picture takes about budget_ms."""
    megapixels = region_px[0] * region_px[1] / 1e6
    whole_ms = milliseconds_per_megapixel * megapixels
    return next((scale for scale in SCALES if whole_ms * scale**2 <= budget_ms), SCALES[-1])


def next_pace(pace: float, milliseconds: float, megapixels: float) -> float:
    """Milliseconds per megapixel after one more picture, from wish to arrival: renderer and network together.

    Small pictures have a fixed share of work; counted as if they were a twentieth of a megapixel larger.
    """
    return pace + 0.3 * (milliseconds / (megapixels + 0.05) - pace)


def cropped(packed: NDArray[np.float32]) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """The part of a packed picture [H, W, 2] that holds something, and the column and row of its first pixel."""
    there = packed[..., 1] > 0
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    if not len(rows):
        return np.zeros((1, 1, 2), np.float32), (0, 0)
    top, left = max(0, rows[0] - 1), max(0, columns[0] - 1)  # a rim of nothing, for smooth edges
    part = packed[top : rows[-1] + 2, left : columns[-1] + 2]
    return np.ascontiguousarray(part), (int(left), int(top))
