"""Distances of one pose on a lattice: what lies in a ray's way is asked of it, not of the fields, many times a pixel.

Made once a pose from the canonical field; kernels of numba and Triton walk rays through it, `blocked_plainly` and
`spans_plainly` are what both are tested against. Nothing here is differentiated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from avatars.relit_field import cpu_walk, cuda_walk
from avatars.relit_field.fields import laplace_density

if TYPE_CHECKING:
    from avatars.relit_field.body import PosedBody
    from avatars.relit_field.march import Person

POINTS_AT_ONCE = {"cpu": 1 << 17, "cuda": 1 << 21}
CAREFUL = 0.8
"""Steps are this much of the distance, which skinning bends a little."""
MOST_STEPS = 512
INNER_SAMPLES = 8
"""So many densities are summed over the span in which a ray enters the person."""
OPAQUE_BETAS = 8.0
"""What is deeper than so many widths of the density lets no light through; what is farther has none."""


@dataclass(frozen=True, eq=False)
class PosedDistance:
    """values: [Z, Y, X] m, negative inside, on nodes cell_m apart, the first of which is at low [3] m (posed axes).

    beta_m: width of the density at the surface. Where nothing can be, values are smaller than the distance, not larger.
    """

    values: Tensor
    low: Tensor
    cell_m: float
    beta_m: float

    @property
    def high(self) -> Tensor:
        """[3] m, the last node."""
        return self.low + self.cell_m * (torch.tensor(self.values.shape, device=self.low.device).flip(0) - 1)

    def at(self, places: Tensor) -> Tensor:
        """Distances [P] m at places [P, 3], trilinear; beyond the lattice as on its side."""
        shape = self.values.shape
        top = torch.tensor(shape, device=places.device).flip(0) - 1
        scaled = torch.minimum(((places - self.low) / self.cell_m).clamp_min(0), top.to(places))
        cell = torch.minimum(scaled.long(), top - 1)
        share = scaled - cell
        flat, total = self.values.view(-1), 0.0
        for corner in range(8):
            bits = torch.tensor((corner & 1, (corner >> 1) & 1, corner >> 2), device=places.device)
            x, y, z = (cell + bits).unbind(-1)
            weight = torch.where(bits.bool(), share, 1 - share).prod(-1)
            total = total + weight * flat[(z * shape[1] + y) * shape[2] + x]
        return total  # type: ignore[return-value]

    def blocked(self, origins: Tensor, directions: Tensor, start_m: float, far_m: float, span_m: float) -> Blocked:
        """What of the light that comes along rays [N, 3] (unit) arrives. A ray that begins inside must leave first.

        start_m: how far off a ray begins; far_m: how far it looks; span_m: density is summed so far about the place
        where it first goes in.
        """
        kernels = next((module for module in (cuda_walk, cpu_walk) if module.usable(origins)), None)
        numbers = (start_m, far_m, span_m)
        if kernels is None:
            return self.blocked_plainly(origins, directions, *numbers)
        return Blocked(*kernels.blocked(self, origins, directions, *numbers))

    def spans(self, origins: Tensor, directions: Tensor, near_m: Tensor, far_m: Tensor) -> tuple[Tensor, Tensor]:
        """The part of each ray that can be seen: from near_m [N] to far_m [N], where density begins and where nothing
        behind shows any more; the end is not beyond the beginning where there is no such part."""
        kernels = next((module for module in (cuda_walk, cpu_walk) if module.usable(origins)), None)
        if kernels is None:
            return self.spans_plainly(origins, directions, near_m, far_m)
        return kernels.spans(self, origins, directions, near_m, far_m)

    def reach_m(self) -> tuple[float, float]:
        """How far outside density begins, and how deep inside nothing shows any more."""
        return OPAQUE_BETAS * self.beta_m + 1.5 * self.cell_m, OPAQUE_BETAS * self.beta_m + self.cell_m

    def blocked_plainly(
        self, origins: Tensor, directions: Tensor, start_m: float, far_m: float, span_m: float
    ) -> Blocked:
        """What `blocked` gives, in plain torch."""
        count = len(origins)
        t = origins.new_full((count,), start_m)
        before_t, before = t.clone(), origins.new_full((count,), -1.0)
        hit = origins.new_full((count,), far_m)
        going = torch.ones(count, dtype=torch.bool, device=origins.device)
        found = torch.zeros_like(going)
        for _ in range(MOST_STEPS):
            if not bool(going.any()):
                break
            place = origins + t[:, None] * directions
            going = going & (t < far_m) & ~self._gone(place, directions)
            distance = self.at(place)
            enters = going & (before > 0) & (distance <= 0)
            share = before / (before - distance).clamp_min(1e-9)
            hit = torch.where(enters, before_t + share * (t - before_t), hit)
            found, going = found | enters, going & ~enters
            before_t, before = torch.where(going, t, before_t), torch.where(going, distance, before)
            step = (CAREFUL * distance.abs()).clamp_min(0.5 * self.cell_m)
            t = torch.where(going, t + step, t)
        width = span_m / INNER_SAMPLES
        inner = hit[:, None] + span_m * ((torch.arange(INNER_SAMPLES, device=t.device) + 0.5) / INNER_SAMPLES - 0.25)
        near = self.at((origins[:, None] + inner[..., None] * directions[:, None]).flatten(0, 1)).view(count, -1)
        optical = (laplace_density(near, torch.tensor(self.beta_m, device=t.device)) * width).sum(1)
        return Blocked(torch.where(found, torch.exp(-optical), torch.ones_like(t)), hit)

    def spans_plainly(
        self, origins: Tensor, directions: Tensor, near_m: Tensor, far_m: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What `spans` gives, in plain torch."""
        reach, deep = self.reach_m()
        t, begun, ended = near_m.clone(), torch.full_like(near_m, torch.inf), torch.full_like(near_m, -torch.inf)
        going = t < far_m
        for _ in range(MOST_STEPS):
            if not bool(going.any()):
                break
            distance = self.at(origins + t[:, None] * directions)
            close = going & (distance < reach)
            begun = torch.where(close & (t < begun), t, begun)
            ended = torch.where(close, t, ended)
            step = torch.where(close, self.cell_m, (CAREFUL * (distance - reach)).clamp_min(0.5 * self.cell_m))
            going = going & ~(distance < -deep)
            t = torch.where(going, t + step, t)
            going = going & (t < far_m)
        return torch.maximum(begun - self.cell_m, near_m), torch.minimum(ended + self.cell_m, far_m)

    def _gone(self, places: Tensor, directions: Tensor) -> Tensor:
        """[N] bool: beyond the lattice and going away from it."""
        over = ((places > self.high) & (directions >= 0)) | ((places < self.low) & (directions <= 0))
        return over.any(-1)


