"""A first guess of where heads are: scaled orthography, corrected towards perspective (POSIT, DeMenthon, Davis 1995).

Written for many frames at once; the fit refines it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
ROUNDS = 8


def first_poses(
    points: Array, pixels: Array, focal_px: float, centre_px: tuple[float, float], weights: Array
) -> tuple[Array, Array]:
    """Rotations [F, 3, 3] (camera from model) and places [F, 3] m of rigid points [N, 3] m seen at pixels [F, N, 2].

    weights: [N] >= 0. The points may not lie in one plane. Non-finite frames give non-finite poses.
    """
    share = weights / weights.sum()
    middle = share @ points
    around = points - middle
    inverse = np.linalg.pinv(around * np.sqrt(share)[:, None])  # [3, N]
    seen = (pixels - np.asarray(centre_px)) / focal_px
    perspective = np.ones(pixels.shape[:2])
    for _ in range(ROUNDS):
        target = seen * perspective[..., None]
        centre = np.einsum("n,fnc->fc", share, target)
        rows = np.einsum("kn,fnc->fck", inverse, (target - centre[:, None]) * np.sqrt(share)[:, None])
        left, scale, right = np.linalg.svd(np.nan_to_num(rows), full_matrices=False)  # [F, 2, 3]
        flat = left @ right
        rotation = np.concatenate((flat, np.cross(flat[:, 0], flat[:, 1])[:, None]), 1)
        size = np.maximum(scale.mean(1), 1e-9)
        depth = 1 / size
        perspective = 1 + (around @ rotation[:, 2].T).T * size[:, None]
    place = np.concatenate((centre * depth[:, None], depth[:, None]), 1) - rotation @ middle
    return rotation, place
