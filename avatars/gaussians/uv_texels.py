"""Which triangle of a UV layout covers each texel centre."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def covered_texels(
    corners: NDArray[np.float64], width: int, height: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Face [n] and barycentrics [n, 3] of the texels whose centre lies in a triangle, in row-major texel order.

    corners [F, 3, 2] in texels, centres at +0.5. A texel on a shared edge, or under two triangles, goes to the first.
    Triangles without area cover nothing.
    """
    low = np.clip(np.ceil(corners.min(1) - 0.5), 0, (width, height)).astype(np.int64)
    high = np.clip(np.floor(corners.max(1) - 0.5) + 1, 0, (width, height)).astype(np.int64)
    spans = np.maximum(high - low, 0)
    counts = spans.prod(1)
    face = np.repeat(np.arange(len(corners)), counts)
    within = np.arange(len(face)) - np.repeat(np.cumsum(counts) - counts, counts)
    column = low[face, 0] + within % np.maximum(spans[face, 0], 1)
    row = low[face, 1] + within // np.maximum(spans[face, 0], 1)
    a, b, c = corners[face, 0], corners[face, 1], corners[face, 2]
    point = np.stack((column + 0.5, row + 0.5), 1)
    area = _cross(b - a, c - a)
    weights = np.stack((_cross(c - b, point - b), _cross(a - c, point - c), _cross(b - a, point - a)), 1)
    weights /= np.where(area == 0, 1, area)[:, None]
    inside = (weights >= -1e-9).all(1) & (area != 0)
    texel = (row * width + column)[inside]
    _, first = np.unique(texel, return_index=True)
    kept = np.clip(weights[inside][first], 0, None)
    return face[inside][first], kept / kept.sum(1, keepdims=True)


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
