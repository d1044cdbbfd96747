"""Multi-resolution hash-grid encoding (Mueller et al., "Instant Neural Graphics Primitives", 2022).

Levels whose lattice fits into the table are stored densely, finer ones by the hash of that paper. `encode` gives
features and, beside them, their slopes in the places, both differentiable in the table: so a loss of normals needs no
gradient of a gradient. Kernels serve it on the CPU (numba) and on CUDA (Triton); `forward` is the plain-torch form,
differentiable twice, that both are held against.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avatars.relit_field import cpu_grid, cuda_grid
from avatars.relit_field.settings import GridSettings

PRIMES = (1, 2654435761, 805459861)
START = 1e-4
CORNERS = tuple((x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1))


class HashGrid(nn.Module):
    """places [P, 3] in 0..1 -> [P, levels * features]; outside the cube the nearest place on it counts."""

    corners: Tensor
    resolutions: Tensor
    dense: Tensor
    offsets: Tensor
    sizes: Tensor

    def __init__(self, settings: GridSettings, generator: torch.Generator) -> None:
        super().__init__()
        self.settings = settings
        resolutions, sizes, dense = level_sizes(settings)
        self.register_buffer("corners", torch.tensor(CORNERS), persistent=False)
        self.register_buffer("resolutions", torch.tensor(resolutions), persistent=False)
        self.register_buffer("sizes", torch.tensor(sizes), persistent=False)
        self.register_buffer("dense", torch.tensor(dense), persistent=False)
        self.register_buffer("offsets", torch.tensor([0, *sizes]).cumsum(0)[:-1], persistent=False)
        start = (torch.rand(sum(sizes), settings.features, generator=generator) * 2 - 1) * START
        self.table = nn.Parameter(start)

    @property
    def width(self) -> int:
        """Numbers a place."""
        return self.settings.levels * self.settings.features

    def open_levels(self, step: float) -> int:
        """How many levels count at a step; the others are 0."""
        s = self.settings
        return min(
            s.levels, s.start_levels + (0 if step < s.opens_from else 1 + int((step - s.opens_from) / s.opens_every))
        )

    def encode(self, places: Tensor, levels: int | None = None, *, slopes: bool = False) -> tuple[Tensor, Tensor]:
        """Features [P, levels * features] of places [P, 3] and their slopes [P, 3, levels * features] (empty without
        `slopes`).

        Gradients reach the table from both. Places get the gradient of the features alone, and only with `slopes`.
        """
        count = self.settings.levels if levels is None else levels
        kernels = next((module for module in (cuda_grid, cpu_grid) if module.usable(self.table)), None)
        if kernels is None:
            return self.encode_by_gradients(places, count, slopes=slopes)
        described = (self.resolutions, self.sizes, self.dense, self.offsets)
        return kernels.encode(places, self.table, described, self.settings.levels, count, slopes)

    def encode_by_gradients(self, places: Tensor, levels: int, *, slopes: bool = False) -> tuple[Tensor, Tensor]:
        """What `encode` gives, by one gradient for each feature; the reference it is tested against."""
        if not slopes:
            return self(places, levels), places.new_zeros(len(places), 0, self.width)
        wanted = torch.is_grad_enabled()
        with torch.enable_grad():
            at = places if places.requires_grad else places.detach().requires_grad_()
            found = self(at, levels)
            columns = [
                torch.autograd.grad(found[:, column].sum(), at, create_graph=True)[0] for column in range(self.width)
            ]
            steep = torch.stack(columns, -1)
        return (found, steep) if wanted else (found.detach(), steep.detach())

    def forward(self, places: Tensor, levels: int | None = None) -> Tensor:
        """Features [P, levels * features] of places [P, 3]; `levels`: how many count, None for all."""
        count = self.settings.levels if levels is None else levels
        scaled = places.clamp(0, 1)[:, None] * self.resolutions[:count, None].to(places)  # [P, L, 3]
        low = torch.minimum(scaled.detach().floor(), self.resolutions[:count, None].to(places) - 1)
        share = scaled - low
        corner = low.long()[:, :, None] + self.corners  # [P, L, 8, 3]
        weight = torch.where(self.corners.bool(), share[:, :, None], 1 - share[:, :, None]).prod(-1)
        found = self.table[self._rows(corner, count)]  # [P, L, 8, F]
        mixed = (weight[..., None] * found).sum(2).flatten(1)
        return nn.functional.pad(mixed, (0, self.width - mixed.shape[1]))

    def _rows(self, corner: Tensor, count: int) -> Tensor:
        """Rows of the table [P, L, 8] of lattice points [P, L, 8, 3]."""
        side = (self.resolutions[:count] + 1)[:, None]
        x, y, z = corner.unbind(-1)
        lattice = (x * side + y) * side + z
        hashed = (x * PRIMES[0]) ^ (y * PRIMES[1]) ^ (z * PRIMES[2])
        index = torch.where(self.dense[:count, None], lattice, hashed) % self.sizes[:count, None]
        return index + self.offsets[:count, None]


def level_sizes(settings: GridSettings) -> tuple[list[int], list[int], list[bool]]:
    """Cells along a side, rows of the table, and whether every lattice point has its own row, of each level."""
    resolutions = [int(settings.base * settings.growth**level) for level in range(settings.levels)]
    table = 1 << settings.table_log2
    points = [(resolution + 1) ** 3 for resolution in resolutions]
    return resolutions, [min(number, table) for number in points], [number <= table for number in points]


def encode_plainly(grid: HashGrid, places: Tensor, levels: int | None = None) -> Tensor:
    """What `HashGrid.forward` gives, one place, level and corner at a time: the reference it is tested against."""
    count = grid.settings.levels if levels is None else levels
    rows = []
    for place in places.clamp(0, 1):
        features = []
        for level in range(grid.settings.levels):
            total = grid.table.new_zeros(grid.settings.features)
            resolution = int(grid.resolutions[level])
            for corner in CORNERS if level < count else ():
                weight, lattice = place.new_ones(()), []
                for axis in range(3):
                    scaled = place[axis] * resolution
                    low = min(int(scaled.detach().floor()), resolution - 1)
                    lattice.append(low + corner[axis])
                    weight = weight * ((scaled - low) if corner[axis] else (1 - (scaled - low)))
                x, y, z = lattice
                if bool(grid.dense[level]):
                    row = (x * (resolution + 1) + y) * (resolution + 1) + z
                else:
                    row = (x * PRIMES[0]) ^ (y * PRIMES[1]) ^ (z * PRIMES[2])
                total = total + weight * grid.table[int(grid.offsets[level]) + row % int(grid.sizes[level])]
            features.append(total)
        rows.append(torch.cat(features))
    return torch.stack(rows)
