"""From posed to canonical places by fixed-point steps on blended transforms (method page 5 and 12.3).

x = B(y) y, so y <- B(y)^-1 x. Only the last step carries gradients: to the blended transforms, and through them to the
skinning and to the pose. Where parts touch there is more than one root: every start is followed, the innermost counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatars.skinning.affine import inverse_applied
from avatars.surface_body.base_distance import DistanceGrid
from avatars.surface_body.trilinear import Lattice, between, between_plainly, into_table, kernels_for, trilinear

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
    offset = pose * blends.lattice.nodes
    with torch.no_grad():
        last = iterations if each > 1 else iterations - 1
        found, before = settle(blends.rows.detach(), blends.lattice, offset, places, guesses, last)
        place = found[:, 0]
        if each > 1:
            score = base.at(found.flatten(0, 1)).view(count, each)
            score = score + 10.0 * ((found - before).norm(dim=-1) > STRAYED_M)
            best = score.argmin(1)
            place = before.gather(1, best[:, None, None].expand(-1, 1, 3))[:, 0]
    canonical, back = _LastStep.apply(blends.rows, blends.lattice, place, offset, places)
    return Unposed(canonical, back, (canonical.detach() - place).norm(dim=-1))


def settle(
    rows: Tensor, lattice: Lattice, offset: Tensor, wanted: Tensor, guesses: Tensor, iterations: int
) -> tuple[Tensor, Tensor]:
    """Fixed-point steps from guesses [P, K, 3] towards posed places wanted [P, 3], by rows that begin at offset [P]:
    the last places and those one step before, [P, K, 3]. Without gradients."""
    kernels = kernels_for(rows)
    if kernels is not None:
        return kernels.settle(rows, lattice, offset, wanted, guesses, iterations)  # type: ignore[no-any-return]
    return settle_plainly(rows, lattice, offset, wanted, guesses, iterations)


def settle_plainly(
    rows: Tensor, lattice: Lattice, offset: Tensor, wanted: Tensor, guesses: Tensor, iterations: int
) -> tuple[Tensor, Tensor]:
    """The same in plain torch: the reference that kernels are tested against."""
    each = guesses.shape[1]
    goal, begun = wanted.repeat_interleave(each, 0), offset.repeat_interleave(each)
    before = place = guesses.reshape(-1, 3)
    for _ in range(iterations):
        blended, _ = between_plainly(rows, lattice, place, begun, False)
        before, place = place, inverse_applied(blended, goal)[0]
    return place.view(guesses.shape), before.view(guesses.shape)


class _LastStep(torch.autograd.Function):
    """y = A(at)^-1 (x - t(at)) and A^-1, for blended transforms (A, t); dy = -A^-1 (dA y + dt) reaches the rows."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, lattice: Lattice, at: Tensor, offset: Tensor, places: Tensor
    ) -> tuple[Tensor, Tensor]:
        blended, _ = between(rows, lattice, at, offset, False)
        found, back = inverse_applied(blended, places)
        ctx.save_for_backward(found, back, at, offset)
        ctx.lattice, ctx.count = lattice, len(rows)
        ctx.mark_non_differentiable(back)
        return found, back

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, by_found: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        found, back, at, offset = ctx.saved_tensors
        pulled = -(back * by_found[:, :, None]).sum(1)  # A^-T g
        ends = torch.cat((found, torch.ones_like(found[:, :1])), -1)
        by_blended = (pulled[:, :, None] * ends[:, None]).flatten(1)
        return into_table(by_blended, ctx.lattice, at, offset, ctx.count), None, None, None, None
