"""Where the inside of the mouth is in a picture: the template's teeth and tongue, seen past everything else."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from avatars.avatar import Avatar
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.mesh import rasterise_mesh
from avatars.rgb_head.head_template import HeadTemplate
from avatars.templates.template import Template, template_triangles

INSIDE = ("teeth", "tongue")
"""How the names of face groups inside the mouth begin; FLAME's own teeth are added under such a name, too."""


class MouthMasks:
    """Masks of the inside of an avatar's mouth, for any instant and camera."""

    def __init__(self, avatar: Avatar) -> None:
        reference = avatar.template()
        offset = getattr(getattr(getattr(avatar, "model", None), "head", None), "vertex_offset", None)
        arrays = reference.open()
        offset = None if offset is None else offset.detach().cpu()
        self.template = HeadTemplate.make(Template(arrays), reference.preset, reference.shape, offset)
        self.faces, _, group = template_triangles(arrays)
        names = list(arrays.faces)
        self.inside = np.array([name.startswith(INSIDE) for name in names])[group]
        self.any = bool(self.inside.any())

    def mask(self, rotations: Tensor, translations: Tensor, expressions: Tensor, cameras: CameraBatch) -> Tensor:
        """[B, H, W] bool on the CPU for B poses seen by B perspective cameras."""
        height, width = cameras.height_px, cameras.width_px
        found = torch.zeros(len(rotations), height, width, dtype=torch.bool)
        if not self.any:
            return found
        parts = [part.detach().cpu().float() for part in (rotations, translations, expressions)]
        with torch.no_grad():
            vertices = self.template.posed_vertices(*parts)
        K, pose = cameras.K.detach().cpu(), cameras.camera_from_world.detach().cpu()
        for row in range(len(vertices)):
            there = vertices[row] @ pose[row, :3, :3].T + pose[row, :3, 3]
            depth = there[:, 2:]
            flat = there @ K[row].T
            pixels = torch.cat((flat[:, :2] / depth.clamp_min(1e-6), depth), 1).double().numpy()
            face, _, _ = rasterise_mesh(pixels, self.faces, width, height)
            found[row] = torch.from_numpy((face >= 0) & self.inside[np.maximum(face, 0)])
        return found
