"""A first set of surfels on a canonical mesh, and the probes of that mesh."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from avatars.gaussians.posed import quaternion_from_matrix
from avatars.lighting.probes import Probes, bake_probes
from avatars.relit_body.person import Person
from avatars.relit_body.surfels import Surfels, logit

MAX_PROBE_FACES = 8_000

CROWDED = 3
"""So many times the surfels are drawn; those that crowd go, since gaps between them show the far side."""
WIDE = 0.7
"""First standard deviation of a surfel over the distance of its neighbours: together they just cover the surface."""


def sampled(vertices: Tensor, faces: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Points [count, 3] spread evenly by area over a mesh [V, 3], [F, 3], and the normals [count, 3] of their faces."""
    corners = vertices[faces]
    across = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = across.norm(dim=-1)
    # One draw in each of `count` equal parts of the area: even, without clumps along the list of faces.
    marks = area.double().cumsum(0)
    drawn = (
        torch.arange(count, dtype=torch.float64) + torch.rand(count, generator=generator, dtype=torch.float64)
    ) / count
    face = torch.searchsorted(marks, drawn * marks[-1]).clamp(max=len(faces) - 1)
    u = torch.rand(count, 2, generator=generator)
    root = u[:, :1].sqrt()
    shares = torch.cat([1 - root, root * (1 - u[:, 1:]), root * u[:, 1:]], dim=-1)
    points = (corners[face] * shares[..., None]).sum(1)
    return points, torch.nn.functional.normalize(across[face], dim=-1)


def thinned(points: Tensor, normals: Tensor, count: int) -> Tensor:
    """Rows [count] of points [N, 3] m, N > count, that lie evenly: of close pairs one goes until so many are left.

    normals: [N, 3]; points whose normals differ, such as on both sides of an ear, count as farther apart.
    """
    apart = float(((points - points.mean(0)) ** 2).sum(-1).mean().sqrt()) / max(count, 1) ** 0.5
    places = torch.cat([points, 2 * apart * normals], dim=-1).numpy()
    kept = np.arange(len(points))
    while len(kept) > count:
        distance, near = cKDTree(places[kept]).query(places[kept], k=2)
        row = np.arange(len(kept))
        other = near[:, 1]
        first = np.flatnonzero((other[other] == row) & (row < other))  # each other's nearest
        if not len(first):
            return torch.from_numpy(kept[:count])
        order = first[np.argsort(distance[first, 1], kind="stable")][: len(kept) - count]
        kept = np.delete(kept, order)
    return torch.from_numpy(kept)


def turns_to(normals: Tensor) -> Tensor:
    """Quaternions [N, 4] whose third axis is `normals` [N, 3]; the others are any."""
    helper = torch.where(
        (normals[:, 2:].abs() < 0.9),
        torch.tensor([0.0, 0.0, 1.0]).to(normals),
        torch.tensor([1.0, 0.0, 0.0]).to(normals),
    )
    first = torch.nn.functional.normalize(torch.linalg.cross(helper, normals), dim=-1)
    return quaternion_from_matrix(torch.stack([first, torch.linalg.cross(normals, first), normals], dim=-1))


def first_surfels(
    person: Person,
    vertices: Tensor,
    faces: Tensor,
    count: int,
    *,
    spare: int = 0,
    opacity: float = 0.1,
    seed: int = 0,
) -> Surfels:
    """`count` surfels spread over a canonical mesh, wide enough to cover it, grey; `spare` more, unused."""
    generator = torch.Generator().manual_seed(seed)
    points, normals = sampled(vertices.cpu().float(), faces.cpu(), CROWDED * count, generator)
    chosen = thinned(points, normals, count)
    points, normals = points[chosen], normals[chosen]
    distance = cKDTree(points.numpy()).query(points.numpy(), k=min(4, count))[0]
    apart = (
        torch.from_numpy(np.sqrt((distance.reshape(count, -1)[:, 1:] ** 2).mean(1))).float().clamp(1e-4, 0.05) * WIDE
    )
    total = count + spare

    def padded(values: Tensor) -> Tensor:
        return torch.cat([values, values[:1].expand(spare, *values.shape[1:])]) if spare else values

    values = {
        "positions": padded(points),
        "quats": padded(turns_to(normals)),
        "scales": padded(apart.log()[:, None].repeat(1, 2)),
        "opacities": torch.full((total,), math.log(opacity / (1 - opacity))),
        "albedo": torch.zeros(total, 3),
        "roughness": torch.zeros(total),
        "metallic": logit(torch.full((total,), 0.05)),
    }
    return Surfels(person, person.skin_of(values["positions"]), values, torch.arange(total) < count)


def part_probes(person: Person, vertices: Tensor, faces: Tensor, side: int) -> Probes:
    """Probes of a canonical mesh, its faces dealt to the person's parts by the nearest vertex of the template."""
    joints, part_of_vertex = person.parts()
    points, triangles = coarse(vertices.cpu().numpy(), faces.cpu().numpy(), MAX_PROBE_FACES)
    used = np.unique(person.faces)
    _, near = cKDTree(person.vertices.numpy()[used]).query(points[triangles].mean(1))
    return bake_probes(points, triangles, part_of_vertex[used[near]], joints, side)


def coarse(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], most: int
) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
    """A mesh with at most about `most` faces: vertices snapped to a grid that grows until it fits."""
    step = 0.004
    found, left = vertices, faces
    while len(left) > most:
        cells, index = np.unique(np.floor(vertices / step).astype(np.int64), axis=0, return_inverse=True)
        index = index.reshape(-1)
        found = np.zeros((len(cells), 3))
        np.add.at(found, index, vertices)
        found /= np.bincount(index)[:, None]
        left = index[faces]
        left = left[(left[:, 0] != left[:, 1]) & (left[:, 1] != left[:, 2]) & (left[:, 2] != left[:, 0])]
        step *= 1.3
    return found, left
