"""Occlusion of a surface that deforms: at each point harmonics of the sky it sees past the whole person, by the pose.

Lattices about rigid parts (probes.py) answer for any point, but their nodes are centimetres apart, their parts stiff. A
face needs millimetres, and its lips and lids move without a joint. Here every point keeps the 25 harmonics of
visibility in the axes of its own triangle, as a mean and a few directions of change: rays were cast from the surface in
poses of the recording, and what they met was fitted by a linear function of the principal directions of those poses.
Asking is cheaper than a lattice: no neighbours are looked up. It answers for its own points alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.lighting.harmonics import COSINE, COUNT, band_of, basis5
from avatars.lighting.latlong import pixel_directions, row_solid_angles
from avatars.lighting.probes import REACH_M

SOFT_BANDS = (1.0, 0.92, 0.72, 0.46, 0.21)
"""Against ringing where harmonics are evaluated in one direction (a raised cosine over bands)."""
LEAST_OPEN = 0.25
"""A direction below which an unhidden surface would see less of itself than this is not brought up to 1."""
RIDGE = 0.02
"""How strongly the fit holds changes small, relative to the spread of one pose."""


@dataclass(frozen=True, eq=False)
class SurfaceProbes:
    """N points, K directions of change. mean: [N, 25], changes: [K, N, 25], float16, in each point's own axes.

    centre: [D]; directions: [K, D], along which a driving vector minus the centre is measured; low, high: [K], what was
    baked: beyond it the surface looks as it did there.
    """

    mean: Tensor
    changes: Tensor
    centre: Tensor
    directions: Tensor
    low: Tensor
    high: Tensor

    def __len__(self) -> int:
        return len(self.mean)

    def to(self, device: torch.device | str) -> SurfaceProbes:
        """The same on another device."""
        return SurfaceProbes(*(getattr(self, name).to(device) for name in STORED))

    def kept(self, chosen: Tensor) -> SurfaceProbes:
        """Those of the points where `chosen` [N] bool is true (or of indices [M])."""
        return replace(self, mean=self.mean[chosen], changes=self.changes[:, chosen])

    def harmonics(self, driven: Tensor) -> Tensor:
        """[B, N, 25] in the points' own axes for driving vectors [B, D]."""
        along = (driven - self.centre) @ self.directions.T
        along = torch.minimum(torch.maximum(along, self.low), self.high)
        flat = torch.addmm(self.mean.float().reshape(1, -1), along, self.changes.float().flatten(1))
        return flat.view(len(driven), len(self), COUNT)

    def posed(self, driven: Tensor, world_from_local: Tensor) -> PosedSurfaceProbes:
        """In poses with driving vectors [B, D], in which the points' axes are the columns of [B, N, 3, 3]."""
        with torch.no_grad():
            return PosedSurfaceProbes(self.harmonics(driven), world_from_local)


STORED = ("mean", "changes", "centre", "directions", "low", "high")


