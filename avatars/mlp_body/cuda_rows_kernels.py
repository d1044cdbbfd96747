"""The Triton kernel of `cuda_rows`. CUDA devices only."""

from __future__ import annotations

import triton
import triton.language as tl

ROWS_A_TURN = 64


@triton.jit
def weighted_sums_of_rows(values, start, index, weight, out, columns, WIDE: tl.constexpr, ROWS: tl.constexpr):
    """Program m: out[m, :] = sum over p in start[m] .. start[m + 1] of weight[p] * values[index[p], :]."""
    m = tl.program_id(0)
    begin, end = tl.load(start + m), tl.load(start + m + 1)
    column = tl.arange(0, WIDE)
    total = tl.zeros((ROWS, WIDE), tl.float32)
    for at in range(begin, end, ROWS):
        entry = at + tl.arange(0, ROWS)
        live = entry < end
        row = tl.load(index + entry, mask=live, other=0)
        share = tl.load(weight + entry, mask=live, other=0.0)
        wanted = live[:, None] & (column < columns)[None, :]
        total += share[:, None] * tl.load(values + row[:, None] * columns + column[None, :], mask=wanted, other=0.0)
    tl.store(out + m * columns + column, tl.sum(total, 0), mask=column < columns)
