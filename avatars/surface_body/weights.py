"""Learned skinning everywhere: the template's weights in the canonical box times what a coarse grid has learned."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

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
    """softmax(log of the template's weights + residual), the residual trilinear on a coarser grid and smooth.

    Only nodes that a sample can lie beside are learned, which are few.
    """

    logits: Tensor
    fixed: Tensor
    near: Tensor
    places: Tensor

    def __init__(self, body: StarBody) -> None:
        super().__init__()
        shape = body.weights.shape[:1:-1]  # of [1, J, Z, Y, X]
        rows = body.weights[0].flatten(1).T.clamp_min(LEAST)
        self.register_buffer("fixed", (rows / rows.sum(1, keepdim=True)).contiguous(), persistent=False)
        spacing = ((body.high - body.low).cpu().double().numpy()) / (np.array(shape) - 1)
        self.lattice = Lattice.over(body.low.cpu().double().numpy(), spacing, shape, body.device)
        places = self.lattice.places()
        reach = body.config.sampling.shell_m + float(np.linalg.norm(spacing))
        self.register_buffer("near", torch.nonzero(body.base.at(places) < reach)[:, 0], persistent=False)
        self.register_buffer("places", places[self.near], persistent=False)
        self.register_buffer("logits", self.fixed[self.near].log(), persistent=False)
        side = body.config.deformation.residual_cells
        sides = (side, max(2, side // SHALLOW), side)
        coarse = (body.high - body.low).cpu().double().numpy() / (np.array(sides) - 1)
        self.coarse = Lattice.over(body.low.cpu().double().numpy(), coarse, sides, body.device)
        self.residual = nn.Parameter(torch.zeros(1, rows.shape[1], *sides[::-1], device=body.device))

    def prepare(self, seed: int) -> None:
        """They are the template's already."""

    def rows(self) -> Tensor:
        """Weights [N, J] on the nodes of `lattice`, rows summing to 1, differentiable."""
        learned = trilinear(self.residual[0].flatten(1).T.contiguous(), self.coarse, self.places)[0]
        return self.fixed.index_copy(0, self.near, torch.softmax(self.logits + learned, 1))

    def at(self, places: Tensor) -> Tensor:
        """Weights [P, J] at canonical places [P, 3] m."""
        found = trilinear(self.rows(), self.lattice, places)[0]
        return found / found.sum(-1, keepdim=True).clamp_min(1e-9)

    def penalty(self) -> Tensor:
        """Mean square of the residual and of its steps between neighbouring nodes."""
        steps = [self.residual.diff(dim=axis).square().mean() for axis in (2, 3, 4)]
        return self.residual.square().mean() + torch.stack(steps).sum()
