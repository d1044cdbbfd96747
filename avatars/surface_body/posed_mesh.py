"""A field's surface in one pose, marched in posed space: where parts of the body touch they are one surface."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from avatars.surface.extract import Distance, Extracted, extract_surface, largest_piece
from avatars.surface_body.deformation import Unposed, unposed
from avatars.surface_body.inference import POINTS_AT_ONCE, FieldMesh, Floats, followed_at
from avatars.surface_body.march import GHOST_M, Posed, posed
from avatars.surface_body.model import SLOPE, SurfaceModel

MORE_STEPS = 6
"""Fixed-point steps beyond those of training: a surface needs roots that are found, pictures only need most of them."""
FOUND_M = 0.002
"""A root that moves less in its last step is one: what it comes from is skinned to where it was asked for."""


class PosedField:
    """A model's distances in a pose: rotations [1, J, 3] rad, translations [1, 3] m, expressions [1, E]. Constant."""

    def __init__(self, model: SurfaceModel, rotations: Tensor, translations: Tensor, expressions: Tensor) -> None:
        self.model = model
        with torch.no_grad():
            model.field.begin()
            transforms = model.body.transforms(rotations, translations, expressions)
            guides = [model.body.guide(transforms[0])]
            self.pose: Posed = posed(model, transforms, guides, model.weights.rows(), model.weights.lattice)

    def canonical(self, places: Tensor) -> Unposed:
        """Where places [P, 3] m in the world come from; of several roots the innermost."""
        number = torch.zeros(len(places), dtype=torch.long, device=places.device)
        guesses, steps = self.pose.guesses(places, number), self.model.config.deformation.iterations + MORE_STEPS
        return unposed(places, number, guesses, self.pose.blends, self.model.body.base, steps)

    def distance(self, places: Tensor) -> Tensor:
        """Signed distance [P] m at places [P, 3] m in the world. Farther from the posed template than the shell nothing
        was learned and nothing is; nor is it where no root was found and the last try is much deeper than the template
        is away."""
        number = torch.zeros(len(places), dtype=torch.long, device=places.device)
        near = self.pose.near(places, number)
        shell_m = self.model.shell_m
        found = near - shell_m
        asked = torch.nonzero(near < 1.5 * shell_m)[:, 0]
        if len(asked):
            where = self.canonical(places[asked])
            away = near[asked].abs()  # on thin parts the guide may err about the side
            deep = self.model.field.base(where.canonical) < -away - GHOST_M
            false = deep & (where.moved_m > FOUND_M)
            found[asked] = torch.where(false, away.clamp_min(GHOST_M), self.model.distance(where.canonical))
        return found

    def surface(self, resolution: int, threshold_m: float = 0.0, at_box: str = "refuse") -> Extracted:
        """Its surface at distance threshold_m, with `resolution` cells along the longest side of the posed body's box.
        Raises as `extract_surface`."""
        low, high = (end[0].cpu().numpy() for end in (self.pose.low, self.pose.high))
        device, distance = self.model.device, self.distance
        moved: Distance = lambda places: distance(places) - threshold_m  # noqa: E731
        return extract_surface(moved, low, high, resolution, slope=SLOPE, at_box=at_box, device=device)


def posed_field_mesh(
    model: SurfaceModel,
    pose: tuple[Tensor, Tensor, Tensor],
    resolution: int,
    threshold_m: float = 0.0,
    at_box: str = "refuse",
) -> tuple[FieldMesh, Floats]:
    """The largest piece of the surface in a pose (rotations, translations, expressions of one frame), and its vertices
    [V, 3] m in the world. The mesh itself has them where they come from; its triangles are this pose's alone.

    Raises BadConfig for a body that leaves its box, EffigyError where there is no surface.
    """
    field = PosedField(model, *pose)
    found = field.surface(resolution, threshold_m, at_box)
    vertices, faces = largest_piece(*found.numpy())
    places = torch.from_numpy(vertices).to(model.device)
    with torch.no_grad():
        parts = [_seen(field, some) for some in places.split(POINTS_AT_ONCE)]
    own, colours = (torch.cat([part[k] for part in parts]) for k in (0, 1))
    joints, weights = followed_at(model, own)
    mesh = FieldMesh(own.cpu().double().numpy(), faces, joints, weights, _numbers(colours), found.asked)
    return mesh, vertices.astype(np.float64)


def _seen(field: PosedField, places: Tensor) -> tuple[Tensor, Tensor]:
    """Canonical places [P, 3] m and colours [P, 3] sRGB of places [P, 3] m, looked at against their normals."""
    model, where = field.model, field.canonical(places)
    geometry = model.field.geometry(where.canonical, None)
    along = -normalize(geometry.gradient, dim=-1, eps=1e-6)
    turned = (where.back.transpose(1, 2) * geometry.gradient[:, None]).sum(-1)
    normals = normalize(turned, dim=-1, eps=1e-6)
    return where.canonical, model.field.colour(where.canonical, geometry, along, normals, None).clamp(0, 1)


def _numbers(tensor: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = tensor.cpu().double().numpy()
    return found
