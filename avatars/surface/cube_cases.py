"""The 256 cases of marching cubes, worked out instead of typed in, so that neighbouring cubes always agree.

On each face of the cube the crossed edges are joined so that corners inside are cut off one by one; that depends on the
face's own corners alone, so both cubes that share it draw the same lines. The lines of a cube close to loops, and each
loop is cut into triangles.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

CORNERS = np.array([[(index >> axis) & 1 for axis in range(3)] for index in range(8)])
"""[8, 3] offsets of the corners; bit 0 of a corner's number is x, bit 1 y, bit 2 z."""
EDGES = np.array([(a, a | 1 << axis, axis) for axis in range(3) for a in range(8) if not a >> axis & 1])
"""[12, 3]: first corner, second corner, axis it runs along."""


@lru_cache(maxsize=1)
def triangle_table() -> NDArray[np.int64]:
    """[256, T, 3] edges of each case's triangles, -1 where there are no more. Bit k of a case: corner k is inside.

    Triangles are counter-clockwise as seen from outside.
    """
    cases = [_triangles(case) for case in range(256)]
    most = max(len(found) for found in cases)
    table = np.full((256, most, 3), -1, np.int64)
    for case, found in enumerate(cases):
        if found:
            table[case, : len(found)] = found
    return table


def _faces() -> list[tuple[int, int, int, int]]:
    """Corners of each face, counter-clockwise as seen from outside the cube."""
    found = []
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        for side in (0, 1):
            base = side << axis
            ring = (base, base | 1 << u, base | 1 << u | 1 << v, base | 1 << v)
            found.append(ring if side else ring[::-1])
    return found


def _triangles(case: int) -> list[tuple[int, int, int]]:
    edge_of = {(int(a), int(b)): index for index, (a, b, _) in enumerate(EDGES)}
    follows: dict[int, int] = {}
    for ring in _faces():
        inside = [bool(case >> corner & 1) for corner in ring]
        edges = [edge_of[tuple(sorted((ring[k], ring[(k + 1) % 4])))] for k in range(4)]
        for k in range(4):
            if inside[k] or not inside[(k + 1) % 4]:
                continue
            # Edge k enters the inside; walking on, the first edge that leaves it ends the line.
            out = next(step for step in range(k + 1, k + 5) if not inside[(step + 1) % 4])
            follows[edges[out % 4]] = edges[k]
    triangles = []
    while follows:
        start = next(iter(follows))
        loop, edge = [start], follows.pop(start)
        while edge != start:
            loop.append(edge)
            edge = follows.pop(edge)
        triangles += [(loop[0], loop[k + 1], loop[k]) for k in range(1, len(loop) - 1)]
    return triangles
