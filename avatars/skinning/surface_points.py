"""Evenly spread points on a triangle mesh: Poisson-disk sampling by sample elimination.

Source: Yuksel, "Sample Elimination for Generating Poisson Disk Sample Sets" (2015): start with init_factor times too
many random points and take away the most crowded one until the wanted number is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import EffigyError

INIT_FACTOR = 5
BETA, GAMMA = 0.65, 1.5
"""Yuksel's two numbers of the weight's lower cap, by which samples do not cluster; the exponent is 8."""


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """N points on a mesh: face [N] int64 into its triangles, barycentrics [N, 3] float32, rows >= 0 that sum to 1."""

    face: NDArray[np.int64]
    barycentrics: NDArray[np.float32]

    def at(self, values: NDArray[np.floating], triangles: NDArray[np.integer]) -> NDArray[np.float32]:
        """Values per vertex [V, C] interpolated at the points: [N, C]. Positions and skinning weights, both exactly."""
        corners = np.asarray(values, np.float32)[triangles[self.face]]
        found: NDArray[np.float32] = np.einsum("nk,nkc->nc", self.barycentrics, corners)
        return found

    def __len__(self) -> int:
        return len(self.face)


def sample_surface(
    vertices: NDArray[np.floating],
    triangles: NDArray[np.integer],
    count: int,
    *,
    seed: int = 0,
    init_factor: int = INIT_FACTOR,
) -> SurfacePoints:
    """`count` points on a mesh, none crowded: the same for the same arguments.

    vertices: [V, 3] m; triangles: [F, 3]. Points on sides that face each other (two fingers, both lips) do not push
    each other away. Raises EffigyError for a mesh without area and for counts below 1.
    """
    if count < 1 or init_factor < 1:
        raise EffigyError("points to spread must be at least one", found=f"{count} of {init_factor} times as many")
    corners = np.asarray(vertices, np.float64)[np.asarray(triangles)]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double_area = np.linalg.norm(across, axis=1)
    total = float(double_area.sum()) / 2
    if not np.isfinite(total) or total <= 0:
        raise EffigyError("the mesh to spread points on has no area", found=f"{len(corners)} triangles")
    points, face, barycentrics = random_points(corners, double_area, count * init_factor, seed)
    if init_factor == 1:
        return SurfacePoints(face, barycentrics.astype(np.float32))
    normals = (across / np.maximum(double_area, 1e-30)[:, None])[face]
    kept = eliminate(points, normals, count, total)
    return SurfacePoints(face[kept], barycentrics[kept].astype(np.float32))


def random_points(
    corners: NDArray[np.float64], double_area: NDArray[np.float64], count: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Points [N, 3], their triangle [N] and barycentrics [N, 3], uniform over the area of corners [F, 3, 3]."""
    rng = np.random.default_rng(seed)
    cumulative = np.cumsum(double_area)
    places = (np.arange(count) + rng.random(count)) / count * cumulative[-1]  # one in each equal share of the area
    face = np.minimum(np.searchsorted(cumulative, places, side="right"), len(corners) - 1)
    u, v = np.sqrt(rng.random(count)), rng.random(count)
    barycentrics = np.stack((1 - u, u * (1 - v), u * v), axis=1)
    return np.einsum("nk,nkc->nc", barycentrics, corners[face]), face, barycentrics


def radii(count: int, start: int, area_m2: float) -> tuple[float, float]:
    """(largest, smallest) radius in m of Yuksel's weight, for `count` of `start` points on area_m2."""
    largest = float(np.sqrt(area_m2 / (2 * np.sqrt(3) * count)))
    return largest, largest * (1 - (count / start) ** GAMMA) * BETA


def eliminate(
    points: NDArray[np.float64], normals: NDArray[np.float64], count: int, area_m2: float
) -> NDArray[np.int64]:
    """Sorted indices of the `count` of points [N, 3] that are left; normals [N, 3] tell the sides apart."""
    from avatars.skinning import elimination_kernels as kernels  # numba: seconds to import

    largest, smallest = radii(count, len(points), area_m2)
    cell_m = 2 * largest
    low = points.min(0)
    cells = np.floor((points - low) / cell_m).astype(np.int64) + 1
    size = cells.max(0) + 2
    keys = (cells[:, 0] * size[1] + cells[:, 1]) * size[2] + cells[:, 2]
    order = np.argsort(keys, kind="stable")
    used, first = np.unique(keys[order], return_index=True)
    starts = np.append(first, len(points)).astype(np.int64)
    offsets = np.array(
        [(x * size[1] + y) * size[2] + z for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)], np.int64
    )
    sorted_points = np.ascontiguousarray(points[order])
    sorted_normals = np.ascontiguousarray(normals[order])
    where = np.stack([np.searchsorted(used, used + offset) for offset in offsets], axis=1)
    hit = where < len(used)
    hit[hit] = used[where[hit]] == (used[:, None] + offsets)[hit]
    neighbours = np.where(hit, where, -1)
    cell_of = np.repeat(np.arange(len(used)), np.diff(starts))
    left = kernels.eliminate(sorted_points, sorted_normals, starts, neighbours, cell_of, count, largest, smallest)
    return np.sort(order[left])
