"""How a mesh's vertices are moved and held: neighbours together, faces alike, near where they began."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatars.rendering.mesh_edges import MeshEdges
from avatars.training import ranks


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Who is beside whom. edges: of the faces; around: [V, V] sparse, the mean of each vertex's neighbours (itself,
    where it has none), and turned over; edge_m: mean length of the mesh it was made of."""

    edges: MeshEdges
    around: Tensor
    turned: Tensor
    edge_m: float

    @staticmethod
    def of(vertices: Tensor, faces: Tensor) -> Neighbours:
        """Those of a mesh with vertices [V, 3] m and faces [F, 3]."""
        edges, count = MeshEdges.of(faces), len(vertices)
        ends = torch.cat((edges.ends, edges.ends.flip(1)))
        degree = torch.bincount(ends[:, 0], minlength=count)
        alone = torch.nonzero(degree == 0)[:, 0]
        ends = torch.cat((ends, alone[:, None].expand(-1, 2)))
        shares = 1.0 / degree.clamp_min(1).to(vertices.dtype)[ends[:, 0]]
        around = torch.sparse_coo_tensor(ends.T, shares, (count, count), check_invariants=True).coalesce()
        length = (vertices[edges.ends[:, 0]] - vertices[edges.ends[:, 1]]).norm(dim=-1)
        return Neighbours(edges, around, around.t().coalesce(), float(length.mean()) if len(length) else 0.0)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of each vertex's neighbours' values [V, C]; differentiable."""
        return _Mean.apply(values, self.around, self.turned)  # type: ignore[no-any-return]

    def smoothed(self, values: Tensor, passes: int) -> Tensor:
        """Values [V, C], each halfway towards the mean of its neighbours' in each pass; differentiable."""
        for _ in range(passes):
            values = 0.5 * (values + self.mean(values))
        return values

    def levelled(self, values: Tensor, passes: int) -> Tensor:
        """Values [V, C] without their roughness, but no smaller as a whole: each pass goes towards the neighbours' mean
        and a little more away from it again (Taubin 1995)."""
        for _ in range(passes):
            for share in (0.5, -0.53):
                values = values + share * (self.mean(values) - values)
        return values

    def unevenness(self, values: Tensor) -> Tensor:
        """Mean square of how far values [V, C] are from the mean of their neighbours', a scalar."""
        return (values - self.mean(values)).square().sum(-1).mean()


class _Mean(torch.autograd.Function):
    """`Neighbours.mean`. PyTorch's own gradient of it sorts the whole matrix again in every step."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, around: Tensor, turned: Tensor) -> Tensor:
        """Product with `around`."""
        ctx.turned = turned
        found: Tensor = torch.sparse.mm(around, values)
        return found

    @staticmethod
    def backward(ctx: Any, *by: Tensor) -> tuple[Tensor, None, None]:
        """Product with it turned over."""
        return torch.sparse.mm(ctx.turned, by[0].contiguous()), None, None


def face_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals [F, 3] of vertices [V, 3]; 0 for faces without area."""
    corners = vertices.index_select(0, faces.flatten()).view(-1, 3, 3)
    across = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return normalize(across, dim=-1, eps=1e-12)


def bends(vertices: Tensor, faces: Tensor, edges: MeshEdges) -> Tensor:
    """Mean of 1 - cosine between the normals of faces that share an edge, a scalar."""
    pairs = edges.faces[edges.faces[:, 1] >= 0]
    normals = face_normals(vertices, faces)
    both = normals.index_select(0, pairs.flatten()).view(-1, 2, 3)
    return (1 - (both[:, 0] * both[:, 1]).sum(-1)).sum() / max(len(pairs), 1)


def calmed(gradient: Tensor, most: float = 10.0, share: float = 1.0) -> Tensor:
    """A gradient [..., 3] in which no row is longer than `most` times the mean square one, and none is broken.

    share: these rows are that part of a step's, and other processes have the others (`ranks.Part`).
    Faces seen edge-on tell little about where their vertices should go, very loudly.
    """
    found = torch.nan_to_num(gradient, 0.0, 0.0, 0.0)
    length = found.norm(dim=-1, keepdim=True)
    usual = ranks.summed(share * length.square().mean()).sqrt()
    held: Tensor = found * (most * usual / length.clamp_min(1e-30)).clamp(max=1)
    return held
