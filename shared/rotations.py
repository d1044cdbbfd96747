"""From rotation matrices to axis-angle vectors and quaternions, batched over leading axes, float64. numpy only.

The way back is `shared.template.rotation_matrices`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .types import Float64


def quaternions_from_matrices(matrices: ArrayLike) -> Float64:
    """Unit quaternions [..., 4] (w, x, y, z), w >= 0, of rotation matrices [..., 3, 3].

    The row of 4 q q^T with the largest diagonal is used, so no case divides by a small number (Bar-Itzhack's choice).
    """
    m = np.asarray(matrices, dtype=np.float64)
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    rows = np.stack(
        [
            np.stack([1 + xx + yy + zz, a, b, c], axis=-1),
            np.stack([a, 1 + xx - yy - zz, xy, xz], axis=-1),
            np.stack([b, xy, 1 - xx + yy - zz, yz], axis=-1),
            np.stack([c, xz, yz, 1 - xx - yy + zz], axis=-1),
        ],
        axis=-2,
    )
    best = np.argmax(np.diagonal(rows, axis1=-2, axis2=-1), axis=-1)
    quaternions = np.take_along_axis(rows, best[..., None, None], axis=-2)[..., 0, :]
    quaternions = quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True)
    positive: Float64 = np.where(quaternions[..., :1] < 0, -quaternions, quaternions)
    return positive


def axis_angles_from_matrices(matrices: ArrayLike) -> Float64:
    """Axis-angle vectors [..., 3] in rad, at most pi long, of rotation matrices [..., 3, 3]."""
    quaternions = quaternions_from_matrices(matrices)
    half_sine = np.linalg.norm(quaternions[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(half_sine, quaternions[..., :1])
    # angle / sin(angle / 2) tends to 2 as the angle vanishes
    factor = np.where(half_sine > 1e-12, angle / np.maximum(half_sine, 1e-12), 2.0)
    return quaternions[..., 1:] * factor


def matrices_from_quaternions(quaternions: ArrayLike) -> Float64:
    """Rotation matrices [..., 3, 3] of quaternions [..., 4] (w, x, y, z) of any length but zero."""
    q = np.asarray(quaternions, dtype=np.float64)
    w, x, y, z = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def continuous(quaternions: ArrayLike) -> Float64:
    """Quaternions [T, ..., 4] with signs chosen so that none is further than a right angle from the one before it.

    Keyed curves then never take the long way round.
    """
    q = np.array(quaternions, dtype=np.float64)
    if len(q) > 1:
        turned = (q[1:] * q[:-1]).sum(axis=-1) < 0
        q[1:][np.logical_xor.accumulate(turned, axis=0)] *= -1
    return q