@dataclass(frozen=True, eq=False)
class Blocked:
    """passed: [N] in 0..1 of the light; where_m: [N] where the ray first enters the person, far_m where it does not."""

    passed: Tensor
    where_m: Tensor


def posed_distance(person: Person, pose: PosedBody, levels: int | None, cell_m: float) -> PosedDistance:
    """The lattice of a pose, over the box in which the person can be."""
    with torch.no_grad():
        low = pose.guide.low
        shape = [max(2, int(side) + 2) for side in ((pose.guide.high - low) / cell_m).tolist()]
        # Whoever asks again in the same pose must get the same numbers, so nodes depend on the box alone.
        axes = [low[axis] + cell_m * torch.arange(shape[axis], device=low.device) for axis in range(3)]
        total = shape[0] * shape[1] * shape[2]
        values = low.new_empty(total)
        slab = max(1, POINTS_AT_ONCE[low.device.type] // (shape[0] * shape[1]))
        settings = person.body.settings
        for begun in range(0, shape[2], slab):
            z, y, x = torch.meshgrid(axes[2][begun : begun + slab], axes[1], axes[0], indexing="ij")
            places = torch.stack((x, y, z), -1).view(-1, 3)
            row, _ = pose.guide.rows(places)
            slack = 0.5 * pose.guide.cell_m().norm()
            far = pose.guide.closest_m[row] - slack - settings.near_template_m
            near = torch.nonzero(far <= 0)[:, 0]
            some = far.clamp_min(cell_m)
            canonical, ok = person.body.canonical(pose, places[near], person.fields, levels)
            ok = ok & person.occupancy.filled(person.fields, canonical)
            some[near[ok]] = person.fields.distance(canonical[ok], levels)[0]
            values[begun * shape[0] * shape[1] : begun * shape[0] * shape[1] + len(some)] = some
        beta_m = float(person.fields.beta_m())
    return PosedDistance(values.view(shape[2], shape[1], shape[0]), low.contiguous(), cell_m, beta_m)
