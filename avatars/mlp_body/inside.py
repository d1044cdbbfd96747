"""Which points of a face look at the inside of their own head: the mouth's lining, nostrils, what lies behind the lids.

They are a few millimetres under the skin and face the other way. A picture is relit by blended normals, which must not
have theirs, or lips and cheeks get the light of the other side. They take the normals of the skin over them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.rendering.jit import kernel, run

START_M = 1e-3
REACH_M = 0.12
"""A point looks inside where a surface stands so near before it: the width of a mouth. Folds of the ear do as well."""


def looks_inside(
    points: NDArray[Any], normals: NDArray[Any], vertices: NDArray[Any], triangles: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """[N] whether the ray from each point [N, 3] m along its unit normal meets a triangle [F, 3] within REACH_M.

    Möller and Trumbore's test (1997); triangles of no area are met by nothing.
    """
    corner, second, third = (np.asarray(vertices, np.float64)[triangles[:, k]] for k in range(3))
    edges = np.ascontiguousarray(np.stack([corner, second - corner, third - corner], 1))
    found = np.zeros(len(points), np.bool_)
    start, along = np.ascontiguousarray(points, np.float64), np.ascontiguousarray(normals, np.float64)
    run(_meets, start, along, edges, REACH_M, found)
    return found


@kernel
def _meets(worker: int, workers: int, start: Any, along: Any, edges: Any, reach_m: float, found: Any) -> None:
    for row in range(worker, len(start), workers):
        dx, dy, dz = along[row, 0], along[row, 1], along[row, 2]
        for face in range(len(edges)):
            ax, ay, az = edges[face, 1, 0], edges[face, 1, 1], edges[face, 1, 2]
            bx, by, bz = edges[face, 2, 0], edges[face, 2, 1], edges[face, 2, 2]
            px, py, pz = dy * bz - dz * by, dz * bx - dx * bz, dx * by - dy * bx
            volume = ax * px + ay * py + az * pz
            if abs(volume) < 1e-14:
                continue
            sx, sy, sz = (
                start[row, 0] - edges[face, 0, 0],
                start[row, 1] - edges[face, 0, 1],
                start[row, 2] - edges[face, 0, 2],
            )
            u = (sx * px + sy * py + sz * pz) / volume
            if u < 0 or u > 1:
                continue
            qx, qy, qz = sy * az - sz * ay, sz * ax - sx * az, sx * ay - sy * ax
            v = (dx * qx + dy * qy + dz * qz) / volume
            if v < 0 or u + v > 1:
                continue
            reach = (bx * qx + by * qy + bz * qz) / volume
            if START_M < reach < reach_m:
                found[row] = True
                break
