"""A small signed-distance body for tests: the template's own surface in bright colours."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from avatars.relit_field.settings import GridSettings
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


def poses(frames: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """rotations [T, J, 3] rad, translations [T, 3] m, expressions [T, E] of a person who moves."""
    motion = body_motion(frames, seed)
    found = [torch.from_numpy(motion[name]) for name in ("rotations", "translations", "expressions")]
    return found[0], found[1], found[2]
