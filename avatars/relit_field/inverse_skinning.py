"""From posed to canonical places: starts at the nearest body parts, then Broyden's method on linear blend skinning.

Source: Chen et al., "Fast-SNARF" (2023). Its starts are 13 bones; here they are the nearest vertices of the nearest
parts of the posed template, which are fewer and better. Several roots may exist where parts touch: the caller keeps the
innermost one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from avatars.relit_field import cpu_roots, cuda_roots
from avatars.relit_field.blend_volume import BlendVolume
from avatars.relit_field.settings import ArticulationSettings
from avatars.skinning.affine import inverse_affine

PART_JOINTS = (
    *("pelvis", "left_hip", "right_hip", "left_knee", "right_knee", "head", "left_shoulder", "right_shoulder"),
    *("left_elbow", "right_elbow", "left_wrist", "right_wrist"),
)


@dataclass(frozen=True, eq=False)
class Roots:
    """Canonical candidates [P, K, 3] m of P posed places, and which are real [P, K] bool, duplicates left out."""

    places: Tensor
    real: Tensor


@dataclass(frozen=True, eq=False)
class Guide:
    """A posed template's vertices by part, looked up through a grid over the box low..high ([3] m).

    starts: [G*G*G, K] int32, the nearest vertex of each of the K nearest parts; closest_m: [G*G*G] how far the nearest
    of all is; both from the voxel's centre.
    """

    starts: Tensor
    closest_m: Tensor
    low: Tensor
    high: Tensor
    side: int

    def cell_m(self) -> Tensor:
        """[3] m of a voxel."""
        return (self.high - self.low) / self.side

    def rows(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Row of the grid [P] of posed places [P, 3], and whether they lie in it [P] bool."""
        index = ((places - self.low) / self.cell_m()).floor().long()
        inside = ((index >= 0) & (index < self.side)).all(-1)
        index = index.clamp(0, self.side - 1)
        return (index[:, 0] * self.side + index[:, 1]) * self.side + index[:, 2], inside

    def near(self, places: Tensor, reach_m: float) -> Tensor:
        """[P] bool: places that may lie within reach_m of the template (never wrongly excluded)."""
        row, inside = self.rows(places)
        slack = 0.5 * self.cell_m().norm()
        return inside & (self.closest_m[row] <= reach_m + slack)


def part_of_joints(joint_names: Sequence[str], parents: Sequence[int]) -> list[int]:
    """The part, numbered from 0 without gaps, that each joint belongs to: its nearest ancestor among PART_JOINTS."""
    owner: list[int] = []
    for joint, name in enumerate(joint_names):
        owner.append(joint if name in PART_JOINTS or parents[joint] < 0 else owner[parents[joint]])
    known = sorted(set(owner))
    return [known.index(joint) for joint in owner]


def make_guide(vertices: Tensor, members: Sequence[Tensor], low: Tensor, high: Tensor, side: int, each: int) -> Guide:
    """The guide of posed vertices [N, 3] m, of which each part has `members` [n] int64; `each` starts a voxel."""
    steps = (torch.arange(side, device=vertices.device) + 0.5) / side
    centres = torch.cartesian_prod(steps, steps, steps) * (high - low) + low
    nearest = torch.empty(len(centres), len(members), dtype=torch.int64, device=vertices.device)
    distance = vertices.new_empty(len(centres), len(members))
    for number, part in enumerate(members):
        for some in torch.arange(len(centres), device=vertices.device).split(1 << 16):
            found = torch.cdist(centres[some], vertices[part]).min(1)
            nearest[some, number], distance[some, number] = part[found.indices], found.values
    best = distance.topk(min(each, len(members)), largest=False)
    return Guide(nearest.gather(1, best.indices).int(), best.values[:, 0].contiguous(), low, high, side)


def canonical_roots(
    places: Tensor, volume: BlendVolume, inverse: Tensor, guide: Guide, settings: ArticulationSettings
) -> Roots:
    """Canonical candidates of posed places [P, 3] m. inverse: [N, 3, 4] canonical from posed at the guide's vertices.

    Without gradients.
    """
    with torch.no_grad():
        row, _ = guide.rows(places)
        starts = guide.starts[row]
        kernels = next((module for module in (cuda_roots, cpu_roots) if module.usable(places)), None)
        found, missed = (roots_plainly if kernels is None else kernels.roots)(places, starts, inverse, volume, settings)
        real = missed < settings.accepted_m
        for one in range(1, starts.shape[1]):
            for other in range(one):
                same = (found[:, one] - found[:, other]).square().sum(-1) < (2 * settings.accepted_m) ** 2
                real[:, one] &= ~(same & real[:, other])
        return Roots(found, real)


def roots_plainly(
    places: Tensor, starts: Tensor, inverse: Tensor, volume: BlendVolume, settings: ArticulationSettings
) -> tuple[Tensor, Tensor]:
    """Canonical places [P, K, 3] whose skinned places are places [P, 3], by Broyden's method from K starts each (rows
    [P, K] of `inverse` [N, 3, 4] canonical from posed), and by how much they miss them [P, K] m."""
    count = starts.shape[1]
    start = inverse[starts.long()]  # [P, K, 3, 4]
    wanted = places[:, None].expand(-1, count, -1)
    first = (start[..., :3] @ wanted[..., None])[..., 0] + start[..., 3]
    found, missed = broyden(first.flatten(0, 1), wanted.flatten(0, 1), volume, settings)
    return found.view(-1, count, 3), missed.view(-1, count)


def broyden(
    start: Tensor, wanted: Tensor, volume: BlendVolume, settings: ArticulationSettings
) -> tuple[Tensor, Tensor]:
    """Canonical places [M, 3] whose skinned places are `wanted` [M, 3], from `start`, and by how much off [M] m."""
    place = start
    back = inverse_affine(volume.at(place))[..., :3]
    off = volume.skinned(place) - wanted
    best, error = place, off.norm(dim=-1)
    for _ in range(settings.iterations):
        going = (error >= settings.converged_m)[:, None]
        step = -(back @ off[..., None])[..., 0]
        step = step * (0.2 / step.norm(dim=-1, keepdim=True).clamp_min(1e-12)).clamp(max=1)
        place = torch.where(going, place + step, place)
        new_off = volume.skinned(place) - wanted
        change = (back @ (new_off - off)[..., None])[..., 0]
        along = (step[:, None] @ back)[:, 0]
        divisor = (step * change).sum(-1, keepdim=True)
        divisor = torch.where(divisor.abs() < 1e-12, torch.full_like(divisor, 1e-12), divisor)
        back = torch.where(going[..., None], back + ((step - change) / divisor)[..., None] * along[:, None], back)
        off = new_off
        now = off.norm(dim=-1)
        better = now < error
        best, error = torch.where(better[:, None], place, best), torch.where(better, now, error)
    return best, error
