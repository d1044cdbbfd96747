"""Points of the template's face and eyeballs that pictures are compared at: where they are, and which are seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from avatars.rendering.mesh import rasterise_mesh
from avatars.tracking.correspondences import Correspondences
from avatars.tracking.landmark_model import FrameState, LandmarkModel
from avatars.tracking.measuring import face_vertices
from shared.template import TemplateArrays, rest

Array = NDArray[np.float64]
SKIN_STEP, OUTLINE_STEP = 2, 8
EYE_PLACES = ((1 / 3, 1 / 3, 1 / 3), (0.7, 0.15, 0.15), (0.15, 0.7, 0.15), (0.15, 0.15, 0.7))
BEHIND_EYES_M = 0.09
FACING = 0.3
SKIN_BEHIND_M, EYE_BEHIND_M = 0.004, 0.001
"""A point this far behind what is drawn in its pixel is still seen."""


class SurfacePoints:
    """Points of one template under a clip's identity modes.

    points, outline: models of P compared points and of points all over the head, both functions of `FrameState`.
    eye: [P] whether a point lies on an eyeball.
    """

    def __init__(self, arrays: TemplateArrays, identity_modes: int) -> None:
        skin = face_vertices(arrays)[::SKIN_STEP]
        eyes = np.concatenate([_front(arrays, name, side) for name, side in (("eye_l", "left"), ("eye_r", "right"))])
        corners = np.concatenate((np.repeat(skin[:, None], 3, 1), np.repeat(eyes, len(EYE_PLACES), 0)))
        weights = np.concatenate((np.tile([1.0, 0, 0], (len(skin), 1)), np.tile(EYE_PLACES, (len(eyes), 1))))
        self.eye = np.arange(len(corners)) >= len(skin)
        head = arrays.weights[:, [arrays.joint("head"), arrays.joint("jaw")]].sum(1)
        vertices, joints = rest(arrays)
        near = (head > 0.3) & (vertices[:, 1] < joints[arrays.joint("left_eye"), 1] + BEHIND_EYES_M)
        triangles = _triangles(arrays.faces["skin"])
        triangles = np.concatenate((triangles[near[triangles].all(1)], eyes))
        drawn, inverse = np.unique(np.concatenate((triangles.ravel(), corners.ravel())), return_inverse=True)
        self.triangles = inverse[: triangles.size].reshape(-1, 3).astype(np.int32)
        self.corners, self.weights = inverse[triangles.size :].reshape(-1, 3), weights
        around = (
            np.ones(self.triangles.size, np.float64),
            (
                self.triangles.ravel(),
                np.repeat(np.arange(len(self.triangles)), 3),
            ),
        )
        self.around = csr_array(around, shape=(len(drawn), len(self.triangles)))

        def model(corners: NDArray[np.int64], weights: Array) -> LandmarkModel:
            where = Correspondences(corners, weights, np.full(len(corners), 1e-3), arrays.digest, {})
            return LandmarkModel(arrays, where, identity_modes=identity_modes)

        def of_vertices(chosen: NDArray[np.int64]) -> LandmarkModel:
            return model(np.repeat(chosen[:, None], 3, 1), np.tile([1.0, 0, 0], (len(chosen), 1)))

        self.points, self.drawn = model(corners, weights), of_vertices(drawn)
        rigid = np.intersect1d(np.flatnonzero(head > 0.95), arrays.group_vertices("skin"))
        self.outline = of_vertices(rigid[::OUTLINE_STEP])

    def __len__(self) -> int:
        return len(self.eye)

    def seen(
        self, state: FrameState, identity: Array, focal_px: float, scale: float, corner: Array, size: tuple[int, int]
    ) -> tuple[Array, Array, Array]:
        """Of one frame: places [P, 2] px in a patch, normals [P, 3] in the camera's axes, and cosines [P] between them
        and the way to the camera, 0 where a point is not seen.

        The patch has size (width, height) px; a place in it is that in the camera's image plane (the principal point at
        0, 0) less corner [2], times scale.
        """
        pixels, points = (part[0] for part in self.drawn.project(state, identity, focal_px, (0.0, 0.0)))
        sides = points[self.triangles]
        across = np.cross(sides[:, 1] - sides[:, 0], sides[:, 2] - sides[:, 0])
        normals = self.around @ across
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
        patch = (pixels - corner) * scale
        depth = rasterise_mesh(np.concatenate((patch, points[:, 2:]), 1), self.triangles, *size)[2]

        def at(values: Array) -> Array:
            found: Array = (values[self.corners] * self.weights[..., None]).sum(1)
            return found

        there, place, normal = at(points), at(patch), at(normals)
        cosine = -(normal * there).sum(1) / np.linalg.norm(there, axis=1)
        inside = (place >= 0).all(1) & (place < size).all(1)
        cell = np.clip(place, 0, np.array(size) - 1).astype(np.int64)
        behind = np.where(self.eye, EYE_BEHIND_M, SKIN_BEHIND_M)
        hidden = there[:, 2] > depth[cell[:, 1], cell[:, 0]] + behind
        return place, normal, np.where(inside & ~hidden & (cosine > FACING), cosine, 0.0)


def _triangles(faces: NDArray[np.int32]) -> NDArray[np.int64]:
    return np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]]).astype(np.int64)


def _front(arrays: TemplateArrays, name: str, side: str) -> NDArray[np.int64]:
    """Triangles [T, 3] of the half of an eyeball that can look out."""
    vertices, joints = rest(arrays)
    triangles = _triangles(arrays.faces[name])
    centre = joints[arrays.joint(f"{side}_eye")]
    away = vertices[triangles].mean(1) - centre
    found: NDArray[np.int64] = triangles[-away[:, 1] > 0.4 * np.linalg.norm(away, axis=1)]
    return found
