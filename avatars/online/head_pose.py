"""How a tracked head lies in its picture: turned where to, and whether the mesh covers what the mask shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from avatars.online.sampler import HeadTurn
from avatars.rendering.mesh import rasterise_mesh
from avatars.rgb_head.driving import HEAD_JOINTS
from avatars.rgb_head.model import RgbHead
from shared.errors import EffigyError
from shared.types import Camera

MOSTLY, MOST_POINTS = 0.9, 300
MASK_PX = 96


class HeadPoints:
    """The vertices of a head that move rigidly with it, at rest. Raises EffigyError for a template without a head."""

    def __init__(self, model: RgbHead) -> None:
        arrays = model.head.template.arrays
        joint = next((name for name in ("head", "neck") if name in arrays.joint_names), None)
        if joint is None:
            raise EffigyError("the template has neither a head nor a neck joint", found=", ".join(arrays.joint_names))
        rows = np.nonzero(arrays.weights[:, arrays.joint_names.index(joint)] > MOSTLY)[0]
        self.rows = rows[:: max(1, len(rows) // MOST_POINTS)]
        if len(self.rows) < 3:
            raise EffigyError(f"the template's {joint} joint moves no vertices")
        self.rest = model.head.vertices.detach().cpu().numpy()[self.rows].astype(np.float64)

    def turn(self, vertices: NDArray[np.floating], camera: Camera) -> HeadTurn:
        """The turn of posed vertices [V, 3] m as `camera` sees it: 0, 0 looks into the camera (Kabsch's rotation)."""
        posed = vertices[self.rows].astype(np.float64)
        rest, posed = self.rest - self.rest.mean(0), posed - posed.mean(0)
        u, _, vt = np.linalg.svd(posed.T @ rest)
        world_from_rest = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
        looks = camera.world_from_camera[:3, :3].T @ world_from_rest @ np.array([0.0, -1.0, 0.0])
        yaw, pitch = math.atan2(looks[0], -looks[2]), math.asin(float(np.clip(-looks[1], -1, 1)))
        return HeadTurn(math.degrees(yaw), math.degrees(pitch))


def mask_iou(
    vertices: NDArray[np.floating], triangles: NDArray[np.integer], camera: Camera, alpha: NDArray[np.uint8]
) -> float:
    """Intersection over union of the posed mesh's silhouette and a mask [H, W] uint8, at most 96 px large.

    vertices [V, 3] m; triangles [F, 3]. 0 where either is empty.
    """
    factor = min(1.0, MASK_PX / max(alpha.shape))
    height, width = (max(1, round(side * factor)) for side in alpha.shape)
    view = camera.camera_from_world()
    seen = vertices.astype(np.float64) @ view[:3, :3].T + view[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = (seen @ camera.K.T)[:, :2] / seen[:, 2:]
    pixels *= (width / alpha.shape[1], height / alpha.shape[0])
    face, _, _ = rasterise_mesh(np.column_stack((pixels, seen[:, 2])), triangles, width, height)
    rows = ((np.arange(height) + 0.5) * alpha.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * alpha.shape[1] / width).astype(int)
    mask, mesh = alpha[rows][:, columns] > 127, face >= 0
    union = (mask | mesh).sum()
    return float((mask & mesh).sum() / union) if union else 0.0


def rest_pose(model: RgbHead, rotations: Sequence[NDArray[np.floating]]) -> NDArray[np.float32]:
    """The mean of some frames' rotations [J, 3] rad with the head itself straight, as in offline training."""
    names = model.head.template.arrays.joint_names
    rest = np.mean(rotations, axis=0)
    for name in HEAD_JOINTS:
        if name in names:
            rest[names.index(name)] = 0
    return np.asarray(rest, np.float32)
