"""Values of a few points carried to many others by inverse distance, in either direction, without atomic sums."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatars.mlp_body import cuda_rows
from shared.errors import EffigyError

LEAST_M = 1e-6
"""Added to distances, so that a point which lies on its neighbour has a weight."""


@dataclass(frozen=True, eq=False)
class Mixing:
    """Which of M points each of N others takes how much of, and the same from the other side.

    index [N, k] int64 below M; weight [N, k], rows sum to 1. back_start [M + 1]: entries of `back_index` (rows below N)
    and `back_weight` [N k] that belong to each of the M points.
    """

    index: Tensor
    weight: Tensor
    back_start: Tensor
    back_index: Tensor
    back_weight: Tensor

    @staticmethod
    def of(index: Tensor, weight: Tensor, sources: int) -> Mixing:
        """From index and weight alone; sources: M."""
        flat = index.flatten()
        order = torch.argsort(flat, stable=True)
        start = torch.zeros(sources + 1, dtype=torch.int64, device=index.device)
        start[1:] = torch.bincount(flat, minlength=sources).cumsum(0)
        return Mixing(index, weight, start, order // index.shape[1], weight.flatten()[order])

    def to(self, device: str | torch.device) -> Mixing:
        """The same on another device."""
        return Mixing(*(getattr(self, entry.name).to(device) for entry in fields(self)))

    @property
    def sources(self) -> int:
        """M."""
        return len(self.back_start) - 1


def mixing_of(points: NDArray[np.floating], sources: NDArray[np.floating], neighbours: int) -> Mixing:
    """Inverse-distance weights of the nearest `neighbours` of sources [M, 3] for points [N, 3], m.

    w_i = 1 / (d_i + 1e-6 m), normalised. Raises EffigyError where there are fewer sources than neighbours.
    """
    index, distance = nearest(points, sources, neighbours)
    weight = 1.0 / (distance + LEAST_M)
    weight /= weight.sum(1, keepdims=True)
    return Mixing.of(torch.from_numpy(index), torch.from_numpy(weight.astype(np.float32)), len(sources))


def nearest(
    points: NDArray[np.floating], sources: NDArray[np.floating], neighbours: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows [N, k] of the nearest sources, nearest first, and their distances [N, k]."""
    if neighbours > len(sources):
        raise EffigyError("there are too few points to mix", found=str(len(sources)), expected=f">= {neighbours}")
    distance, index = cKDTree(np.asarray(sources, np.float64)).query(np.asarray(points, np.float64), k=neighbours)
    shape = (len(points), neighbours)
    return np.asarray(index, np.int64).reshape(shape), np.asarray(distance, np.float64).reshape(shape)


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, mixing: Mixing) -> Tensor:
        ctx.mixing = mixing
        if values.is_cuda:  # plain operations can be recorded in a graph
            return (values[mixing.index] * mixing.weight[..., None]).sum(1)
        bag = torch.nn.functional.embedding_bag
        return bag(mixing.index, values, mode="sum", per_sample_weights=mixing.weight)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gathered_back(gradient, ctx.mixing), None


def gathered_back(gradient: Tensor, mixing: Mixing) -> Tensor:
    """What each source [M, C] is due of gradients [N, C] on the mixed values; sums in a fixed order."""
    gradient = gradient.contiguous()
    if cuda_rows.usable(gradient):
        return cuda_rows.weighted_sums(gradient, mixing.back_start, mixing.back_index, mixing.back_weight)
    bag = torch.nn.functional.embedding_bag
    found: Tensor = bag(
        mixing.back_index,
        gradient,
        mixing.back_start,
        mode="sum",
        per_sample_weights=mixing.back_weight,
        include_last_offset=True,
    )
    return found


def mix(values: Tensor, mixing: Mixing) -> Tensor:
    """Values [M, C] at the N points, [N, C]; differentiable by `values`. Equal input gives bit-equal output."""
    return _Mix.apply(values.contiguous(), mixing)  # type: ignore[no-untyped-call, no-any-return]