@dataclass(frozen=True, eq=False)
class PosedSurfaceProbes:
    """Probes in B poses. harmonics: [B, N, 25] in local axes; world_from_local: [B, N, 3, 3], rotations."""

    harmonics: Tensor
    world_from_local: Tensor

    def moved(self, world_from_model: Tensor) -> PosedSurfaceProbes:
        """After the whole person was moved by [B, 4, 4], rigid with a uniform scale."""
        linear = world_from_model.to(self.world_from_local)[:, :3, :3]
        turn = linear / torch.linalg.det(linear)[:, None, None] ** (1 / 3)
        return replace(self, world_from_local=turn[:, None] @ self.world_from_local)

    @torch.no_grad()
    def visible(self, points: Tensor, normals: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Ambient [B, N, 1] for normals, and visibility [B, N, D] along directions [B, N, D, 3]; 0 hidden to 1 open.

        As `Occluders` says; no gradient passes, since shadows should not bend normals. Along a direction the answer is
        relative to what an even surface of that normal would say, or every grazing highlight would lose half.
        """
        del points  # each Gaussian has its own
        bands = list(band_of())
        shade = torch.tensor(COSINE).to(normals)[bands] / math.pi
        soft = torch.tensor(SOFT_BANDS).to(normals)[bands]
        local = normals.detach()[..., None, :] @ self.world_from_local  # [B, N, 1, 3]
        ambient = (self.harmonics * shade * basis5(local[..., 0, :])).sum(-1, keepdim=True)
        towards = directions.detach() @ self.world_from_local  # [B, N, D, 3]
        seen = torch.einsum("bnk,bndk->bnd", self.harmonics * soft, basis5(towards))
        level = half_space((directions.detach() * normals.detach()[..., None, :]).sum(-1)).clamp(min=LEAST_OPEN)
        return ambient.clamp(0, 1), (seen / level).clamp(0, 1)


def half_space(cosines: Tensor) -> Tensor:
    """What softened harmonics of an even, open surface say along directions at cosines [...] to its normal."""
    first, third = SOFT_BANDS[1] * 3 / 4, -SOFT_BANDS[3] * 7 / 16
    return 0.5 + first * cosines + third * (5 * cosines**3 - 3 * cosines) / 2


def cast(
    nodes: NDArray[np.floating],
    triangles: NDArray[np.floating],
    reach_m: float = REACH_M,
    *,
    distant: NDArray[np.floating] | None = None,
    near_m: float = math.inf,
) -> Tensor:
    """Harmonics [M, 25] float32, world axes, of what nodes [M, 3] m see past triangles [F, 3, 3] m.

    distant: [G, 3, 3] m, a coarser form of the same, taken in their place where they are near_m away or more.
    """
    from avatars.lighting import probe_kernels  # numba, for baking only
    from avatars.rendering import jit

    directions = pixel_directions(probe_kernels.ROWS, probe_kernels.COLUMNS)
    area = row_solid_angles(probe_kernels.ROWS, probe_kernels.COLUMNS)[:, None, None]
    weights = (basis5(directions) * area).reshape(-1, COUNT).numpy()
    out = np.empty((len(nodes), COUNT))
    windows = np.tile((0.0, near_m), (len(triangles), 1))
    if distant is not None:
        triangles = np.concatenate((triangles, distant))
        windows = np.concatenate((windows, np.tile((near_m, math.inf), (len(distant), 1))))
    jit.run(
        probe_kernels.bake,
        np.ascontiguousarray(nodes, np.float64),
        np.ascontiguousarray(triangles, np.float64),
        windows,
        reach_m,
        directions.numpy(),
        weights,
        out,
    )
    return torch.from_numpy(out).float()


def fitted(driven: Tensor, harmonics: Tensor, most: int) -> SurfaceProbes:
    """Probes that follow `harmonics` [M, N, 25] baked in poses with driving vectors [M, D], along `most` directions.

    The directions are the principal ones of the poses, scaled to a spread of 1; a ridge holds changes that few poses
    speak for small. One pose, or `most` 0, gives probes that do not change.
    """
    centre = driven.double().mean(0)
    spread = driven.double() - centre
    count = max(0, min(most, len(driven) - 2))
    _, strength, rows = torch.linalg.svd(spread, full_matrices=False)
    count = min(count, int((strength > 1e-4 * strength[:1].clamp(min=1e-12)).sum())) if len(driven) > 1 else 0
    sigma = strength[:count] / math.sqrt(max(len(driven), 1))
    directions = rows[:count] / sigma[:, None]
    along = spread @ directions.T  # [M, K], each column of spread 1
    mean = harmonics.mean(0)
    gram = along.T @ along + RIDGE * len(driven) * torch.eye(count, dtype=torch.float64)
    solve = torch.linalg.solve(gram, along.T).float()  # [K, M]; the columns have mean 0, so the mean stays as it is
    changes = (solve @ (harmonics - mean).flatten(1)).view(count, *mean.shape)
    low = along.min(0).values if count else along.new_zeros(0)
    high = along.max(0).values if count else along.new_zeros(0)
    rest = (centre, directions, low, high)
    return SurfaceProbes(mean.half(), changes.half(), *(values.float() for values in rest))
