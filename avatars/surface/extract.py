"""Marching cubes where the surface is and nowhere else: any resolution, on the CPU and on CUDA alike.

The box is cut into blocks of 8^3 cells. Distances at the blocks' centres say which may hold the surface; those are
evaluated, and wherever a surface leaves an evaluated block through a side, the next block is evaluated, too. So only
places near the surface are ever asked for, and the mesh has no holes even where distances are not exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from avatars.surface.cube_cases import CORNERS, EDGES, triangle_table
from shared.errors import BadConfig, EffigyError

BLOCK = 8
COARSE = 8
"""Blocks along a side of the coarse blocks that are looked at first where there are many."""
MANY_BLOCKS = 1 << 18
POINTS_AT_ONCE = 1 << 18
MOST_CELLS = 1 << 14
NEAREST_TO_CORNER = 1e-3
"""Of a cell: vertices keep so far from its corners, or a distance of 0 there would make triangles without area."""
SIDES = (("left", "right"), ("front", "back"), ("bottom", "top"))
Distance = Callable[[Tensor], Tensor]
"""Points [P, 3] m -> signed distances [P] m, negative inside."""


@dataclass(frozen=True, eq=False)
class Extracted:
    """vertices [V, 3] m float32 and faces [F, 3] int64, outwards counter-clockwise, on the device they were made on.

    open_sides: names of the box's sides the surface runs out of. asked: how many distances were evaluated.
    """

    vertices: Tensor
    faces: Tensor
    open_sides: tuple[str, ...]
    asked: int

    def numpy(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Both arrays on the CPU."""
        return self.vertices.cpu().numpy(), self.faces.cpu().numpy()


def extract_surface(
    distance: Distance,
    low: ArrayLike,
    high: ArrayLike,
    resolution: int,
    *,
    slope: float = 1.0,
    at_box: str = "refuse",
    device: torch.device | str = "cpu",
) -> Extracted:
    """The surface where `distance` is 0 in the box from `low` to `high`, [3] m.

    resolution: cells along the box's longest side. slope: how fast distances may change, in m per m; above 1 for fields
    that are no true distances. at_box: what to do where the body reaches the box: 'refuse' it, 'close' it there, or
    leave it 'open'. Raises BadConfig for a box without extent or a body that leaves it, EffigyError where there is no
    surface or distances are not finite.
    """
    grid = _Grid(np.asarray(low, np.float64), np.asarray(high, np.float64), resolution, torch.device(device))
    asked = _Asked(_closed(distance, grid) if at_box == "close" else distance)
    blocks = _near_blocks(grid, asked, slope)
    values, blocks = _evaluated(grid, asked, blocks)
    if not len(blocks) or not bool((values < 0).any()):
        raise EffigyError("there is no surface in the box", found="distances of one sign", do="Train it longer")
    open_sides = _open_sides(grid, values, blocks)
    if open_sides and at_box == "refuse":
        raise BadConfig(
            "the body leaves the box",
            found=f"inside at its {', '.join(open_sides)}",
            expected="a box with room around the body",
            do="Take a larger box, or have it closed there",
        )
    vertices, faces = _marched(grid, values, blocks)
    return Extracted(vertices, faces, open_sides, asked.count)


