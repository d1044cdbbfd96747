"""The nearest point of a triangle mesh to each of many points, exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatars.skinning.face_tree import FaceTree

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClosestPoints:
    """For N points: face [N] int64, barycentrics [N, 3] of the nearest point in it, distance_m [N]."""

    face: NDArray[np.int64]
    barycentrics: Floats
    distance_m: Floats


def closest_points(
    points: NDArray[np.floating], vertices: NDArray[np.floating], triangles: NDArray[np.integer]
) -> ClosestPoints:
    """The nearest place on a mesh of vertices [V, 3] and triangles [F, 3] to points [N, 3], all in m.

    Whoever asks the same mesh again keeps a `FaceTree`. Raises EffigyError for a mesh without triangles.
    """
    return ClosestPoints(*FaceTree(vertices, triangles).nearest(points))
