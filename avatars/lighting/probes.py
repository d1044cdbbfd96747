"""Occlusion that follows a pose: for each rigid part of a person, baked once, how it hides the sky around it.

Each part has a lattice of nodes about it; a node keeps the harmonics of visibility past that part alone. Weighted by a
cosine they give ambient occlusion for a normal, unweighted the visibility in one direction, for highlights and lamps.
What several parts let through is multiplied, as if they hid independently of each other.

Two defects of the original are not here: a node that is not there counts for nothing (there, index -1 was read), and
beyond a lattice the sky opens gradually (there, values of its edge went on for ever).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.lighting.harmonics import COSINE, COUNT, band_of, basis5
from avatars.lighting.latlong import pixel_directions, row_solid_angles

REACH_M = 1.0
"""What is farther away hides nothing: by then the room would reflect as much."""
MARGIN_M = 0.2
FADE_M = 0.3
"""How far a lattice goes beyond its part, and over which distance from there on the part stops hiding anything."""
SHIFT = 0.1
"""Points are looked up this part of a node's distance above their surface."""
HALF_OPEN = 0.35
"""Share of the sky a node on an even surface sees, roughly; with less it counts less."""
SOFT_BANDS = (1.0, 0.92, 0.72, 0.46, 0.21)
"""Against ringing where harmonics are evaluated in one direction (a raised cosine over bands)."""


@dataclass(frozen=True, eq=False)
class Probes:
    """P parts in canonical space. joints: the joint each part moves with.

    low_m, high_m: [P, 3] corners of the lattices; coefficients: [P, R, R, R, 25] float16, from corner to corner.
    """

    joints: tuple[int, ...]
    low_m: Tensor
    high_m: Tensor
    coefficients: Tensor
    _packed: Tensor | None = field(default=None, init=False)

    def to(self, device: torch.device | str) -> Probes:
        """The same on another device."""
        return replace(
            self,
            low_m=self.low_m.to(device),
            high_m=self.high_m.to(device),
            coefficients=self.coefficients.to(device),
        )

    @cached_property
    def table(self) -> Tensor:
        """All nodes of all parts [P R R R, 25], float32, for looking up."""
        return self.coefficients.reshape(-1, COUNT).float()

    @cached_property
    def lattices(self) -> Tensor:
        """[P, 6] low corner and distance of neighbouring nodes along x, y, z, m."""
        return torch.cat([self.low_m, (self.high_m - self.low_m) / (self.coefficients.shape[1] - 1)], -1).contiguous()

    def packed(self, width: int) -> Tensor:
        """All nodes [P R R R, width] as they are stored, in half precision, padded with zeros."""
        if self._packed is None or self._packed.shape[1] != width:
            flat = self.coefficients.reshape(-1, COUNT)
            object.__setattr__(self, "_packed", torch.nn.functional.pad(flat, (0, width - COUNT)).contiguous())
        assert self._packed is not None
        return self._packed

    @cached_property
    def joint_rows(self) -> Tensor:
        """`joints` [P] on the device."""
        return torch.tensor(self.joints, device=self.coefficients.device)

    def posed(self, model_from_canonical: Tensor) -> PosedProbes:
        """In poses in which joints [B, J, 4, 4] moved from canonical space rigidly."""
        return PosedProbes(self, inverse_moves(model_from_canonical[:, self.joint_rows]))


