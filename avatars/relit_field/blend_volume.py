"""Blended transforms of one pose everywhere in the canonical box. Trilinear weights times transforms are trilinear
transforms, so 12 numbers a voxel serve in place of a weight for each joint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avatars.relit_field import cpu_roots, cuda_roots

CORNERS = tuple((x, y, z) for z in (0, 1) for y in (0, 1) for x in (0, 1))


@dataclass(frozen=True, eq=False)
class BlendVolume:
    """rows: [Z*Y*X, 12] posed-from-canonical transforms, row-major 3 x 4; shape: voxels along x, y and z; the first and
    last voxel lie on low and high ([3] m); trilinear between, the nearest place in the box counts outside."""

    rows: Tensor
    shape: tuple[int, int, int]
    low: Tensor
    per_m: Tensor

    def at(self, places: Tensor) -> Tensor:
        """Blended transforms [P, 3, 4] at canonical places [P, 3] m. Without gradients."""
        kernels = next((module for module in (cuda_roots, cpu_roots) if module.usable(places)), None)
        return self.at_plainly(places) if kernels is None else kernels.blended(places.detach(), self)

    def at_plainly(self, places: Tensor) -> Tensor:
        """What `at` gives, in plain torch: the reference it is tested against."""
        top = torch.tensor(self.shape, device=places.device) - 1
        scaled = torch.minimum(((places.detach() - self.low) * self.per_m).clamp_min(0), top.to(places))
        cell = torch.minimum(scaled.long(), top - 1)
        share = scaled - cell
        x, y, z = cell.unbind(-1)
        found = self.rows.new_zeros(len(places), 12)
        for a, b, c in CORNERS:
            row = ((z + c) * self.shape[1] + y + b) * self.shape[0] + x + a
            weight = _part(share[:, 0], a) * _part(share[:, 1], b) * _part(share[:, 2], c)
            found = found + weight[:, None] * self.rows[row]
        return found.view(-1, 3, 4)

    def skinned(self, places: Tensor) -> Tensor:
        """Posed places [P, 3] of canonical ones."""
        blended = self.at(places)
        return (blended[..., :3] @ places[..., None])[..., 0] + blended[..., 3]

    def numbers(self) -> tuple[Any, Any, Any]:
        """low, per_m and shape as arrays for the compiled kernel."""
        return self.low.numpy(), self.per_m.numpy(), np.array(self.shape)


def _part(share: Tensor, end: int) -> Tensor:
    return share if end else 1 - share
