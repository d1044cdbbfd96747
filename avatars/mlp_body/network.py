"""Many small private networks evaluated as one batched product (method page A.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class PrivateNetworks(nn.Module):
    """F perceptrons of equal shape that share nothing: weights [F, in, out] and biases [F, 1, out] of each layer.

    ReLU between layers, none at the end; begun as torch begins its linear layers.
    """

    def __init__(self, count: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for size, following in pairwise(sizes):
            bound = 1 / math.sqrt(size)
            self.weights.append(nn.Parameter(torch.empty(count, size, following).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(count, 1, following).uniform_(-bound, bound)))

    def forward(self, x: Tensor) -> Tensor:
        """[F, U, out] of x [F, U, in], or of [U, in] for all alike."""
        if x.dim() == 2:
            x = x.expand(len(self.weights[0]), -1, -1)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if layer < last:
                x = torch.relu(x)
        return x
