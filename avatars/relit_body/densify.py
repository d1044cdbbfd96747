"""More surfels where they are missing: in gaps of the teacher's surface, and where pictures pull at those there are.

Those that faded are spare again. The number of slots is fixed, so optimiser and checkpoints go on as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from avatars.relit_body.initial import sampled
from avatars.relit_body.surfels import PARAMETERS, Surfels
from avatars.relit_body.teacher import TeacherPoints
from avatars.rendering.reference import rotation_from_quaternion

FAINT = 0.05
NEIGHBOURS = 10
AVERAGED = 3
GAP_M2, FAR_M2 = 3e-4, 1e-2
"""Mean squared distance of a surface point to its ten nearest surfels: a gap lies between the two (method page E.3)."""
TRIED = 20_000
GROWN_SHARE = 0.05
"""Of the living surfels, at most at once."""
WIDE_M, NARROWER = 0.01, 1.6
OFF_SURFACE_M = 0.05
"""A new surfel nearer than this to the teacher's surface is put on it."""
STRAY_M2 = 1e-3


@torch.no_grad()
def densify(surfels: Surfels, vertices: Tensor, faces: Tensor, seed: int) -> int:
    """Retire faint and broken surfels, put spare ones into gaps of a canonical mesh; returns how many were put.

    Nothing changes its shape, so optimiser and checkpoints go on as they are.
    """
    broken = torch.zeros_like(surfels.alive)
    for name in PARAMETERS:
        values = getattr(surfels, name)
        bad = ~torch.isfinite(values.reshape(len(surfels), -1)).all(-1)
        values[bad] = 0.0
        broken |= bad
    surfels.quats[broken, 0] = 1.0
    surfels.alive &= ~broken & (torch.sigmoid(surfels.opacities) >= FAINT)
    spare = (~surfels.alive).nonzero()[:, 0]
    living = surfels.alive.nonzero()[:, 0]
    if not len(spare) or len(living) < NEIGHBOURS:
        return 0
    generator = torch.Generator().manual_seed(seed)
    points, _ = sampled(vertices.cpu().float(), faces.cpu(), TRIED, generator)
    distance, near = cKDTree(surfels.positions[living].cpu().numpy()).query(points.numpy(), k=NEIGHBOURS)
    mean = (distance**2).mean(1)
    usual = float(np.median(mean))
    gaps = np.flatnonzero((mean > max(GAP_M2, 2.5 * usual)) & (mean < max(FAR_M2, 25 * usual)))[: len(spare)]
    if not len(gaps):
        return 0
    slots = spare[: len(gaps)]
    source = living[torch.from_numpy(near[gaps, :AVERAGED]).to(living.device)]
    for name in PARAMETERS:
        values = getattr(surfels, name)
        values[slots] = values[source].mean(1)
    surfels.quats[slots] = surfels.quats[source[:, 0]]  # quaternions of unlike turns have no mean
    new = points[torch.from_numpy(gaps)]
    surfels.positions[slots] = new.to(surfels.positions)
    skin = surfels.person.skin_of(new).to(surfels.positions.device)
    surfels.skin.joints[slots], surfels.skin.weights[slots] = skin.joints, skin.weights
    surfels.skin.expression_dirs[:, slots] = skin.expression_dirs
    surfels.alive[slots] = True
    return len(slots)


@torch.no_grad()
def grow(surfels: Surfels, pull: Tensor, least: float, surface: Callable[[Tensor], TeacherPoints], seed: int) -> int:
    """Put a second surfel beside each whose picture pulls at it, on the teacher's surface; returns how many.

    pull: [N] mean gradient by its place on the image (which is 2 wide), as 3D Gaussian splatting measures it; least:
    below it nothing grows. Wide surfels become two narrower ones. surface: the teacher's answer at points.
    """
    living = int(surfels.alive.sum())
    spare = (~surfels.alive).nonzero()[:, 0]
    wanted = torch.where(surfels.alive, pull, torch.zeros_like(pull))
    most = min(len(spare), max(1, int(GROWN_SHARE * living)), int((wanted > least).sum()))
    if most < 1:
        return 0
    source, slots = wanted.topk(most).indices, spare[:most]
    for name in PARAMETERS:
        values = getattr(surfels, name)
        values[slots] = values[source]
    wide = surfels.scales[source].amax(-1).exp() > WIDE_M
    for those in (source, slots):
        surfels.scales[those[wide]] -= math.log(NARROWER)
    drawn = torch.randn(most, 2, generator=torch.Generator().manual_seed(seed)).to(surfels.positions)
    axes = rotation_from_quaternion(surfels.quats[slots])[..., :2]
    places = surfels.positions[slots] + (axes @ (surfels.scales[slots].exp() * drawn)[..., None])[..., 0]
    known = surface(places)
    off = known.distance_m.to(places)
    near = (off.abs() < OFF_SURFACE_M)[:, None]
    surfels.positions[slots] = torch.where(near, places - off[:, None] * known.normals.to(places), places)
    skin = surfels.skin
    skin.joints[slots], skin.weights[slots] = skin.joints[source], skin.weights[source]
    skin.expression_dirs[:, slots] = skin.expression_dirs[:, source]
    surfels.alive[slots] = True
    return most


@torch.no_grad()
def stray(positions: Tensor, vertices: Tensor, faces: Tensor) -> Tensor:
    """Which of points [N, 3] float away from a mesh: mean squared distance to ten points on it above STRAY_M2, [N]."""
    points, _ = sampled(vertices.cpu().float(), faces.cpu(), TRIED, torch.Generator().manual_seed(0))
    distance = cKDTree(points.numpy()).query(positions.detach().cpu().numpy(), k=NEIGHBOURS)[0]
    return torch.from_numpy((distance**2).mean(1) > STRAY_M2).to(positions.device)
