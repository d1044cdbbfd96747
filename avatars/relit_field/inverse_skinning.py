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

from avatars.relit_field.settings import ArticulationSettings
from avatars.relit_field.skinning_volume import SkinningVolume

PART_JOINTS = (
    *("pelvis", "left_hip", "right_hip", "left_knee", "right_knee", "head", "left_shoulder", "right_shoulder"),
    *("left_elbow", "right_elbow", "left_wrist", "right_wrist"),
)
FAR_M = 1e3


@dataclass(frozen=True, eq=False)
class Roots:
    """Canonical candidates [P, K, 3] m of P posed places, and which are real [P, K] bool, duplicates left out."""

    places: Tensor
    real: Tensor


@dataclass(frozen=True, eq=False)
class Guide:
    """A posed template's vertices by part, looked up through a grid.

    nearest: [G*G*G, parts] index into the vertices; distance_m: the same, from the voxel's centre; low, cell_m: [3] m.
    inverse: [N, 3, 4] canonical from posed at each vertex; points: [N, 3] m.
    """

    nearest: Tensor
    distance_m: Tensor
    low: Tensor
    high: Tensor
    side: int
    inverse: Tensor

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
        return inside & (self.distance_m.amin(1)[row] <= reach_m + slack)


def part_of_joints(joint_names: Sequence[str], parents: Sequence[int]) -> list[int]:
    """The part, numbered from 0 without gaps, that each joint belongs to: its nearest ancestor among PART_JOINTS."""
    owner: list[int] = []
    for joint, name in enumerate(joint_names):
        owner.append(joint if name in PART_JOINTS or parents[joint] < 0 else owner[parents[joint]])
    known = sorted(set(owner))
    return [known.index(joint) for joint in owner]


def make_guide(vertices: Tensor, part: Tensor, transforms: Tensor, low: Tensor, high: Tensor, side: int) -> Guide:
    """The guide of posed vertices [N, 3] m with their part [N] int64 and transforms [N, 3, 4] posed from canonical."""
    steps = (torch.arange(side, device=vertices.device) + 0.5) / side
    centres = torch.cartesian_prod(steps, steps, steps) * (high - low) + low
    parts = int(part.max()) + 1
    nearest = torch.zeros(len(centres), parts, dtype=torch.int64, device=vertices.device)
    distance = torch.full((len(centres), parts), FAR_M, device=vertices.device, dtype=vertices.dtype)
    for number in range(parts):
        members = torch.nonzero(part == number)[:, 0]
        if not len(members):
            continue
        for begun in range(0, len(centres), 1 << 16):
            some = slice(begun, begun + (1 << 16))
            found = torch.cdist(centres[some], vertices[members]).min(1)
            nearest[some, number], distance[some, number] = members[found.indices], found.values
    return Guide(nearest, distance, low, high, side, inverse_affine(transforms))


def inverse_affine(transforms: Tensor) -> Tensor:
    """Inverse [..., 3, 4] of affine transforms [..., 3, 4]; one that cannot be inverted gives its transpose instead."""
    linear = transforms[..., :3]
    determinant = torch.linalg.det(linear)
    usable = determinant.abs() > 1e-4
    eye = torch.eye(3, device=linear.device, dtype=linear.dtype)
    back = torch.linalg.inv(torch.where(usable[..., None, None], linear, eye))
    back = torch.where(usable[..., None, None], back, linear.transpose(-1, -2))
    return torch.cat((back, -(back @ transforms[..., 3:])), -1)


def canonical_roots(
    places: Tensor, volume: SkinningVolume, transforms: Tensor, guide: Guide, settings: ArticulationSettings
) -> Roots:
    """Canonical candidates of posed places [P, 3] m; transforms: [J, 3, 4] posed from canonical. Without gradients."""
    with torch.no_grad():
        row, _ = guide.rows(places)
        count = min(settings.parts, guide.nearest.shape[1])
        best = guide.distance_m[row].topk(count, largest=False)
        start = guide.inverse[guide.nearest[row].gather(1, best.indices)]  # [P, K, 3, 4]
        wanted = places[:, None].expand(-1, count, -1)
        first = (start[..., :3] @ wanted[..., None])[..., 0] + start[..., 3]
        found, missed = broyden(first.flatten(0, 1), wanted.flatten(0, 1), volume, transforms, settings)
        found, missed = found.view(-1, count, 3), missed.view(-1, count)
        real = missed < settings.accepted_m
        for one in range(1, count):
            for other in range(one):
                same = (found[:, one] - found[:, other]).norm(dim=-1) < 2 * settings.accepted_m
                real[:, one] &= ~(same & real[:, other])
        return Roots(found, real)


def broyden(
    start: Tensor, wanted: Tensor, volume: SkinningVolume, transforms: Tensor, settings: ArticulationSettings
) -> tuple[Tensor, Tensor]:
    """Canonical places [M, 3] whose skinned places are `wanted` [M, 3], from `start`, and by how much off [M] m."""
    place = start
    back = inverse_affine(volume.blended(place, transforms))[..., :3]
    off = volume.skinned(place, transforms) - wanted
    best, error = place, off.norm(dim=-1)
    for _ in range(settings.iterations):
        if not len(place) or float(error.max()) < settings.converged_m:
            break
        step = -(back @ off[..., None])[..., 0]
        step = step * (0.2 / step.norm(dim=-1, keepdim=True).clamp_min(1e-12)).clamp(max=1)
        place = place + step
        new_off = volume.skinned(place, transforms) - wanted
        change = (back @ (new_off - off)[..., None])[..., 0]
        along = (step[:, None] @ back)[:, 0]
        divisor = (step * change).sum(-1, keepdim=True)
        divisor = torch.where(divisor.abs() < 1e-12, torch.full_like(divisor, 1e-12), divisor)
        back = back + ((step - change) / divisor)[..., None] * along[:, None]
        off = new_off
        now = off.norm(dim=-1)
        better = now < error
        best, error = torch.where(better[:, None], place, best), torch.where(better, now, error)
    return best, error
