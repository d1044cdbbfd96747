"""The simplest teacher: the template itself with painted materials.

For trying the whole way from teacher to student without a trained field, and for tests: everything it answers is known.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from avatars.relit_body.avatar import RelitAvatar
from avatars.relit_body.initial import first_surfels, part_probes, turns_to
from avatars.relit_body.mesh_teacher import MeshTeacher
from avatars.relit_body.surfels import ALBEDO, ROUGHNESS, logit
from avatars.templates.opening import TemplateReference
from shared.types import Environment

SKIN, SHIRT, TROUSERS = (0.62, 0.42, 0.33), (0.12, 0.24, 0.55), (0.16, 0.15, 0.14)
GLOSSY_BELT = (0.75, 0.60, 0.25)


def painted_materials(vertices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """albedo [V, 3], roughness and metallic [V] of canonical vertices [V, 3] m: skin, clothes and a metal belt.

    Bands by height of a standing body, so that any template gets them.
    """
    low, high = vertices[:, 2].min(), vertices[:, 2].max()
    height = (vertices[:, 2] - low) / (high - low)
    albedo = torch.tensor(SKIN).expand(len(vertices), 3).clone()
    roughness = torch.full((len(vertices),), 0.45)
    metallic = torch.zeros(len(vertices))
    for colour, rough, metal, first, last in (
        (SHIRT, 0.85, 0.0, 0.56, 0.83),
        (TROUSERS, 0.75, 0.0, 0.06, 0.52),
        (GLOSSY_BELT, 0.3, 0.9, 0.52, 0.56),
    ):
        chosen = (height >= first) & (height < last)
        albedo[chosen] = torch.tensor(colour)
        roughness[chosen], metallic[chosen] = rough, metal
    return albedo, roughness, metallic


class PaintedTeacher(MeshTeacher):
    """The bare template in bands of paint; arguments as for `MeshTeacher`."""

    def __init__(self, reference: TemplateReference, canonical_rotations: Tensor, environment: Environment) -> None:
        super().__init__(reference, canonical_rotations, environment)
        self.albedo, self.roughness, self.metallic = painted_materials(self.vertices)


def painted_avatar(teacher: PaintedTeacher, surfels: int, probe_side: int) -> RelitAvatar:
    """Surfels that hold what a painted teacher knows, with probes; nothing is trained."""
    vertices, faces = teacher.mesh()
    made = first_surfels(teacher.person, vertices, faces, surfels, opacity=0.95)
    known = teacher.query(made.positions)
    with torch.no_grad():
        made.albedo.copy_(logit((known.albedo - ALBEDO[1]) / ALBEDO[0]))
        made.roughness.copy_(logit((known.roughness - ROUGHNESS[1]) / ROUGHNESS[0]))
        made.metallic.copy_(logit(known.metallic))
        made.quats.copy_(turns_to(known.normals))
    radiance = torch.from_numpy(np.array(teacher.environment().radiance))
    return RelitAvatar(made, part_probes(teacher.person, vertices, faces, probe_side), radiance)
