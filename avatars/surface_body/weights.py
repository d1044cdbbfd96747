"""Learned skinning everywhere: the template's weights in the canonical box times what a coarse grid has learned."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from avatars.surface_body.body import StarBody
from avatars.surface_body.trilinear import Lattice, trilinear

LEAST = 1e-6
"""Of a joint's weight, so that it can be learned where the template has none."""
SHALLOW = 4


class SkinWeights(Protocol):
    """What the deformation asks of skinning."""

    lattice: Lattice

    def prepare(self, seed: int) -> None:
        """Once before training: come near the template's weights, where that is asked for."""

    def rows(self) -> Tensor:
        """Weights [N, J] on the nodes of `lattice`, rows summing to 1, differentiable."""

    def at(self, places: Tensor) -> Tensor:
        """Weights [P, J] at canonical places [P, 3] m."""

    def penalty(self) -> Tensor:
        """How far they have left the template's: one number."""


class GridWeights(nn.Module):
    """softmax(log of the template's weights + residual), the residual trilinear on a coarser grid and smooth."""

    logits: Tensor

    def __init__(self, body: StarBody) -> None:
        super().__init__()
        base = body.weights  # [1, J, Z, Y, X]
        self.register_buffer("logits", base.clamp_min(LEAST).log(), persistent=False)
        shape = base.shape[:1:-1]
        spacing = ((body.high - body.low).cpu().double().numpy()) / (np.array(shape) - 1)
        self.lattice = Lattice.over(body.low.cpu().double().numpy(), spacing, shape, body.device)
        side = body.config.deformation.residual_cells
        sides = (side, max(2, side // SHALLOW), side)
        self.residual = nn.Parameter(torch.zeros(1, base.shape[1], *sides, device=body.device))

    def prepare(self, seed: int) -> None:
        """They are the template's already."""

    def rows(self) -> Tensor:
        """Weights [N, J] on the nodes of `lattice`, rows summing to 1, differentiable."""
        learned = interpolate(self.residual, size=self.logits.shape[2:], mode="trilinear", align_corners=True)
        return torch.softmax((self.logits + learned)[0].flatten(1), 0).T

    def at(self, places: Tensor) -> Tensor:
        """Weights [P, J] at canonical places [P, 3] m."""
        found = trilinear(self.rows(), self.lattice, places)[0]
        return found / found.sum(-1, keepdim=True).clamp_min(1e-9)

    def penalty(self) -> Tensor:
        """Mean square of the residual and of its steps between neighbouring nodes."""
        steps = [self.residual.diff(dim=axis).square().mean() for axis in (2, 3, 4)]
        return self.residual.square().mean() + torch.stack(steps).sum()
