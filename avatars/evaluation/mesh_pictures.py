"""The template of a head drawn half-transparent over pictures of it: where Gaussians and mesh part is seen at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from avatars.avatar import Avatar
from avatars.captures.overlay import brightness, projected
from avatars.rendering.mesh import rasterise_mesh
from avatars.rgb_head.head_template import HeadTemplate
from avatars.templates.template import triangles_of
from shared.errors import BadConfig
from shared.types import Camera, Motion

HIDDEN = ("haircap",)
"""A volume for hair that hides the embedded human's own skin."""
MESH_SHARE = 0.5
MESH_GREY = 235.0


class MeshPainter:
    """Draws the mesh of one person. Raises BadConfig for an avatar that hangs on no head template."""

    def __init__(self, avatar: Avatar) -> None:
        head: Any = getattr(getattr(avatar, "model", None), "head", None)
        if not isinstance(head, HeadTemplate):
            raise BadConfig("The mesh of this avatar cannot be drawn", found=avatar.method, expected="a head")
        self.head = head
        arrays = head.template.arrays
        groups = [name for name in arrays.faces if name not in HIDDEN]
        self.faces = np.concatenate([triangles_of(arrays.faces[g], arrays.uv_faces[g])[0] for g in groups])

    def vertices(self, motion: Motion, frame: int) -> NDArray[np.float64]:
        """World vertices [V, 3] m in one frame."""
        device = self.head.joints.device
        parts = (motion.rotations, motion.translations, motion.expressions)
        with torch.no_grad():
            posed = self.head.posed_vertices(
                *(torch.from_numpy(np.array(part[frame : frame + 1], np.float32)).to(device) for part in parts)
            )
        found: NDArray[np.float64] = posed[0].cpu().numpy().astype(np.float64)
        return found

    def over(self, picture: NDArray[np.uint8], motion: Motion, frame: int, camera: Camera) -> NDArray[np.uint8]:
        """The picture [H, W, 3] with the grey mesh of that frame over it."""
        vertices = self.vertices(motion, frame)
        camera_from_world = camera.camera_from_world()
        pixels = projected(vertices, camera_from_world, camera.K)
        face_id = rasterise_mesh(pixels, self.faces, camera.width_px, camera.height_px)[0]
        lit = brightness(vertices, self.faces, camera_from_world)
        share = MESH_SHARE * (face_id >= 0)[..., None]
        grey = MESH_GREY * lit[np.maximum(face_id, 0)][..., None]
        return np.clip(picture * (1 - share) + grey * share + 0.5, 0, 255).astype(np.uint8)
