"""A closed mesh's signed distance on a grid of nodes, and looking it up with its slope (method page 12.1).

Exact near the surface; farther off, where only its sign and rough size count, interpolated from a coarser grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.skinning.face_tree import FaceTree
from avatars.surface_body.trilinear import Lattice, trilinear

COARSER = 6
"""Nodes of the coarse grid are so many fine ones apart."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DistanceGrid:
    """values: [Z*Y*X, 1] m, negative inside, on the nodes of `lattice`; trilinear between. Outside the lattice the
    nearest place on it counts, and how far that is away is added."""

    values: Tensor
    lattice: Lattice

    def at(self, places: Tensor) -> Tensor:
        """Signed distance [P] m at places [P, 3] m; its gradient in the places is the trilinear one."""
        return self.with_gradient(places)[0]

    def with_gradient(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Signed distance [P] m and its gradient [P, 3]. The latter counts as a constant."""
        flat = places.detach()
        held = self.lattice.held(flat)
        found, steep = trilinear(self.values, self.lattice, held, slopes=True)
        beyond = flat - held
        far = beyond.norm(dim=-1)
        outwards = beyond / far.clamp_min(1e-9)[:, None]
        distance, gradient = found[:, 0] + far, torch.where(far[:, None] > 0, outwards, steep[..., 0])
        if places.requires_grad:
            distance = distance + (gradient * (places - flat)).sum(-1)
        return distance, gradient


def distance_grid(
    vertices: Floats,
    pieces: Sequence[NDArray[np.integer]],
    low: Floats,
    high: Floats,
    spacing_m: float,
    band_m: float,
    device: torch.device | str = "cpu",
) -> DistanceGrid:
    """The grid of closed pieces (triangles [F, 3] each, outwards counter-clockwise; vertices [V, 3] m) taken together,
    over a box low..high [3] m. Within band_m of the surface values are exact at the nodes.
    """
    shape = np.maximum(np.ceil((high - low) / spacing_m).astype(np.int64) + 1, 2)
    coarse = np.maximum(-(-(shape - 1) // COARSER) + 1, 2)
    meshes = [_Mesh(vertices, faces) for faces in pieces]

    def signed(places: Floats) -> Floats:
        nearest: Floats = np.min([mesh.signed(places) for mesh in meshes], 0)
        return nearest

    wide = signed(_nodes(low, coarse, spacing_m * COARSER)).reshape(coarse)
    _mend_signs(wide, spacing_m * COARSER)
    values = _refined(wide, COARSER)[: shape[0], : shape[1], : shape[2]].copy()
    reach = band_m + spacing_m * COARSER * np.sqrt(3)
    fine = np.argwhere(np.abs(values) < reach)
    values[tuple(fine.T)] = signed(low + fine * spacing_m)
    _mend_signs(values, spacing_m)
    rows = torch.from_numpy(values.transpose(2, 1, 0).reshape(-1, 1).astype(np.float32)).to(device)
    return DistanceGrid(rows.contiguous(), Lattice.over(low, spacing_m, shape, device))


class _Mesh:
    """Signed distances by the angle-weighted normals of what is nearest: face, edge or corner (Baerentzen and Aanaes
    2005)."""

    def __init__(self, vertices: Floats, faces: NDArray[np.integer]) -> None:
        self.vertices, self.faces = np.asarray(vertices, np.float64), np.asarray(faces, np.int64)
        self.tree = FaceTree(self.vertices, self.faces)
        corners = self.vertices[self.faces]
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        self.normals = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-30)
        self.at_corners = np.zeros_like(self.vertices)
        edges = np.sort(np.stack((self.faces[:, [1, 2]], self.faces[:, [2, 0]], self.faces[:, [0, 1]]), 1), -1)
        _, self.edge_of = np.unique(edges.reshape(-1, 2), axis=0, return_inverse=True)
        self.edge_of = self.edge_of.reshape(-1, 3)
        self.at_edges = np.zeros((int(self.edge_of.max()) + 1, 3))
        for corner in range(3):
            one = corners[:, (corner + 1) % 3] - corners[:, corner]
            two = corners[:, (corner + 2) % 3] - corners[:, corner]
            length = np.maximum(np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1), 1e-30)
            angle = np.arccos(np.clip((one * two).sum(1) / length, -1, 1))
            np.add.at(self.at_corners, self.faces[:, corner], angle[:, None] * self.normals)
            np.add.at(self.at_edges, self.edge_of[:, corner], self.normals)

    def signed(self, points: Floats) -> Floats:
        """Signed distances [N] m of points [N, 3] m."""
        face, shares, distance = self.tree.nearest(points)
        place = (shares[..., None] * self.vertices[self.faces[face]]).sum(1)
        gone = shares < 1e-9
        normal, kept = self.normals[face], 3 - gone.sum(1)
        for corner in range(3):  # on the edge opposite to a corner without weight, or at the only one that has any
            edge = np.flatnonzero(gone[:, corner] & (kept == 2))
            normal[edge] = self.at_edges[self.edge_of[face[edge], corner]]
            alone = np.flatnonzero(~gone[:, corner] & (kept == 1))
            normal[alone] = self.at_corners[self.faces[face[alone], corner]]
        return np.where(((points - place) * normal).sum(1) >= 0, distance, -distance)


def _nodes(low: Floats, shape: NDArray[np.int64], spacing: float) -> Floats:
    axes = [low[axis] + spacing * np.arange(shape[axis]) for axis in range(3)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def _refined(coarse: Floats, factor: int) -> Floats:
    """Trilinear between coarse nodes, [n * factor + 1] along each axis of n + 1."""
    found = coarse
    for axis in range(3):
        count = found.shape[axis]
        steps = np.arange((count - 1) * factor + 1)
        cell = np.minimum(steps // factor, count - 2)
        share = (steps / factor - cell).reshape([-1 if a == axis else 1 for a in range(3)])
        found = np.take(found, cell, axis) * (1 - share) + np.take(found, cell + 1, axis) * share
    return found


def _mend_signs(values: Floats, spacing: float) -> None:
    """One sign for each connected region away from the surface: outside where it touches the box, else the majority's.

    Where a template is not quite closed or cuts itself, normals alone leave wrong islands.
    """
    from scipy.ndimage import label, sum_labels

    regions, count = label(np.abs(values) > spacing)
    if not count:
        return
    number = np.arange(1, count + 1)
    outside = sum_labels(np.sign(values), regions, number) >= 0
    sides = [np.take(regions, end, axis) for axis in range(3) for end in (0, -1)]
    touching = np.unique(np.concatenate([side.ravel() for side in sides]))
    outside[touching[touching > 0] - 1] = True
    sign = np.concatenate(([0.0], np.where(outside, 1.0, -1.0)))[regions]
    np.copyto(values, np.abs(values) * sign, where=regions > 0)
