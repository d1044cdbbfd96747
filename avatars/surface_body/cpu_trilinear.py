"""`trilinear` and the fixed-point steps on the CPU, compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from avatars.rendering import jit

if TYPE_CHECKING:
    from avatars.surface_body.trilinear import Lattice

PLACES_A_PIECE = 256
NONE = np.zeros(0, np.int64)


def usable(table: Tensor) -> bool:
    """Whether the kernels serve this table."""
    return table.device.type == "cpu" and table.dtype == torch.float32


def forward(
    table: Tensor, lattice: Lattice, places: Tensor, offset: Tensor | None, slopes: bool
) -> tuple[Tensor, Tensor]:
    """See `trilinear.trilinear`."""
    from avatars.surface_body.cpu_trilinear_kernels import forward

    count, width = len(places), table.shape[1]
    found, steep = np.empty((count, width), np.float32), np.zeros((count, 3 if slopes else 0, width), np.float32)
    given = (_numbers(table), _numbers(places), *_described(lattice, offset))
    jit.run(forward, *given, found, steep, pieces=count // PLACES_A_PIECE)
    return torch.from_numpy(found), torch.from_numpy(steep)


def backward(by_found: Tensor, lattice: Lattice, places: Tensor, offset: Tensor | None, rows: int) -> Tensor:
    """The table's gradient [rows, C] of the rows' [P, C]."""
    from avatars.surface_body.cpu_trilinear_kernels import backward

    by_table = torch.zeros(rows, by_found.shape[1])
    given = (_numbers(by_found), _numbers(places), *_described(lattice, offset))
    width = by_found.shape[1]
    jit.run(backward, *given, by_table.numpy(), pieces=min(width, len(places) * width // (8 * PLACES_A_PIECE)))
    return by_table


def settle(
    rows: Tensor, lattice: Lattice, offset: Tensor, wanted: Tensor, guesses: Tensor, iterations: int
) -> tuple[Tensor, Tensor]:
    """See `deformation.settle_plainly`."""
    from avatars.surface_body.cpu_trilinear_kernels import settle

    place = guesses.detach().float().clone(memory_format=torch.contiguous_format)
    before = place.clone()
    given = (_numbers(rows), _numbers(wanted), *_described(lattice, offset), iterations)
    jit.run(settle, *given, place.numpy(), before.numpy(), pieces=len(wanted) // (PLACES_A_PIECE // 4))
    return place, before


def _numbers(values: Tensor) -> Any:
    return values.detach().contiguous().numpy()


def _described(lattice: Lattice, offset: Tensor | None) -> tuple[Any, ...]:
    shape = np.array(lattice.shape, np.int64)
    return NONE if offset is None else _numbers(offset), _numbers(lattice.low), _numbers(lattice.per_m), shape