@dataclass(frozen=True, eq=False)
class PosedProbes:
    """Probes in B poses. canonical_from_world: [B, P, 4, 4], rigid with a uniform scale."""

    probes: Probes
    canonical_from_world: Tensor

    def moved(self, world_from_model: Tensor) -> PosedProbes:
        """After the whole person was moved by [B, 4, 4]."""
        back = inverse_moves(world_from_model.to(self.canonical_from_world))
        return replace(self, canonical_from_world=self.canonical_from_world @ back[:, None])

    def axes(self) -> Tensor:
        """[B, P, 13]: the first three rows of canonical_from_world, then its scale."""
        rows = self.canonical_from_world[..., :3, :]
        scale = rows[..., :3].square().sum((-1, -2)).div(3).sqrt()
        return torch.cat([rows.flatten(2), scale[..., None]], dim=-1).float().contiguous()

    def visible(self, points: Tensor, normals: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Ambient [B, N, 1] for normals, and visibility [B, N, D] along directions [B, N, D, 3]; 0 hidden to 1 open.

        points [B, N, 3] m and unit normals [B, N, 3], directions unit, all in the world.
        """
        parts = [self._visible(frame, points[frame], normals[frame], directions[frame]) for frame in range(len(points))]
        ambient, along = zip(*parts, strict=True)
        return torch.stack(ambient)[..., None], torch.stack(along)

    def _visible(self, frame: int, points: Tensor, normals: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """One frame: ambient [N] and along [N, D]. All pairs of a point and a part near it are looked up at once."""
        matrix = self.canonical_from_world[frame].to(points)  # [P, 4, 4]
        linear = matrix[:, :3, :3]
        turn = linear / torch.linalg.det(linear)[:, None, None] ** (1 / 3)
        low, high = self.probes.low_m.to(points)[:, None], self.probes.high_m.to(points)[:, None]
        place = points @ linear.transpose(1, 2) + matrix[:, None, :3, 3]  # [P, N, 3]
        beyond = torch.maximum(low - place, place - high).clamp(min=0).norm(dim=-1)
        part, point = (beyond < FADE_M).nonzero(as_tuple=True)
        hides = 1 - beyond[part, point] / FADE_M
        normal = (turn[part] @ normals[point][..., None])[..., 0]
        found = self._interpolated(part, place[part, point], normal)
        shade, soft = _band_weights(found)
        up = ((found * shade) * basis5(normal)).sum(-1)
        towards = basis5(directions[point] @ turn[part].transpose(1, 2))  # [n, D, 25]
        seen = torch.einsum("nk,ndk->nd", found * soft, towards)
        ambient = points.new_ones(beyond.shape)
        ambient[part, point] = 1 - hides * (1 - up.clamp(0, 1))
        along = points.new_ones(*beyond.shape, directions.shape[1])
        along[part, point] = 1 - hides[:, None] * (1 - seen.clamp(0, 1))
        return ambient.prod(dim=0), along.prod(dim=0)

    def _interpolated(self, part: Tensor, place: Tensor, normal: Tensor) -> Tensor:
        """Harmonics [n, 25] at canonical places: trilinear over nodes in front of the surface; open where none is."""
        table = self.probes.table
        side = self.probes.coefficients.shape[1]
        low, high = self.probes.low_m.to(place)[part], self.probes.high_m.to(place)[part]
        step = (high - low) / (side - 1)
        place = torch.minimum(torch.maximum(place + SHIFT * step.mean(-1, keepdim=True) * normal, low), high)
        grid = (place - low) / step
        first = grid.floor().clamp(0, side - 2)
        share = (grid - first)[:, None]
        corners = torch.tensor([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)], device=place.device)
        node = first.long()[:, None] + corners  # [n, 8, 3]
        weight = torch.where(corners.bool(), share, 1 - share).prod(-1)
        ahead = (low[:, None] + node * step[:, None] - place[:, None]) @ normal[..., None]
        weight = weight * (ahead[..., 0] > 0)
        index = ((part[:, None] * side + node[..., 0]) * side + node[..., 1]) * side + node[..., 2]
        # A node inside the part is dark and says little of the outside: it counts where there is no better one.
        openness = (table[index.reshape(-1), 0] / (2 * math.sqrt(math.pi))).reshape(index.shape).to(weight)
        weight = weight * (0.02 + (openness / HALF_OPEN).clamp(0, 1).square())
        total = torch.nn.functional.embedding_bag(index, table, per_sample_weights=weight.to(table), mode="sum")
        weights = weight.sum(-1, keepdim=True)
        open_sky = torch.zeros(COUNT).to(place)
        open_sky[0] = 2 * math.sqrt(math.pi)
        return torch.where(weights > 1e-6, total.to(place) / weights.clamp(min=1e-6), open_sky)


def inverse_moves(matrices: Tensor) -> Tensor:
    """Inverses of moves [..., 4, 4] that turn, shift and scale evenly; without a solver, so they can be recorded."""
    linear = matrices[..., :3, :3]
    back = linear.transpose(-1, -2) * (3 / linear.square().sum((-1, -2), keepdim=True))
    rows = torch.cat([back, -(back @ matrices[..., :3, 3:])], dim=-1)
    return torch.cat([rows, matrices[..., 3:, :]], dim=-2)


def _band_weights(like: Tensor) -> tuple[Tensor, Tensor]:
    """What the 25 harmonics are multiplied by for cosine-weighted, and for soft directional visibility."""
    bands = band_of()
    shade = torch.tensor([COSINE[band] / math.pi for band in bands]).to(like)
    return shade, torch.tensor([SOFT_BANDS[band] for band in bands]).to(like)


def always(count: int) -> NDArray[np.float64]:
    """Windows [count, 2] of triangles that hide whatever their distance (see `probe_kernels.bake`)."""
    return np.tile((0.0, np.inf), (count, 1))


def bake_probes(
    vertices: NDArray[np.floating],
    faces: NDArray[np.integer],
    part_of_face: NDArray[np.integer],
    joints: tuple[int, ...],
    side: int = 20,
) -> Probes:
    """Probes of a canonical mesh [V, 3] m, [F, 3], whose faces [F] belong to parts 0 .. len(joints) - 1.

    side: nodes along each side of a lattice. A part without faces hides nothing.
    """
    from avatars.lighting import probe_kernels  # numba, for baking only
    from avatars.rendering import jit

    directions = pixel_directions(probe_kernels.ROWS, probe_kernels.COLUMNS)
    area = row_solid_angles(probe_kernels.ROWS, probe_kernels.COLUMNS)[:, None, None]
    weights = (basis5(directions) * area).reshape(-1, COUNT).numpy()
    lows, highs, tables = [], [], []
    for part in range(len(joints)):
        triangles = np.ascontiguousarray(np.asarray(vertices, np.float64)[faces[part_of_face == part]])
        corners = triangles.reshape(-1, 3) if len(triangles) else np.zeros((1, 3))
        low, high = corners.min(0) - MARGIN_M, corners.max(0) + MARGIN_M
        axes = [np.linspace(low[axis], high[axis], side) for axis in range(3)]
        nodes = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        out = np.empty((len(nodes), COUNT))
        jit.run(probe_kernels.bake, nodes, triangles, always(len(triangles)), REACH_M, directions.numpy(), weights, out)
        lows.append(low)
        highs.append(high)
        tables.append(out.reshape(side, side, side, COUNT))
    return Probes(
        joints,
        torch.from_numpy(np.stack(lows)).float(),
        torch.from_numpy(np.stack(highs)).float(),
        torch.from_numpy(np.stack(tables)).half(),
    )