class _Grid:
    """Nodes at low + cell * index; sizes in cells are whole blocks, the last of which may reach beyond the box."""

    def __init__(self, low: NDArray[np.float64], high: NDArray[np.float64], resolution: int, device: torch.device):
        if low.shape != (3,) or high.shape != (3,) or not np.isfinite([low, high]).all() or (high <= low).any():
            raise BadConfig("a box needs extent along each axis", found=f"{low.tolist()} to {high.tolist()}")
        if not 2 <= resolution <= MOST_CELLS:
            raise BadConfig("resolution is out of range", found=str(resolution), expected=f"2 to {MOST_CELLS}")
        self.low, self.cell, self.device = low, float((high - low).max()) / resolution, device
        self.cells = np.maximum(np.ceil((high - low) / self.cell - 1e-9).astype(np.int64), 1)
        self.blocks = -(-self.cells // BLOCK)
        self.nodes = torch.from_numpy(self.blocks * BLOCK + 1).to(device)
        self.origin = torch.from_numpy(low.astype(np.float32)).to(device)
        steps = torch.arange(BLOCK + 1, device=device)
        self.within = torch.cartesian_prod(steps, steps, steps)

    def places(self, nodes: Tensor) -> Tensor:
        """Nodes [..., 3] int64, or fractions between them, as places [..., 3] m."""
        return self.origin + nodes.float() * self.cell

    def number(self, nodes: Tensor) -> Tensor:
        """One number for each node [..., 3]."""
        return (nodes[..., 0] * self.nodes[1] + nodes[..., 1]) * self.nodes[2] + nodes[..., 2]

    def node(self, number: Tensor) -> Tensor:
        """Inverse of `number`."""
        rest = number // self.nodes[2]
        return torch.stack((rest // self.nodes[1], rest % self.nodes[1], number % self.nodes[2]), -1)


class _Asked:
    """A distance function that is asked in portions, counted and checked."""

    def __init__(self, distance: Distance) -> None:
        self.distance, self.count = distance, 0

    def __call__(self, places: Tensor) -> Tensor:
        parts = []
        with torch.no_grad():
            for some in places.split(POINTS_AT_ONCE):
                parts.append(self.distance(some).detach().reshape(-1).float())
        self.count += len(places)
        found = torch.cat(parts) if parts else places.new_zeros(0)
        if len(found) != len(places):
            raise EffigyError("distances do not fit their points", found=f"{len(found)} for {len(places)} points")
        if not bool(torch.isfinite(found).all()):
            raise EffigyError("the field has distances that are not finite", do="Train it again")
        return found


def _closed(distance: Distance, grid: _Grid) -> Distance:
    """The same body, cut off a quarter of a cell inside the box."""
    half = torch.from_numpy(grid.cells * grid.cell / 2).float().to(grid.device)
    centre = grid.origin + half

    def both(places: Tensor) -> Tensor:
        beyond = ((places - centre).abs() - half).amax(-1) + grid.cell / 4
        return torch.maximum(distance(places).reshape(-1), beyond.to(places.dtype))

    return both


def _near_blocks(grid: _Grid, asked: _Asked, slope: float) -> Tensor:
    """Blocks [N, 3] int64 that a surface may pass through: by the distance at their centres, and wherever that changes
    its sign from one to the next."""
    if int(grid.blocks.prod()) <= MANY_BLOCKS:
        every = [int(count) for count in grid.blocks]
        blocks = torch.cartesian_prod(*(torch.arange(count, device=grid.device) for count in every))
        return blocks[_may_hold(grid, asked, slope, blocks, BLOCK, (1, every[0], every[1], every[2]))]
    sizes = torch.from_numpy(grid.blocks).to(grid.device)
    counts = [-(-int(count) // COARSE) for count in grid.blocks]
    coarse = torch.cartesian_prod(*(torch.arange(count, device=grid.device) for count in counts))
    coarse = coarse[_may_hold(grid, asked, slope, coarse, COARSE * BLOCK, (1, counts[0], counts[1], counts[2]))]
    inner = torch.arange(COARSE, device=grid.device)
    blocks = (coarse[:, None] * COARSE + torch.cartesian_prod(inner, inner, inner)).reshape(-1, 3)
    near = _may_hold(grid, asked, slope, blocks, BLOCK, (len(coarse), COARSE, COARSE, COARSE))
    return blocks[near & (blocks < sizes).all(1)]


def _may_hold(
    grid: _Grid, asked: _Asked, slope: float, blocks: Tensor, width: int, shape: tuple[int, int, int, int]
) -> Tensor:
    """[N] bool of blocks of that many cells, which fill `shape` [groups, x, y, z]."""
    away = asked(grid.places(blocks * width + width / 2))
    inside = (away < 0).view(shape)
    turns = torch.zeros_like(inside)
    for axis in (1, 2, 3):
        count = shape[axis] - 1
        changed = inside.narrow(axis, 0, count) != inside.narrow(axis, 1, count)
        turns.narrow(axis, 0, count).logical_or_(changed)
        turns.narrow(axis, 1, count).logical_or_(changed)
    return turns.flatten() | (away.abs() <= slope * grid.cell * width * 3**0.5 / 2)


def _evaluated(grid: _Grid, asked: _Asked, blocks: Tensor) -> tuple[Tensor, Tensor]:
    """(values [N, 9, 9, 9], blocks [N, 3]) of the given blocks and of all that a surface goes on into from them."""
    done, values, known, at = blocks[:0], [], torch.zeros(0, dtype=torch.int64, device=grid.device), None
    sizes = torch.from_numpy(grid.blocks).to(grid.device)
    while len(blocks):
        numbers = grid.number(blocks[:, None] * BLOCK + grid.within)
        wanted = torch.unique(numbers)
        fresh = wanted[~torch.isin(wanted, known)]
        found = asked(grid.places(grid.node(fresh)))
        known, order = torch.cat((known, fresh)).sort()
        at = (found if at is None else torch.cat((at, found)))[order]
        side = BLOCK + 1
        values.append(at[torch.searchsorted(known, numbers)].view(-1, side, side, side))
        done = torch.cat((done, blocks))
        onward = _onward(values[-1], blocks)
        onward = onward[((onward >= 0) & (onward < sizes)).all(1)]
        onward = torch.unique(onward, dim=0)
        blocks = onward[~torch.isin(grid.number(onward), grid.number(done))]
    if not values:
        return torch.zeros(0, 1, 1, 1, device=grid.device), done
    order = grid.number(done).argsort()  # so that the mesh does not depend on how its blocks were found
    return torch.cat(values)[order], done[order]


def _onward(values: Tensor, blocks: Tensor) -> Tensor:
    """Neighbours [M, 3] of blocks whose values change sign on the side between them."""
    found = []
    for axis in range(3):
        for end, step in ((0, -1), (BLOCK, 1)):
            side = values.select(axis + 1, end).flatten(1) < 0
            crossed = side.any(1) & ~side.all(1)
            move = torch.zeros(3, dtype=torch.int64, device=blocks.device)
            move[axis] = step
            found.append(blocks[crossed] + move)
    return torch.cat(found)


def _open_sides(grid: _Grid, values: Tensor, blocks: Tensor) -> tuple[str, ...]:
    """Sides of the box where the body is."""
    found = []
    for axis, names in enumerate(SIDES):
        last = int(grid.cells[axis])
        for name, node in zip(names, (0, last), strict=True):
            block = min(node // BLOCK, int(grid.blocks[axis]) - 1)
            there = values[blocks[:, axis] == block]
            if len(there) and bool((there.select(axis + 1, node - block * BLOCK) < 0).any()):
                found.append(name)
    return tuple(found)


def _marched(grid: _Grid, values: Tensor, blocks: Tensor) -> tuple[Tensor, Tensor]:
    inside = values < 0
    case = torch.zeros(len(values), BLOCK, BLOCK, BLOCK, dtype=torch.int64, device=grid.device)
    for corner, (x, y, z) in enumerate(CORNERS.tolist()):
        case += inside[:, x : x + BLOCK, y : y + BLOCK, z : z + BLOCK].long() << corner
    row, *cell = torch.nonzero((case > 0) & (case < 255), as_tuple=True)
    base = blocks[row] * BLOCK + torch.stack(cell, -1)
    within = (base < torch.from_numpy(grid.cells).to(grid.device)).all(1)  # the last blocks reach beyond the box
    row, base, cell = row[within], base[within], [part[within] for part in cell]
    table = torch.from_numpy(triangle_table()).to(grid.device)
    edges = table[case[row, cell[0], cell[1], cell[2]]].flatten(1)
    owner, place = torch.nonzero(edges >= 0, as_tuple=True)
    first, second, axis = torch.from_numpy(EDGES).to(grid.device)[edges[owner, place]].unbind(-1)
    corners = torch.from_numpy(CORNERS).to(grid.device)
    start = base[owner] + corners[first]
    which, number = torch.unique(grid.number(start) * 3 + axis, return_inverse=True)

    def at(corner: Tensor) -> Tensor:
        x, y, z = (cell[k][owner] + corners[corner][:, k] for k in range(3))
        return values[row[owner], x, y, z]

    a, b = at(first), at(second)
    share = (a / (a - b)).clamp(NEAREST_TO_CORNER, 1 - NEAREST_TO_CORNER)
    along = torch.nn.functional.one_hot(axis, 3).to(share.dtype) * share[:, None]
    vertices = torch.zeros(len(which), 3, device=grid.device)
    vertices[number] = grid.places(start.to(share.dtype) + along)  # the same from every cell that shares the edge
    return vertices, number.view(-1, 3)


def largest_piece(
    vertices: NDArray[np.float32], faces: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The connected piece with the most vertices, renumbered."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ends = np.concatenate((faces[:, [0, 1]], faces[:, [1, 2]]))
    graph = coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(vertices), len(vertices)))
    _, piece = connected_components(graph, directed=False)
    kept = piece == np.bincount(piece).argmax()
    number = np.cumsum(kept) - 1
    return vertices[kept], number[faces[kept[faces].all(1)]]
