"""Weighted sums of rows on CUDA, one program for each sum: no atomics, so equal input gives equal output."""

from __future__ import annotations

import torch
from torch import Tensor

from avatars.rendering.has_triton import available

MOST_COLUMNS = 64


def usable(values: Tensor) -> bool:
    """Whether the kernel serves this table [N, C]."""
    return values.is_cuda and values.dtype == torch.float32 and values.shape[1] <= MOST_COLUMNS and available()


def weighted_sums(values: Tensor, start: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """[M, C]: for each of M the sum of weight [P] times rows `index` [P] of values [N, C], its run in start [M + 1]."""
    from avatars.mlp_body.cuda_rows_kernels import ROWS_A_TURN, weighted_sums_of_rows

    sources, columns = len(start) - 1, values.shape[1]
    out = values.new_empty(sources, columns)
    if sources and columns:
        wide = 1 << max(columns - 1, 0).bit_length()
        weighted_sums_of_rows[(sources,)](
            values, start, index, weight, out, columns, WIDE=max(wide, 2), ROWS=ROWS_A_TURN, num_warps=4
        )
    return out
