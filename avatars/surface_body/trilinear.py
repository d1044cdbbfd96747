"""Tables of numbers on the nodes of a box-shaped lattice, read in between: values, slopes, and gradients of the table.

Plain torch is the reference; compiled kernels serve the CPU and CUDA.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatars.surface_body import cpu_trilinear, cuda_trilinear

CORNERS = tuple((x, y, z) for z in (0, 1) for y in (0, 1) for x in (0, 1))


@dataclass(frozen=True, eq=False)
class Lattice:
    """Nodes at low [3] m plus whole multiples of 1 / per_m [3] m; shape: nodes along x, y and z. x runs fastest."""

    low: Tensor
    per_m: Tensor
    shape: tuple[int, int, int]

    @staticmethod
    def over(
        low: NDArray[np.float64], spacing_m: float | NDArray[np.float64], shape: Any, device: torch.device | str
    ) -> Lattice:
        """From the first node, the spacing (for all axes or each) and the count of nodes along each axis."""
        per_m = np.broadcast_to(1 / np.asarray(spacing_m, np.float64), 3)
        return Lattice(
            torch.from_numpy(np.asarray(low, np.float32).copy()).to(device),
            torch.from_numpy(per_m.astype(np.float32)).to(device),
            (int(shape[0]), int(shape[1]), int(shape[2])),
        )

    @cached_property
    def high(self) -> Tensor:
        """The last node, [3] m."""
        return self.low + (torch.tensor(self.shape, device=self.low.device) - 1) / self.per_m

    @property
    def nodes(self) -> int:
        """How many there are."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    def places(self) -> Tensor:
        """All nodes [N, 3] m, in the table's order."""
        axes = [torch.arange(count, device=self.low.device) for count in self.shape]
        z, y, x = torch.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
        return torch.stack((x, y, z), -1).view(-1, 3) / self.per_m + self.low

    def held(self, places: Tensor) -> Tensor:
        """The nearest places [P, 3] m within the lattice."""
        return torch.minimum(torch.maximum(places, self.low), self.high)

    def cells(self, places: Tensor, offset: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Of places [P, 3]: the row of the first corner [P], the shares [P, 3] in its cell, and 1 where moving along an
        axis changes anything [P, 3], 0 beyond the lattice."""
        top = torch.tensor(self.shape, device=places.device) - 1
        wanted = (places - self.low) * self.per_m
        scaled = torch.minimum(wanted.clamp_min(0), top.to(places.dtype))
        cell = torch.minimum(scaled.long(), top - 1)
        first = (cell[:, 2] * self.shape[1] + cell[:, 1]) * self.shape[0] + cell[:, 0]
        first = first if offset is None else first + offset
        return first, scaled - cell, (scaled == wanted).to(places.dtype)

    def steps(self) -> list[int]:
        """Rows from the first corner of a cell to each of its eight."""
        nx, ny, _ = self.shape
        return [(z * ny + y) * nx + x for x, y, z in CORNERS]


def trilinear(
    table: Tensor, lattice: Lattice, places: Tensor, *, offset: Tensor | None = None, slopes: bool = False
) -> tuple[Tensor, Tensor]:
    """Rows [P, C] of a table [N, C] between its nodes at places [P, 3] m, and slopes [P, 3, C] per m (empty without).

    offset: [P] int64 added to the rows, where several tables are stacked. Gradients reach the table through the rows,
    not the places and not through the slopes. Beyond the lattice the nearest place on it counts.
    """
    found: tuple[Tensor, Tensor] = _Trilinear.apply(table, lattice, places.detach(), offset, slopes)
    return found


class _Trilinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, table: Tensor, lattice: Lattice, places: Tensor, offset: Tensor | None, slopes: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(places, offset)
        ctx.lattice, ctx.count = lattice, len(table)
        found, steep = between(table, lattice, places, offset, slopes)
        ctx.mark_non_differentiable(steep)
        return found, steep

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, by_found: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        places, offset = ctx.saved_tensors
        return into_table(by_found, ctx.lattice, places, offset, ctx.count), None, None, None, None


def between(
    table: Tensor, lattice: Lattice, places: Tensor, offset: Tensor | None, slopes: bool
) -> tuple[Tensor, Tensor]:
    """What `trilinear` gives, without gradients."""
    kernels = kernels_for(table)
    if kernels is not None:
        return kernels.forward(table, lattice, places, offset, slopes)  # type: ignore[no-any-return]
    return between_plainly(table, lattice, places, offset, slopes)


def between_plainly(
    table: Tensor, lattice: Lattice, places: Tensor, offset: Tensor | None, slopes: bool
) -> tuple[Tensor, Tensor]:
    """The same in plain torch: the reference that kernels are tested against."""
    first, share, _ = lattice.cells(places, offset)
    found = table.new_zeros(len(places), table.shape[1])
    for step, weight in zip(lattice.steps(), corner_weights(share), strict=True):
        found = found + weight[:, None] * table[first + step]
    steep = _slopes(table, lattice, places, offset) if slopes else table.new_zeros(len(places), 0, table.shape[1])
    return found, steep


def into_table(by_found: Tensor, lattice: Lattice, places: Tensor, offset: Tensor | None, rows: int) -> Tensor:
    """The gradient of a table [rows, C] of that of its rows [P, C] at places [P, 3]."""
    kernels = kernels_for(by_found)
    if kernels is not None:
        return kernels.backward(by_found, lattice, places, offset, rows)  # type: ignore[no-any-return]
    return into_table_plainly(by_found, lattice, places, offset, rows)


def into_table_plainly(by_found: Tensor, lattice: Lattice, places: Tensor, offset: Tensor | None, rows: int) -> Tensor:
    """The same in plain torch: the reference that kernels are tested against."""
    first, share, _ = lattice.cells(places, offset)
    by_table = by_found.new_zeros(rows, by_found.shape[1])
    for step, weight in zip(lattice.steps(), corner_weights(share), strict=True):
        by_table.index_add_(0, first + step, weight[:, None] * by_found)
    return by_table


def kernels_for(table: Tensor) -> Any:
    """The module of compiled kernels that serve a table, None for plain torch."""
    return next((module for module in (cuda_trilinear, cpu_trilinear) if module.usable(table)), None)


def corner_weights(share: Tensor) -> list[Tensor]:
    """How much [P] each corner of a cell counts at shares [P, 3] of it, in the order of CORNERS."""
    low = 1 - share
    return [
        (share[:, 0] if x else low[:, 0]) * (share[:, 1] if y else low[:, 1]) * (share[:, 2] if z else low[:, 2])
        for x, y, z in CORNERS
    ]


def _slopes(table: Tensor, lattice: Lattice, places: Tensor, offset: Tensor | None) -> Tensor:
    first, share, moves = lattice.cells(places, offset)
    low, per_m = 1 - share, moves * lattice.per_m
    found = table.new_zeros(len(places), 3, table.shape[1])
    for step, (x, y, z) in zip(lattice.steps(), CORNERS, strict=True):
        value = table[first + step]
        wx, wy, wz = ((share if end else low)[:, axis] for axis, end in enumerate((x, y, z)))
        factors = torch.stack(
            ((wy * wz) * (1 if x else -1), (wx * wz) * (1 if y else -1), (wx * wy) * (1 if z else -1)), -1
        )
        found = found + (factors * per_m)[..., None] * value[:, None]
    return found
