"""The template's distance on a grid: exact near the surface, one sign a region, with the slope it has."""

from __future__ import annotations

import numpy as np
import torch

from avatars.skinning.closest_points import closest_points
from avatars.surface_body.base_distance import distance_grid


def ball(radius: float = 0.3, rings: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """A closed sphere of triangles, outwards counter-clockwise."""
    polar, about = np.linspace(0, np.pi, rings + 1)[1:-1], np.arange(2 * rings) * np.pi / rings
    p, a = np.meshgrid(polar, about, indexing="ij")
    sides = np.stack((np.sin(p) * np.cos(a), np.sin(p) * np.sin(a), np.cos(p)), -1).reshape(-1, 3)
    vertices = np.concatenate((sides, [[0, 0, 1], [0, 0, -1]])) * radius
    n, faces = 2 * rings, []
    for ring in range(rings - 2):
        for k in range(n):
            a0, a1 = ring * n + k, ring * n + (k + 1) % n
            faces += [(a0, a0 + n, a1), (a1, a0 + n, a1 + n)]
    top, last = len(sides), (rings - 2) * n
    for k in range(n):
        faces += [(top, k, (k + 1) % n), (top + 1, last + (k + 1) % n, last + k)]
    return vertices, np.array(faces)


def test_distances_are_true_within_a_millimetre_in_the_band() -> None:
    vertices, faces = ball()
    low, high = np.full(3, -0.5), np.full(3, 0.5)
    grid = distance_grid(vertices, [faces], low, high, 0.01, 0.06)
    rng = np.random.default_rng(1)
    directions = rng.normal(size=(4000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    points = directions * rng.uniform(0.25, 0.35, (4000, 1))
    sign = np.sign(np.linalg.norm(points, axis=1) - 0.2995)  # a faceted ball is a little smaller
    truth = closest_points(points, vertices, faces).distance_m
    found, slope = grid.with_gradient(torch.from_numpy(points).float())
    clear = truth > 1.5e-3
    assert np.abs(found.numpy() - sign * truth)[clear].max() < 1e-3
    assert np.abs(np.abs(found.numpy()) - truth).max() < 1.5e-3
    assert float((slope * torch.from_numpy(directions).float()).sum(-1).min()) > 0.9


def test_far_places_have_the_right_sign_and_outside_the_grid_distance_grows() -> None:
    vertices, faces = ball()
    grid = distance_grid(vertices, [faces], np.full(3, -0.5), np.full(3, 0.5), 0.02, 0.05)
    found = grid.at(torch.tensor([[0.0, 0, 0], [0.49, 0.49, 0.49], [2.0, 0, 0]]))
    assert found[0] < -0.2
    assert found[1] > 0.3
    assert abs(float(found[2]) - 1.7) < 0.02


def test_slopes_are_finite_differences() -> None:
    vertices, faces = ball(rings=10)
    grid = distance_grid(vertices, [faces], np.full(3, -0.5), np.full(3, 0.5), 0.04, 0.05)
    grid = type(grid)(
        grid.values.double(),
        type(grid.lattice)(*(v.double() for v in (grid.lattice.low, grid.lattice.per_m)), grid.lattice.shape),
    )
    places = torch.rand(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.8 - 0.4
    _, slope = grid.with_gradient(places)
    step = 1e-6
    for axis in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[axis] = step
        change = (grid.at(places + shift) - grid.at(places - shift)) / (2 * step)
        assert torch.allclose(change, slope[:, axis], atol=1e-6)


def test_pieces_are_taken_together() -> None:
    vertices, faces = ball(0.2, 12)
    both = np.concatenate((vertices - [0.15, 0, 0], vertices + [0.15, 0, 0]))
    grid = distance_grid(both, [faces, faces + len(vertices)], np.full(3, -0.5), np.full(3, 0.5), 0.02, 0.06)
    found = grid.at(torch.tensor([[-0.15, 0.0, 0.0], [0.0, 0.0, 0.0], [0.15, 0, 0], [0.0, 0.0, 0.3]]))
    assert (found[:3] < 0).all()
    assert found[3] > 0
