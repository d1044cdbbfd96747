"""`HashGrid.encode` on the CPU, compiled. A level's rows are summed by one worker: equal bits for any thread count."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatars.rendering import jit

POINTS_A_PIECE = 256
MAX_FEATURES = 8


def usable(table: Tensor) -> bool:
    """Whether the kernels serve this table."""
    return table.device.type == "cpu" and table.dtype == torch.float32 and table.shape[1] <= MAX_FEATURES


def encode(
    places: Tensor, table: Tensor, described: tuple[Tensor, ...], total: int, levels: int, slopes: bool
) -> tuple[Tensor, Tensor]:
    """See `HashGrid.encode`. described: resolutions, sizes, dense and offsets of `total` levels; `levels` count."""
    found: tuple[Tensor, Tensor] = _Encode.apply(places, table, described, total, levels, slopes)
    return found


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, places: Tensor, table: Tensor, described: tuple[Tensor, ...], total: int, levels: int, slopes: bool
    ) -> tuple[Tensor, Tensor]:
        from avatars.relit_field.cpu_grid_kernels import forward

        count, width = len(places), total * table.shape[1]
        at = places.detach().contiguous()
        numbers = [value.numpy() for value in described]
        features = np.zeros((count, width), np.float32)
        found = np.zeros((count, 3 if slopes else 0, width), np.float32)
        pieces = count // POINTS_A_PIECE
        jit.run(forward, at.numpy(), table.detach().numpy(), *numbers, levels, features, found, pieces=pieces)
        result, steep = torch.from_numpy(features), torch.from_numpy(found)
        ctx.described, ctx.levels, ctx.slopes, ctx.table = described, levels, slopes, table.shape
        ctx.save_for_backward(at, steep)
        return result, steep

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, by_features: Tensor, by_slopes: Tensor) -> tuple[Tensor | None, ...]:
        from avatars.relit_field.cpu_grid_kernels import backward

        at, steep = ctx.saved_tensors
        by_table = by_places = None
        if ctx.needs_input_grad[1]:
            by_table = torch.zeros(ctx.table)
            numbers = [value.numpy() for value in ctx.described]
            given = (at.numpy(), by_features.contiguous().numpy(), by_slopes.contiguous().numpy(), by_table.numpy())
            jit.run(backward, *given, *numbers, ctx.levels, pieces=len(at) // POINTS_A_PIECE)
        if ctx.needs_input_grad[0] and ctx.slopes:
            by_places = (steep * by_features[:, None]).sum(-1)
        return by_places, by_table, None, None, None, None
