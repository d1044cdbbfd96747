"""An untrained signed-distance body: the template's own surface, for benchmarks and tests."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from avatars.relit_body.person import Person
from avatars.surface.unwrap import decimated
from avatars.surface_body.avatar import SurfaceAvatar
from avatars.surface_body.faces import first_gaussians
from avatars.surface_body.mesh_state import MeshState, eight_of
from avatars.surface_body.solid_texture import SolidSettings, SolidTexture
from avatars.templates.opening import TemplateReference

OPACITY = 0.95


def plain_mesh(person: Person, faces: int, solid: SolidTexture | None = None) -> MeshState:
    """The surface a person's template shows, with about so many faces at most, and its weights."""
    used, triangles = np.unique(person.faces, return_inverse=True)
    places, kept = decimated(person.vertices.numpy()[used], triangles.reshape(-1, 3), faces)
    vertices = torch.from_numpy(places.astype(np.float32))
    skin = person.skin_of(vertices)
    joints, weights = eight_of(skin.joints, skin.weights)
    if solid is None:
        low, high = vertices.amin(0), vertices.amax(0)
        half_m = float((high - low).max()) / 2 + 0.05
        solid = SolidTexture((low + high) / 2, half_m, SolidSettings(), torch.Generator().manual_seed(0))
    return MeshState(vertices, torch.from_numpy(kept), joints, weights, skin.expression_dirs, solid)


def plain_avatar(
    reference: TemplateReference,
    canonical_rotations: Tensor,
    faces: int,
    gaussians: int = 0,
    solid: SolidTexture | None = None,
) -> SurfaceAvatar:
    """A person who looks like the template in colours of a (random) solid texture.

    gaussians: how many at most; 0 is one on each face.
    """
    person = Person(reference, canonical_rotations)
    mesh = plain_mesh(person, faces, solid)
    model, used = first_gaussians(mesh.vertices, mesh.faces, mesh.look, OPACITY, gaussians or len(mesh.faces))
    return SurfaceAvatar(person, mesh, model.kept(slice(used)), np.zeros((len(person.joints), 3), np.float32))
