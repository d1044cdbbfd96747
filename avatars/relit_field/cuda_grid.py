"""`HashGrid.encode` on CUDA, one kernel each way. Sums into the table are atomic: equal up to their order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatars.rendering.has_triton import available


def usable(table: Tensor) -> bool:
    """Whether the kernels serve this table."""
    return table.is_cuda and table.dtype == torch.float32 and table.shape[1] in (1, 2, 4, 8) and available()


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
        from avatars.relit_field.cuda_grid_kernels import POINTS_A_BLOCK, forward

        count, width = len(places), table.shape[1]
        at = places.detach().contiguous()
        features = table.new_zeros(count, total * width)
        steep = table.new_zeros(count, 3 if slopes else 0, total * width)
        if count and levels:
            grid = (-(-count // POINTS_A_BLOCK), levels)
            forward[grid](
                at, table, *described, features, steep, count, total * width,
                F=width, SLOPES=slopes, BLOCK=POINTS_A_BLOCK,
            )  # fmt: skip
        ctx.described, ctx.levels, ctx.slopes, ctx.table = described, levels, slopes, table.shape
        ctx.save_for_backward(at, steep)
        return features, steep

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, by_features: Tensor, by_slopes: Tensor) -> tuple[Tensor | None, ...]:
        from avatars.relit_field.cuda_grid_kernels import POINTS_A_BLOCK, backward

        at, steep = ctx.saved_tensors
        by_table = by_places = None
        if ctx.needs_input_grad[1]:
            by_table = at.new_zeros(ctx.table)
            if len(at) and ctx.levels:
                grid = (-(-len(at) // POINTS_A_BLOCK), ctx.levels)
                backward[grid](
                    at, by_features.contiguous(), by_slopes.contiguous(), by_table, *ctx.described, len(at),
                    by_features.shape[1], F=ctx.table[1], SLOPES=ctx.slopes, BLOCK=POINTS_A_BLOCK,
                )  # fmt: skip
        if ctx.needs_input_grad[0] and ctx.slopes:
            by_places = (steep * by_features[:, None]).sum(-1)
        return by_places, by_table, None, None, None, None
