"""Small signed-distance bodies for tests: the template's own surface in bright colours, with weights of their own."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatars.avatar_folder import About, save_avatar
from avatars.relit_field.settings import GridSettings
from avatars.surface.asset import MeshSettings, make_mesh, save_mesh
from avatars.surface.sources import avatar_source
from avatars.surface_body.avatar import SurfaceAvatar
from avatars.surface_body.plain import plain_avatar
from avatars.surface_body.solid_texture import SolidSettings, SolidTexture
from avatars.templates.big_pose import big_pose_rotations
from tests.tiny_body import body_motion, body_reference

SMALL = SolidSettings(GridSettings(levels=3, table_log2=8, base=4, growth=1.5, start_levels=3), width=8, features=2)
FACES = 3000


def bright_texture() -> SolidTexture:
    """Colours that change over a few centimetres."""
    solid = SolidTexture(torch.tensor([0.0, 0.0, 0.0]), 1.2, SMALL, torch.Generator().manual_seed(1))
    with torch.no_grad():
        solid.grid.table.uniform_(-2, 2, generator=torch.Generator().manual_seed(2))
    return solid


@lru_cache(maxsize=1)
def small_avatar() -> SurfaceAvatar:
    """Of 3000 faces and 4000 Gaussians, with colours that depend on the view."""
    reference = body_reference()
    canonical = torch.from_numpy(big_pose_rotations(reference.open().joint_names)) * (45 / 25)
    avatar = plain_avatar(reference, canonical, FACES, 4000, bright_texture())
    avatar.gaussians.tints.uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(3))
    avatar.rest_pose = body_motion(1)["rotations"][0]
    return avatar


def trained_like() -> SurfaceAvatar:
    """The same with weights and vertices that are not the template's, as training leaves them."""
    start, draw = small_avatar(), torch.Generator().manual_seed(4)
    mesh = start.mesh
    weights = mesh.weights * (0.5 * torch.randn(mesh.weights.shape, generator=draw)).exp()
    weights = weights / weights.sum(1, keepdim=True)
    vertices = mesh.vertices + 0.002 * torch.randn(mesh.vertices.shape, generator=draw)
    mesh = replace(mesh, weights=weights, vertices=vertices)
    model = start.gaussians.kept(slice(None)).requires_grad_(False)
    model.tints.zero_()
    return SurfaceAvatar(start.person, mesh, model, start.rest_pose)


def write_person(folder: Path) -> None:
    """`folder`/walker.avatar, its exported folder/mesh, and folder/truth.npz: poses and its vertices in them."""
    avatar = trained_like()
    picture = np.full((64, 64, 4), 160, np.uint8)
    save_avatar(folder / "walker.avatar", avatar, About("Walker", licence="CC0-1.0"), picture)
    asset, textures = make_mesh(avatar_source(avatar), MeshSettings(0, 64), "Walker", "walker")
    save_mesh(folder / "mesh", asset, textures)
    rotations, translations, expressions = poses(3, 2)
    expressions = expressions * torch.tensor([0.0, 0.0, 1.0])[:, None]
    found = avatar.vertices(rotations, translations, expressions).numpy()
    names = np.array(avatar.rig().expression_names)
    np.savez(
        folder / "truth.npz",
        rotations=rotations.numpy(),
        translations=translations.numpy(),
        expressions=expressions.numpy(),
        names=names,
        vertices=found,
    )


def poses(frames: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """rotations [T, J, 3] rad, translations [T, 3] m, expressions [T, E] of a person who moves."""
    motion = body_motion(frames, seed)
    found = [torch.from_numpy(motion[name]) for name in ("rotations", "translations", "expressions")]
    return found[0], found[1], found[2]
