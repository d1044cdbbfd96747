"""From rotation matrices to axis-angle vectors and quaternions, batched over leading axes, float64.

The way back is `shared.template.rotation_matrices`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]


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
    return np.where(quaternions[..., :1] < 0, -quaternions, quaternions)


def axis_angles_from_matrices(matrices: ArrayLike) -> Float64:
    """Axis-angle vectors [..., 3] in rad, at most pi long, of rotation matrices [..., 3, 3]."""
    quaternions = quaternions_from_matrices(matrices)
    half_sine = np.linalg.norm(quaternions[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(half_sine, quaternions[..., :1])
    # angle / sin(angle / 2) tends to 2 as the angle vanishes
    factor = np.where(half_sine > 1e-12, angle / np.maximum(half_sine, 1e-12), 2.0)
    return quaternions[..., 1:] * factor


def nearest_rotations(matrices: ArrayLike) -> Float64:
    """The rotation part [..., 3, 3] of linear maps that may hold scale (polar decomposition; mirroring is undone)."""
    m = np.asarray(matrices, dtype=np.float64)
    gram = m @ np.swapaxes(m, -1, -2)
    if np.abs(gram - np.eye(3)).max(initial=0.0) < 1e-7 and (np.linalg.det(m) > 0).all():
        return m
    u, _, vt = np.linalg.svd(m)
    u[..., :, -1] *= np.sign(np.linalg.det(u @ vt))[..., None]
    return u @ vt
