"""The volumetric stage's result as a mesh: taken from the field, lightened, skinned and coloured as it says."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatars.surface.unwrap import decimated
from avatars.surface_body.mesh_state import MeshState, eight_of, vertex_normals
from avatars.surface_body.model import SurfaceModel
from avatars.surface_body.solid_texture import SolidSettings, SolidTexture
from avatars.training.adam import FusedAdam

PAINT_POINTS, PAINT_RATE = 4096, 1e-2


def first_mesh(
    model: SurfaceModel,
    resolution: int,
    faces: int,
    solid: SolidSettings,
    seed: int = 0,
    levels: float | None = None,
    poses: Tensor | None = None,
) -> MeshState:
    """The mesh of a field with about so many faces at most, on the model's device. Raises EffigyError where there is no
    surface.

    poses: transforms [T, J, 3, 4] in which the person was seen: its colours are those of all of them together, for the
    light falls on the posed body. Without, it is lit as it stands in the canonical pose.
    """
    places, triangles = decimated(*model.mesh(resolution, levels), faces)
    vertices = torch.from_numpy(places).float().to(model.device)
    kept = torch.from_numpy(triangles).to(model.device)
    with torch.no_grad():
        follows = model.weights.at(vertices)
        weights, joints = follows.sort(dim=1, descending=True)
        turns = None if poses is None else torch.einsum("vj,tjrc->tvrc", follows, poses[..., :3])
    skin = model.body.person.skin_of(vertices)
    texture = painted(model, vertices, kept, solid, seed, levels, turns)
    return MeshState(vertices, kept, *eight_of(joints, weights), skin.expression_dirs.to(model.device), texture)


def painted(
    model: SurfaceModel,
    vertices: Tensor,
    faces: Tensor,
    settings: SolidSettings,
    seed: int,
    levels: float | None = None,
    turns: Tensor | None = None,
) -> SolidTexture:
    """A texture fitted to the field's colours on a mesh, each place seen from straight ahead; turns: [T, V, 3, 3] what
    turns its vertices' normals in some poses."""
    generator = torch.Generator(model.device).manual_seed(seed)
    centre, half_m = (model.body.low + model.body.high) / 2, float((model.body.high - model.body.low).max()) / 2
    texture = SolidTexture(centre.cpu(), half_m, settings, torch.Generator().manual_seed(seed)).to(model.device)
    corners, still = vertices[faces], vertex_normals(vertices[None], faces)[0]
    lit = still[None] if turns is None else (turns * still[:, None]).sum(-1)
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1)
    running = area.double().cumsum(0)
    parameters = list(texture.parameters())
    adam = FusedAdam(
        [{"params": parameters, "lr": PAINT_RATE, "betas": (0.9, 0.99), "weight_decay": 0.0}], epsilon=1e-12
    )
    steps = model.config.paint_steps
    for step in range(steps):
        drawn = torch.rand(PAINT_POINTS, 3, generator=generator, device=model.device)
        face = torch.searchsorted(running, drawn[:, 0].double() * running[-1]).clamp(max=len(faces) - 1)
        root = drawn[:, 1].sqrt()
        shares = torch.stack((1 - root, root * (1 - drawn[:, 2]), root * drawn[:, 2]), -1)[..., None]
        place, seen = (shares * corners[face]).sum(1), lit[step % len(lit)]
        normal, towards = (normalize((shares * known[faces[face]]).sum(1), dim=-1, eps=1e-6) for known in (still, seen))
        with torch.no_grad():
            wanted = model.field.colour(place, model.field.geometry(place, levels), -normal, towards, levels)
        loss = (texture(place) - wanted).abs().mean()
        adam.param_groups[0]["lr"] = PAINT_RATE * 0.1 ** (step / steps)
        adam.step(list(zip(parameters, torch.autograd.grad(loss, parameters), strict=True)))
    return texture.requires_grad_(False)
