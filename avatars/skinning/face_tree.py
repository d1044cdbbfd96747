"""A tree of boxes over a mesh's triangles: the nearest place on the mesh to each of very many points, exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avatars.rendering import jit
from shared.errors import EffigyError

Floats = NDArray[np.float64]
EACH = 4
"""Triangles in a leaf."""
POINTS_A_PIECE = 64


class FaceTree:
    """Of vertices [V, 3] m and triangles [F, 3]. Raises EffigyError for a mesh without triangles."""

    def __init__(self, vertices: NDArray[np.floating], triangles: NDArray[np.integer]) -> None:
        corners = np.asarray(vertices, np.float64)[np.asarray(triangles)]
        if not len(corners):
            raise EffigyError("there is no mesh to be near to", found="0 triangles")
        self.order = _along_a_curve(corners.mean(1))
        self.corners = np.ascontiguousarray(corners[self.order])
        filled = -(-len(corners) // EACH)
        self.leaves = 1 << max(0, int(filled - 1).bit_length())
        self.lows = np.full((2 * self.leaves, 3), np.inf)
        self.highs = np.full((2 * self.leaves, 3), -np.inf)
        starts = np.arange(0, len(corners), EACH)
        bottom = slice(self.leaves, self.leaves + filled)
        self.lows[bottom] = np.minimum.reduceat(self.corners.min(1), starts, 0)
        self.highs[bottom] = np.maximum.reduceat(self.corners.max(1), starts, 0)
        level = self.leaves
        while level > 1:
            inner, below = slice(level // 2, level), slice(level, 2 * level)
            self.lows[inner] = self.lows[below].reshape(-1, 2, 3).min(1)
            self.highs[inner] = self.highs[below].reshape(-1, 2, 3).max(1)
            level //= 2

    def nearest(self, points: NDArray[np.floating]) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Of points [N, 3] m: the nearest face [N], barycentrics [N, 3] of its nearest place, its distance [N] m."""
        from avatars.skinning.face_tree_kernels import nearest

        asked = np.ascontiguousarray(points, np.float64)
        face, shares, squared = np.zeros(len(asked), np.int64), np.zeros((len(asked), 3)), np.zeros(len(asked))
        tree = (self.corners, self.lows, self.highs, self.leaves, EACH)
        jit.run(nearest, asked, *tree, face, shares, squared, pieces=len(asked) // POINTS_A_PIECE)
        return self.order[face], shares, np.sqrt(squared)


def _along_a_curve(places: Floats) -> NDArray[np.int64]:
    """An order of places [N, 3] in which neighbours are near: by the interleaved bits of their coordinates (Morton)."""
    low, extent = places.min(0), np.ptp(places, axis=0).max()
    cells = ((places - low) / max(extent, 1e-30) * 1023).astype(np.int64)
    code = np.zeros(len(places), np.int64)
    for bit in range(10):
        for axis in range(3):
            code |= ((cells[:, axis] >> bit) & 1) << (3 * bit + axis)
    return np.argsort(code, kind="stable")
