"""Sums of values that several rows add to one place, equal to the bit whatever order the additions come in."""

from __future__ import annotations

import torch
from torch import Tensor

BITS = 44
"""The largest value becomes a whole number of so many bits: 2^18 of them can be added in 64 bits."""


def summed_at_corners(faces: Tensor, values: Tensor, count: int) -> Tensor:
    """[B, count, C]: at each of `count` vertices the sum of values [B, F, C] of the faces [F, 3] it is a corner of.

    CUDA adds floating-point numbers in any order, and another order ends in another last bit. So where no gradient is
    wanted they are added as whole numbers there, to 2^-44 of the largest value.
    """
    if values.is_cuda and not (values.requires_grad and torch.is_grad_enabled()):
        return whole_sums(faces, values, count)
    total = values.new_zeros(len(values), count, values.shape[2])
    for corner in range(3):
        total = total.index_add(1, faces[:, corner], values)
    return total


def whole_sums(faces: Tensor, values: Tensor, count: int) -> Tensor:
    """As `summed_at_corners`, added as whole numbers on any device; no gradient."""
    if not values.numel():
        return values.new_zeros(len(values), count, values.shape[2])
    _, exponent = torch.frexp(values.detach().abs().amax())
    step = torch.exp2((BITS - exponent).double())
    whole = (values.detach().double() * step).round().long()
    total = whole.new_zeros(len(values), count, values.shape[2])
    total.index_add_(1, faces.T.reshape(-1), whole.repeat(1, 3, 1))
    return (total.double() / step).to(values.dtype)
