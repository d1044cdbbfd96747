"""Skinning weights everywhere in space: the harmonic extension of a body's weights into a cube of voxels.

Source: bodies page A.9. The original fills `lbs_weights_grid.npz` by an external solver; here surface samples hold
their voxels fixed and every other voxel becomes the mean of its six neighbours, from coarse to fine. Harmonic values
neither overshoot nor jump, so nothing has to be clipped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatars.skinning.surface_points import random_points
from shared.errors import EffigyError

RESOLUTION, SAMPLES = 128, 400_000
BOX_SCALE = 1.1
SWEEPS = (200, 60, 30, 12)
"""Of the coarsest level, the next, ...; further levels get as many as the last."""
COARSEST = 16


@dataclass(frozen=True, eq=False)
class WeightVolume:
    """Weights at the points of a grid. grid [X, Y, Z, J] float32; low and high [3] m: its first and last point."""

    grid: NDArray[np.float32]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def at(self, points: NDArray[np.floating], *, chunk: int = 20_000) -> NDArray[np.float32]:
        """Weights [N, J] at points [N, 3] m, trilinear, those outside as at the nearest place inside; rows sum to 1."""
        size = np.array(self.grid.shape[:3])
        found = np.empty((len(points), self.grid.shape[3]), np.float32)
        for start in range(0, len(points), chunk):
            rows = np.asarray(points[start : start + chunk], np.float64)
            place = np.clip((rows - self.low) / (self.high - self.low), 0, 1) * (size - 1)
            cell = np.minimum(place.astype(np.int64), size - 2)
            share = (place - cell).astype(np.float32)
            total = np.zeros((len(rows), self.grid.shape[3]), np.float32)
            for corner in np.ndindex(2, 2, 2):
                weight = np.prod(np.where(corner, share, 1 - share), axis=1)
                x, y, z = (cell + corner).T
                total += weight[:, None] * self.grid[x, y, z]
            found[start : start + chunk] = total / np.maximum(total.sum(1, keepdims=True), 1e-12)
        return found


def harmonic_volume(
    vertices: NDArray[np.floating],
    triangles: NDArray[np.integer],
    weights: NDArray[np.floating],
    *,
    resolution: int = RESOLUTION,
    samples: int = SAMPLES,
    seed: int = 0,
) -> WeightVolume:
    """The volume around a body [V, 3] m, [F, 3] with weights [V, J]; resolution must be a power of two from 16 on.

    The cube lies around the body's box, 1.1 times its largest side. Raises EffigyError.
    """
    if resolution < COARSEST or resolution & (resolution - 1):
        raise EffigyError(
            "a weight volume has the wrong resolution", found=str(resolution), expected="16, 32, 64, 128, …"
        )
    places = np.asarray(vertices, np.float64)
    used = places[np.unique(triangles)]
    centre = (used.min(0) + used.max(0)) / 2
    side = BOX_SCALE * float(np.ptp(used, axis=0).max())
    voxel = side / resolution
    low = centre - side / 2 + voxel / 2
    fixed, values = _splatted(places, np.asarray(triangles), np.asarray(weights), low, voxel, resolution, samples, seed)
    grid = extended(fixed, values)
    return WeightVolume(np.ascontiguousarray(np.moveaxis(grid, 0, 3)), low, low + voxel * (resolution - 1))


def extended(fixed: NDArray[np.bool_], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values [J, N, N, N] harmonic wherever `fixed` [N, N, N] is false, as given where it is true.

    Coarser grids come first, each the start of the next; at the border nothing flows out.
    """
    from avatars.rendering import jit  # numba: seconds to import
    from avatars.skinning import volume_kernels as kernels

    levels = [(fixed, values)]
    while levels[-1][0].shape[0] > COARSEST:
        levels.append(_halved(*levels[-1]))
    current: NDArray[np.float32] | None = None
    for number, (held, given) in enumerate(reversed(levels)):
        if current is None:
            mean = given[:, held].mean(1) if held.any() else np.zeros(len(given), np.float32)
            start = np.broadcast_to(mean[:, None, None, None], given.shape)
        else:
            start = current.repeat(2, 1).repeat(2, 2).repeat(2, 3)
        current = np.ascontiguousarray(np.where(held, given, start), np.float32)
        jit.run(kernels.relax, current, held, SWEEPS[min(number, len(SWEEPS) - 1)])
    assert current is not None  # there is at least one level
    return current


def _splatted(
    places: NDArray[np.float64],
    triangles: NDArray[np.integer],
    weights: NDArray[np.floating],
    low: NDArray[np.float64],
    voxel: float,
    resolution: int,
    samples: int,
    seed: int,
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Voxels that hold samples of the surface [N, N, N], and the mean weights there [J, N, N, N]."""
    corners = places[triangles]
    double_area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    if not double_area.sum() > 0:
        raise EffigyError("the body of a weight volume has no area", found=f"{len(triangles)} triangles")
    points, face, barycentrics = random_points(corners, double_area, samples, seed)
    cell = np.clip(np.rint((points - low) / voxel).astype(np.int64), 0, resolution - 1)
    flat = (cell[:, 0] * resolution + cell[:, 1]) * resolution + cell[:, 2]
    used, inverse = np.unique(flat, return_inverse=True)
    count = np.bincount(inverse, minlength=len(used)).astype(np.float32)
    joints = weights.shape[1]
    values = np.zeros((joints, resolution**3), np.float32)
    of_corner = triangles[face]
    for joint in range(joints):
        own = (barycentrics * weights[:, joint][of_corner]).sum(1)
        values[joint, used] = np.bincount(inverse, own, minlength=len(used)) / count
    fixed = np.zeros(resolution**3, bool)
    fixed[used] = True
    total = values[:, used].sum(0)
    values[:, used] /= np.maximum(total, 1e-12)
    shape = (resolution,) * 3
    return fixed.reshape(shape), values.reshape(joints, *shape)


def _halved(fixed: NDArray[np.bool_], values: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Half the resolution: a voxel is fixed where one of its eight is, at the mean of those."""
    half = fixed.shape[0] // 2
    blocks = (half, 2, half, 2, half, 2)
    count = fixed.reshape(blocks).sum((1, 3, 5))
    total = np.where(fixed, values, np.float32(0)).reshape(len(values), *blocks).sum((2, 4, 6))
    return count > 0, total / np.maximum(count, 1).astype(np.float32)
