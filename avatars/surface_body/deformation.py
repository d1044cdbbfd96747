"""From posed to canonical places by fixed-point steps on blended transforms (method page 5 and 12.3).

x = B(y) y, so y <- B(y)^-1 x. Only the last step carries gradients: to the blended transforms, and through them to the
skinning and to the pose. Where parts touch there is more than one root: every start is followed, the innermost counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avatars.surface_body.base_distance import DistanceGrid
from avatars.surface_body.trilinear import Lattice, trilinear

STRAYED_M = 0.03
"""A root that still moves so far in a step is none."""


@dataclass(frozen=True, eq=False)
class Blends:
    """Transforms everywhere in the box for B poses. rows: [B * N, 12] posed from canonical (3 x 4), N nodes each."""

    rows: Tensor
    lattice: Lattice

    def at(self, places: Tensor, pose: Tensor) -> Tensor:
        """Blended transforms [P, 12] at canonical places [P, 3] m of poses [P] int64."""
        return trilinear(self.rows, self.lattice, places, offset=pose * self.lattice.nodes)[0]


@dataclass(frozen=True, eq=False)
class Unposed:
    """canonical: [P, 3] m; back: [P, 3, 3] linear part, canonical from posed; moved_m: [P] the last step's length."""

    canonical: Tensor
    back: Tensor
    moved_m: Tensor


def blends_of(weights: Tensor, lattice: Lattice, transforms: Tensor) -> Blends:
    """Of weights [N, J] on a lattice and transforms [B, J, 3, 4]; differentiable in both."""
    rows = torch.einsum("nj,bjc->bnc", weights, transforms.flatten(2))
    return Blends(rows.reshape(-1, 12), lattice)


def first_guesses(places: Tensor, back: Tensor, starts: Tensor) -> Tensor:
    """Canonical places [P, K, 3] of posed ones [P, 3] by one body part's transform each: rows [P, K] of back
    [N, 3, 4]."""
    chosen = back[starts]
    return (chosen[..., :3] * places[:, None, None]).sum(-1) + chosen[..., 3]


def unposed(
    places: Tensor, pose: Tensor, guesses: Tensor, blends: Blends, base: DistanceGrid, iterations: int
) -> Unposed:
    """Canonical places of posed ones [P, 3] in poses [P], from guesses [P, K, 3]; gradients reach `blends`."""
    count, each = guesses.shape[:2]
    with torch.no_grad():
        wanted = places[:, None].expand(-1, each, -1).reshape(-1, 3)
        which = pose[:, None].expand(-1, each).reshape(-1)
        before = place = guesses.reshape(-1, 3)
        for _ in range(iterations - 1 if each == 1 else iterations):
            before, place = place, inverse_applied(blends.at(place, which), wanted)[0]
        if each > 1:
            moved = (place - before).norm(dim=-1)
            score = base.at(place) + 10.0 * (moved > STRAYED_M)
            best = score.view(count, each).argmin(1)
            place = before.view(count, each, 3)[torch.arange(count, device=best.device), best]
    canonical, back = inverse_applied(blends.at(place, pose), places)
    return Unposed(canonical, back, (canonical.detach() - place).norm(dim=-1))


def inverse_applied(rows: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Places [P, 3] taken back through affine transforms rows [P, 12], and the inverse linear parts [P, 3, 3].

    A flat transform counts as its transpose would.
    """
    linear, shift = rows.view(-1, 3, 4)[..., :3], rows.view(-1, 3, 4)[..., 3]
    a, b, c = linear.unbind(1)
    columns = torch.stack((torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)), -1)
    determinant = (a * columns[..., 0]).sum(-1)[:, None, None]
    flat = determinant.abs() < 1e-4
    back = torch.where(
        flat, linear.transpose(1, 2), columns / torch.where(flat, torch.ones_like(determinant), determinant)
    )
    return (back * (places - shift)[:, None]).sum(-1), back
