"""`trilinear` and the fixed-point steps on CUDA, one kernel each. Sums into tables are atomic: equal up to order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from avatars.rendering.has_triton import available

if TYPE_CHECKING:
    from avatars.surface_body.trilinear import Lattice

MOST_COLUMNS = 12


def usable(table: Tensor) -> bool:
    """Whether the kernels serve this table."""
    return table.is_cuda and table.dtype == torch.float32 and available()


def forward(
    table: Tensor, lattice: Lattice, places: Tensor, offset: Tensor | None, slopes: bool
) -> tuple[Tensor, Tensor]:
    """See `trilinear.trilinear`."""
    from avatars.surface_body.cuda_trilinear_kernels import PLACES_A_BLOCK, forward

    count, width = len(places), table.shape[1]
    found, steep = table.new_empty(count, width), table.new_empty(count, 3 if slopes else 0, width)
    if count:
        at = places.contiguous()
        forward[(-(-count // PLACES_A_BLOCK), width // _columns(width))](
            table.contiguous(), at, at if offset is None else offset.contiguous(), lattice.low, lattice.per_m,
            *lattice.shape, found, steep, count,
            C=width, W=_columns(width), MOVED=offset is not None, SLOPES=slopes, BLOCK=PLACES_A_BLOCK,
        )  # fmt: skip
    return found, steep


def backward(by_found: Tensor, lattice: Lattice, places: Tensor, offset: Tensor | None, rows: int) -> Tensor:
    """The table's gradient [rows, C] of the rows' [P, C]."""
    from avatars.surface_body.cuda_trilinear_kernels import PLACES_A_BLOCK, backward

    count, width = by_found.shape
    by_table = by_found.new_zeros(rows, width)
    if count:
        at = places.contiguous()
        backward[(-(-count // PLACES_A_BLOCK), width // _columns(width))](
            by_found.contiguous(), at, at if offset is None else offset.contiguous(), lattice.low, lattice.per_m,
            *lattice.shape, by_table, count, C=width, W=_columns(width), MOVED=offset is not None, BLOCK=PLACES_A_BLOCK,
        )  # fmt: skip
    return by_table


def settle(
    rows: Tensor, lattice: Lattice, offset: Tensor, wanted: Tensor, guesses: Tensor, iterations: int
) -> tuple[Tensor, Tensor]:
    """See `deformation.settle_plainly`."""
    from avatars.surface_body.cuda_trilinear_kernels import PLACES_A_BLOCK, settle_step

    count, each = guesses.shape[:2]
    table, goal, begun = rows.detach().contiguous(), wanted.detach().contiguous(), offset.contiguous()
    before = place = guesses.detach().contiguous()
    for _ in range(iterations if count else 0):
        before, place = place, torch.empty_like(place)
        settle_step[(-(-count * each // PLACES_A_BLOCK),)](
            table, goal, begun, lattice.low, lattice.per_m, *lattice.shape, before, place, count * each,
            EACH=each, BLOCK=PLACES_A_BLOCK,
        )  # fmt: skip
    return place, before


def _columns(width: int) -> int:
    """How many of a table's columns one program takes: they are written out in its code."""
    return next(some for some in range(min(width, MOST_COLUMNS), 0, -1) if width % some == 0)
