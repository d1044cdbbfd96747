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
from avatars.text_edit.mouth import INSIDE
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
        parts = [triangles_of(arrays.faces[g], arrays.uv_faces[g])[0] for g in groups]
        self.faces = np.concatenate(parts)
        self.inside = np.repeat([g.startswith(INSIDE) for g in groups], [len(part) for part in parts])

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
        vertices, face_id = self.seen(motion, frame, camera)
        lit = brightness(vertices, self.faces, camera.camera_from_world())
        share = MESH_SHARE * (face_id >= 0)[..., None]
        grey = MESH_GREY * lit[np.maximum(face_id, 0)][..., None]
        return np.clip(picture * (1 - share) + grey * share + 0.5, 0, 255).astype(np.uint8)

    def mask(self, motion: Motion, frame: int, camera: Camera, mouth: bool) -> NDArray[np.uint8]:
        """Where the mesh is, or only what is inside the mouth, [H, W, 3]: 255, elsewhere 0."""
        _, face_id = self.seen(motion, frame, camera)
        there = face_id >= 0
        if mouth:
            there &= self.inside[np.maximum(face_id, 0)]
        return np.repeat(there[..., None], 3, 2).astype(np.uint8) * 255

    def seen(self, motion: Motion, frame: int, camera: Camera) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """World vertices [V, 3] m of one frame and the face [H, W] each pixel sees, -1 for none."""
        vertices = self.vertices(motion, frame)
        pixels = projected(vertices, camera.camera_from_world(), camera.K)
        return vertices, rasterise_mesh(pixels, self.faces, camera.width_px, camera.height_px)[0]
