"""From coefficients to Gaussians in the world: private bases, control offsets, skinning (method page A.5, 3 to 9).

Tables have the Gaussians last, [..., N], so that neighbouring threads and vector lanes read neighbouring numbers. This
is the plain form, the reference of the compiled ones (`cpu_express`, `cuda_express`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avatars.gaussians.posed import multiply_quaternions, quaternion_from_matrix
from avatars.gaussians.spherical_harmonics import SH0
from avatars.mlp_body import cpu_express, cuda_express
from avatars.templates.rotations import unit_quaternions

SH1 = 0.4886025119029199
"""sqrt(3 / 4 pi), the constant of the first band."""
COLOUR, SCALE, ROTATION, OPACITY = slice(0, 3), slice(3, 6), slice(6, 10), 10
CHANNELS = 11
"""Rows of `bases`: band-0 colour, log-scale, quaternion, opacity logit."""
POLAR_STEPS = 3


@dataclass(frozen=True, eq=False)
class Tables:
    """What N Gaussians own. neutral [11, N]: colour (band 0), log-scale in log m, quaternion wxyz, opacity logit.

    bases [K, 11, N]: what each coefficient adds to them. sh1 [9, N]: band-1 colour, coefficient-major (three
    coefficients of three channels); sh1_bases [K, 9, N]. wiggle [3, N]: before tanh, in units of wiggle_m.
    """

    neutral: Tensor
    bases: Tensor
    sh1: Tensor
    sh1_bases: Tensor
    wiggle: Tensor
    wiggle_m: float


@dataclass(frozen=True, eq=False)
class Places:
    """U posed bodies without the learned parts. rest [U, 3, N] m: big-pose positions, expressions included.

    transforms [U, 12, N]: rows of [3, 4] matrices, world from big pose; turns [U, 4, N]: unit wxyz quaternions of their
    rotations, None on CUDA, whose kernel finds them.
    """

    rest: Tensor
    transforms: Tensor
    turns: Tensor | None


@dataclass(frozen=True, eq=False)
class Expressed:
    """Gaussians of U poses, as `PosedGaussians`; colours without the view: base [U, N, 3].

    tint [U, N, 3, 3]: for each channel a world vector whose product with the unit direction from the camera is added;
    None where band 1 takes no part.
    """

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    base: Tensor
    tint: Tensor | None


def turns_of(transforms: Tensor) -> Tensor:
    """Unit wxyz quaternions [..., 4] of the rotations in blended matrices [..., 3, 3].

    The polar factor by three Newton steps. A matrix that folds space (no inverse) leaves an arbitrary, finite rotation.
    """
    m = transforms
    for _ in range(POLAR_STEPS):
        a, b, c = m.unbind(-2)
        cofactors = torch.stack((torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)), -2)
        volume = (a * cofactors[..., 0, :]).sum(-1)[..., None, None]
        m = torch.where(volume > 1e-3, 0.5 * (m + cofactors / volume.clamp_min(1e-3)), m)
    return quaternion_from_matrix(m)


def blended(skinning: Tensor, weights: Tensor) -> Tensor:
    """Transforms [U, 12, N] of skinning [U, J, 3, 4] by weights [J, N] (linear blend)."""
    return skinning.flatten(2).transpose(1, 2) @ weights


def express(
    tables: Tables, coefficients: Tensor | None, offsets: Tensor, places: Places, *, view_dependent: bool
) -> Expressed:
    """Posed Gaussians for coefficients [U, N, K] (None: neutral values) and offsets [U, N, 3] m of control points."""
    batch = len(places.transforms)
    neutral = tables.neutral.expand(batch, -1, -1)
    if coefficients is not None:
        along = coefficients.permute(2, 0, 1)  # [K, U, N]
        neutral = neutral + torch.einsum("kun,kcn->ucn", along, tables.bases)
    wiggle = tables.wiggle_m * torch.tanh(tables.wiggle)
    canonical = places.rest + offsets.transpose(1, 2) + wiggle
    rows = places.transforms.unflatten(1, (3, 4))
    means = (rows[:, :, :3] * canonical[:, None]).sum(2) + rows[:, :, 3]
    local = unit_quaternions(neutral[:, ROTATION].transpose(1, 2))
    assert places.turns is not None  # they are found with the places, except on CUDA
    turns = places.turns.transpose(1, 2)
    tint = None
    if view_dependent:
        own = tables.sh1.expand(batch, -1, -1)
        if coefficients is not None:
            own = own + torch.einsum("kun,kcn->ucn", along, tables.sh1_bases)
        tint = _world_tint(own, turns)
    return Expressed(
        means=means.transpose(1, 2),
        quats=multiply_quaternions(turns, local),
        scales=neutral[:, SCALE].transpose(1, 2).exp(),
        opacities=torch.sigmoid(neutral[:, OPACITY]),
        base=0.5 + SH0 * neutral[:, COLOUR].transpose(1, 2),
        tint=tint,
    )


def _world_tint(own: Tensor, turns: Tensor) -> Tensor:
    """Band 1 [U, 9, N] as vectors [U, N, 3 channels, 3], turned by quaternions [U, N, 4].

    Y = c (-y, z, -x), so coefficients (p, q, r) are c (-r, -p, q) · direction.
    """
    p, q, r = own.unflatten(1, (3, 3)).permute(0, 3, 2, 1).unbind(-1)  # each [U, N, channel]
    vectors = SH1 * torch.stack((-r, -p, q), -1)
    axis, w = turns[..., None, 1:], turns[..., None, :1]
    across = 2 * torch.linalg.cross(axis.expand_as(vectors), vectors)
    return vectors + w * across + torch.linalg.cross(axis.expand_as(vectors), across)


def seen_colours(expressed: Expressed, rows: Tensor, positions: Tensor) -> Tensor:
    """Colours [B, N, 3] >= 0 of poses `rows` [B] seen from `positions` [B, 3] m."""
    return tinted_colours(expressed.base, expressed.tint, expressed.means, rows, positions)


def tinted_colours(base: Tensor, tint: Tensor | None, means: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
    """The same of base, means [U, N, 3] and tint [U, N, 3, 3] or None; differentiable by base and tint."""
    if cuda_express.usable(base):
        return cuda_express.seen_colours(base, tint, means, rows, positions)
    if cpu_express.usable(base):
        return cpu_express.seen_colours(base, tint, means, rows, positions)
    chosen = base[rows]
    if tint is None:
        return chosen.clamp_min(0)
    along = torch.nn.functional.normalize(means[rows].detach() - positions[:, None], dim=-1, eps=1e-12)
    return (chosen + (tint[rows] * along[:, :, None]).sum(-1)).clamp_min(0)
