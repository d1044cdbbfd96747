"""The nearest place of single triangles, written plainly: what the tree is compared with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def barycentrics_of_nearest(points: Floats, corners: Floats) -> Floats:
    """Weights [..., 3] of the point of each triangle [..., 3, 3] nearest to points [..., 3] (Ericson 2005, 5.1.5)."""
    a, b, c = corners[..., 0, :], corners[..., 1, :], corners[..., 2, :]
    ab, ac, ap, bp, cp = b - a, c - a, points - a, points - b, points - c
    d1, d2 = (ab * ap).sum(-1), (ac * ap).sum(-1)
    d3, d4 = (ab * bp).sum(-1), (ac * bp).sum(-1)
    d5, d6 = (ab * cp).sum(-1), (ac * cp).sum(-1)
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    tiny = 1e-300

    def ratio(top: Floats, bottom: Floats) -> Floats:
        return np.clip(top / np.where(np.abs(bottom) < tiny, 1.0, bottom), 0.0, 1.0)

    inside = va + vb + vc
    v, w = vb / np.where(np.abs(inside) < tiny, 1.0, inside), vc / np.where(np.abs(inside) < tiny, 1.0, inside)
    found = np.stack((1 - v - w, v, w), -1)
    zero = np.zeros_like(d1)
    t_ab, t_ac, t_bc = ratio(d1, d1 - d3), ratio(d2, d2 - d6), ratio(d4 - d3, (d4 - d3) + (d5 - d6))
    cases = (  # later ones win: edges, then corners
        ((va <= 0) & (d4 - d3 >= 0) & (d5 - d6 >= 0), (zero, 1 - t_bc, t_bc)),
        ((vb <= 0) & (d2 >= 0) & (d6 <= 0), (1 - t_ac, zero, t_ac)),
        ((vc <= 0) & (d1 >= 0) & (d3 <= 0), (1 - t_ab, t_ab, zero)),
        ((d6 >= 0) & (d5 <= d6), (zero, zero, zero + 1)),
        ((d3 >= 0) & (d4 <= d3), (zero, zero + 1, zero)),
        ((d1 <= 0) & (d2 <= 0), (zero + 1, zero, zero)),
    )
    for where, weights in cases:
        found = np.where(where[..., None], np.stack(weights, -1), found)
    return found
