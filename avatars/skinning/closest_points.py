"""The nearest point of a triangle mesh to each of many points: exact, by a tree of face centres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from shared.errors import EffigyError

Floats = NDArray[np.float64]
FIRST_TRIED = 8


@dataclass(frozen=True, eq=False)
class ClosestPoints:
    """For N points: face [N] int64, barycentrics [N, 3] of the nearest point in it, distance_m [N]."""

    face: NDArray[np.int64]
    barycentrics: Floats
    distance_m: Floats


def closest_points(
    points: NDArray[np.floating], vertices: NDArray[np.floating], triangles: NDArray[np.integer]
) -> ClosestPoints:
    """The nearest place on a mesh of vertices [V, 3] and triangles [F, 3] to points [N, 3], all in m."""
    queries, corners = np.asarray(points, np.float64), np.asarray(vertices, np.float64)[np.asarray(triangles)]
    if not len(corners):
        raise EffigyError("there is no mesh to be near to", found="0 triangles")
    best = ClosestPoints(np.zeros(len(queries), np.int64), np.zeros((len(queries), 3)), np.full(len(queries), np.inf))
    reach = np.linalg.norm(corners - corners.mean(1)[:, None], axis=2).max(1)
    # One tree for faces of about one size each: beside a few large faces small ones would all have to be tried.
    sizes = np.floor(np.log2(np.maximum(reach, 1e-9)))
    for size in np.unique(sizes):
        faces = np.flatnonzero(sizes == size)
        _improve(best, queries, corners[faces], faces, float(reach[faces].max()))
    return best


def _improve(best: ClosestPoints, queries: Floats, corners: Floats, faces: NDArray[np.int64], reach: float) -> None:
    """Let `best` also know `faces` with corners [G, 3, 3], none of them larger than `reach` from its centre."""
    tree = cKDTree(corners.mean(1))
    left, tried = np.arange(len(queries)), FIRST_TRIED
    while len(left):
        tried = min(tried, len(corners))
        far, near = (np.asarray(part).reshape(len(left), tried) for part in tree.query(queries[left], k=tried))
        weights = barycentrics_of_nearest(queries[left][:, None], corners[near])
        gap = np.linalg.norm((weights[..., None] * corners[near]).sum(2) - queries[left][:, None], axis=2)
        rows, nearest = np.arange(len(left)), gap.argmin(1)
        found = gap[rows, nearest]
        better = found < best.distance_m[left]
        at = left[better]
        best.face[at], best.distance_m[at] = faces[near[rows, nearest][better]], found[better]
        best.barycentrics[at] = weights[rows, nearest][better]
        # A face whose centre is farther than this cannot come nearer than what was found.
        unsure = (far[:, -1] < best.distance_m[left] + reach) & (tried < len(corners))
        left, tried = left[unsure], tried * 2


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
