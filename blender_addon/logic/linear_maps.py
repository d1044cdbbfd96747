"""The rotation part of linear maps, batched, float64. Codings of rotations are in `shared.rotations`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]


def nearest_rotations(matrices: ArrayLike) -> Float64:
    """The rotation part [..., 3, 3] of linear maps that may hold scale (polar decomposition; mirroring is undone)."""
    m = np.asarray(matrices, dtype=np.float64)
    gram = m @ np.swapaxes(m, -1, -2)
    if np.abs(gram - np.eye(3)).max(initial=0.0) < 1e-7 and (np.linalg.det(m) > 0).all():
        return m
    u, _, vt = np.linalg.svd(m)
    u[..., :, -1] *= np.sign(np.linalg.det(u @ vt))[..., None]
    return u @ vt
