"""The teeth that RGBAvatar and GaussianAvatars add to FLAME, vertex for vertex (method page 2.4 and 10.2).

Files of both projects name faces by number, so order and winding of what is added are part of their formats. All
numbers here are in FLAME's axes: y up, facing +z, metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
TeethKind = Literal["none", "rgbavatar", "gaussian_avatars"]
TEETH_KINDS: tuple[TeethKind, ...] = ("none", "rgbavatar", "gaussian_avatars")
LIP_RING_UPPER = (1713, 1715, 1716, 1735, 1696, 1694, 1657, 3543, 2774, 2811, 2813, 2850, 2833, 2832, 2830)
LIP_RING_LOWER = (1576, 1577, 1773, 1774, 1795, 1802, 1865, 3503, 2948, 2905, 2898, 2881, 2880, 2713, 2712)
"""Vertices around FLAME's lips, both from the left (+x) to the right."""
PER_ROW = len(LIP_RING_UPPER)
NECK, JAW = 1, 2
Strip = tuple[int, int, str, str]
"""Two rows of vertices and the patterns of the left and the right half of the strip between them."""
UPPER_ROOT, LOWER_ROOT, UPPER_EDGE, LOWER_EDGE, UPPER_ROOT_BACK, UPPER_EDGE_BACK, LOWER_ROOT_BACK, LOWER_EDGE_BACK = (
    range(8)
)
RGBAVATAR_STRIPS: tuple[Strip, ...] = (
    (UPPER_ROOT, UPPER_EDGE, "D+", "D-"),
    (LOWER_EDGE, LOWER_ROOT, "D-", "D+"),
)
GAUSSIAN_AVATARS_STRIPS: tuple[Strip, ...] = (
    (UPPER_ROOT, UPPER_EDGE, "D+", "D-"),
    (UPPER_ROOT_BACK, UPPER_EDGE_BACK, "E+", "E-"),
    (UPPER_EDGE_BACK, UPPER_EDGE, "E-", "E+"),
    (LOWER_EDGE, LOWER_ROOT, "D-", "D+"),
    (LOWER_ROOT_BACK, LOWER_EDGE_BACK, "D+", "D-"),
    (LOWER_EDGE_BACK, LOWER_EDGE, "D-", "D+"),
)


@dataclass(frozen=True, eq=False)
class FlameArrays:
    """FLAME in its own axes, float64.

    vertices [V, 3]; faces [F, 3]; directions [V, 3, 400]; pose_dirs [V, 3, 36]; regressor [5, V]; weights [V, 5];
    uv [U, 2]; uv_faces [F, 3]; eyelids [2, V, 3] (left, right) or None; teeth_faces: how many of the last faces.
    """

    vertices: Array
    faces: NDArray[np.int64]
    directions: Array
    pose_dirs: Array
    regressor: Array
    weights: Array
    uv: Array
    uv_faces: NDArray[np.int64]
    eyelids: Array | None
    teeth_faces: int = 0


def with_teeth(flame: FlameArrays, kind: TeethKind) -> FlameArrays:
    """FLAME (5023 vertices) with one of the two sets of teeth: 5083 or 5143 vertices, 10032 or 10144 faces."""
    if kind == "none":
        return flame
    upper, lower = flame.vertices[list(LIP_RING_UPPER)], flame.vertices[list(LIP_RING_LOWER)]
    gap = float(np.linalg.norm(upper - lower, axis=1).mean())
    middle = (upper + lower) / 2
    middle[:, 1] = middle[:, 1].mean()
    rows, strips, uv = _rgbavatar(middle, gap) if kind == "rgbavatar" else _gaussian_avatars(middle, gap)
    count, added = len(flame.vertices), len(rows) * PER_ROW
    faces = teeth_faces(strips)
    is_upper = [row in (UPPER_ROOT, UPPER_EDGE, UPPER_ROOT_BACK, UPPER_EDGE_BACK) for row in range(len(rows))]
    weights = np.zeros((added, flame.weights.shape[1]))
    weights[np.arange(added), np.repeat(np.where(is_upper, NECK, JAW), PER_ROW)] = 1
    lips = flame.directions[list(LIP_RING_UPPER)] + flame.directions[list(LIP_RING_LOWER)]
    directions = np.tile(lips / 2, (len(rows), 1, 1))
    directions[:, :, 300:] = 0

    def padded(array: Array, axis: int) -> Array:
        widths = [(0, added if k == axis else 0) for k in range(array.ndim)]
        return np.pad(array, widths)

    return replace(
        flame,
        vertices=np.concatenate((flame.vertices, *rows)),
        faces=np.concatenate((flame.faces, faces + count)),
        directions=np.concatenate((flame.directions, directions)),
        pose_dirs=padded(flame.pose_dirs, 0),
        regressor=padded(flame.regressor, 1),
        weights=np.concatenate((flame.weights, weights)),
        uv=np.concatenate((flame.uv, uv)),
        uv_faces=np.concatenate((flame.uv_faces, faces + len(flame.uv))),
        eyelids=None if flame.eyelids is None else padded(flame.eyelids, 1),
        teeth_faces=len(faces),
    )


def teeth_faces(strips: Sequence[Strip]) -> NDArray[np.int64]:
    """Triangles [n, 3] of strips, counted from the first added vertex. The middle column changes the pattern."""
    found = []
    for first, second, left, right in strips:
        for column in range(PER_ROW - 1):
            a, b = first * PER_ROW + column, second * PER_ROW + column
            match left if column < 7 else right:
                case "D+":
                    found += [(a, b + 1, b), (a, a + 1, b + 1)]
                case "D-":
                    found += [(a, a + 1, b), (a + 1, b + 1, b)]
                case "E+":
                    found += [(a, b, b + 1), (a, b + 1, a + 1)]
                case _:
                    found += [(a, b, a + 1), (a + 1, b, b + 1)]
    return np.array(found, np.int64)


def _rgbavatar(middle: Array, gap: float) -> tuple[list[Array], Sequence[Strip], Array]:
    middle = middle - (0, 0, 2 * gap)
    upper_edge = middle - (0, gap, 0)
    lower_edge = middle + (0, gap, -0.4 * gap)
    rows = [upper_edge + (0, gap, 0), lower_edge - (0, gap, 0), upper_edge, lower_edge]
    return rows, RGBAVATAR_STRIPS, _sheet(np.linspace(0.75, 0.25, PER_ROW), [0.995, 0.955, 0.975, 0.975])


def _gaussian_avatars(middle: Array, gap: float) -> tuple[list[Array], Sequence[Strip], Array]:
    middle = middle - (0, 0, 1.5 * gap)
    upper_edge = middle + (0, 0.1 * gap, 0)
    upper_root = upper_edge + (0, 2 * gap, 0)
    lower_edge = middle - (0, 0.1 * gap, 0.4 * gap)
    lower_root = lower_edge - (0, 2 * gap, 0)
    front = (upper_root, upper_edge, lower_root, lower_edge)
    back = [row - (0, 0, gap) for row in front]
    rows = [upper_root, lower_root, upper_edge, lower_edge, *back]
    v = np.linspace(0.9917, 0.9575, 7)[[3, 2, 0, 1, 3, 4, 6, 5]]
    return rows, GAUSSIAN_AVATARS_STRIPS, _sheet(np.linspace(0.62, 0.38, PER_ROW), v)


def _sheet(u: Array, v: Sequence[float] | Array) -> Array:
    """UV [rows * 15, 2], row by row."""
    return np.stack(np.broadcast_arrays(u[None], np.asarray(v)[:, None]), -1).reshape(-1, 2)
