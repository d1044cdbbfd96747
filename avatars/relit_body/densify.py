"""Filling gaps: spare surfels are put where the teacher's surface has none near; those that faded are spare again."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from avatars.relit_body.initial import sampled
from avatars.relit_body.surfels import PARAMETERS, Surfels

FAINT = 0.05
NEIGHBOURS = 10
AVERAGED = 3
GAP_M2, FAR_M2 = 3e-4, 1e-2
"""Mean squared distance of a surface point to its ten nearest surfels: a gap lies between the two (method page E.3)."""
TRIED = 20_000


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
