"""Mesh arithmetic of the generator against hand-made and brute-force values."""

from __future__ import annotations

import numpy as np
import pytest

from blender_addon.synthesise import noise, surface


def grid(n: int) -> tuple[np.ndarray, np.ndarray]:
    """A flat n x n grid of unit quads in the x-y plane, facing +z."""
    x, y = np.meshgrid(np.arange(n + 1.0), np.arange(n + 1.0), indexing="ij")
    vertices = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], axis=1)
    i, j = (part.ravel() for part in np.meshgrid(np.arange(n), np.arange(n), indexing="ij"))
    k = i * (n + 1) + j
    return vertices, np.stack([k, k + n + 1, k + n + 2, k + 1], axis=1).astype(np.int32)


def polygon_area(points: np.ndarray) -> float:
    x, y = points[:, 0], points[:, 1]
    return float(0.5 * abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()))


def test_clipping_keeps_exactly_the_positive_side() -> None:
    vertices, faces = grid(6)
    level = vertices @ np.array([1.0, 0.5, 0.0]) - 2.3
    clipped = surface.clip_to_level(faces, level)
    points = clipped.at(vertices)
    kept = sum(polygon_area(points[list(polygon)]) for polygon in clipped.polygons)
    cut_off = 0.5 * 2.3 * 4.6  # the triangle below the line, with legs 2.3 and 4.6
    assert kept == pytest.approx(36 - cut_off, abs=1e-9)
    assert (clipped.at(level[:, None])[:, 0] >= -1e-12).all()
    edges, border = surface.edges_of(clipped.polygons)
    inner_border = [k for k in np.unique(edges[border]) if 0 < points[k, 0] < 6 and 0 < points[k, 1] < 6]
    np.testing.assert_allclose(clipped.at(level[:, None])[inner_border, 0], 0, atol=1e-12)
    assert len(inner_border) > 5


@pytest.mark.parametrize(("sign", "count"), [(1.0, 4), (-1.0, 0)])
def test_clipping_all_or_nothing(sign: float, count: int) -> None:
    vertices, faces = grid(2)
    assert len(surface.clip_to_level(faces, np.full(len(vertices), sign)).polygons) == count


def test_scatter_follows_density() -> None:
    vertices, faces = grid(4)
    tri = surface.triangles(faces)
    density = (vertices[:, 0] >= 2).astype(float)
    points = surface.scatter(vertices, tri, density, 4000, np.random.default_rng(1)).at(vertices)
    assert len(points) > 2000
    assert points[:, 0].min() > 1.0
    assert np.abs(points[points[:, 0] > 2].mean(0) - [3, 2, 0]).max() < 0.08
    assert len(surface.scatter(vertices, tri, 0 * density, 10, np.random.default_rng(1))) == 0


def test_normals_and_frames_of_a_flat_grid() -> None:
    vertices, faces = grid(2)
    np.testing.assert_allclose(surface.vertex_normals(vertices, faces), np.tile([0, 0, 1.0], (9, 1)))
    frames = surface.triangle_frames(vertices, surface.triangles(faces))
    np.testing.assert_allclose(np.einsum("nab,nac->nbc", frames, frames), np.tile(np.eye(3), (8, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(frames), 1)


def test_degenerate_quads_give_one_triangle() -> None:
    assert surface.triangles(np.array([[0, 1, 2, 2]], np.int32)).tolist() == [[0, 1, 2]]


def test_nearest_index_is_exhaustive() -> None:
    rng = np.random.default_rng(2)
    points, targets = rng.random((500, 3)), rng.random((40, 3))
    brute = np.linalg.norm(points[:, None] - targets[None], axis=2).argmin(1)
    assert (surface.nearest_index(points, targets, chunk=64) == brute).mean() > 0.995


def test_relaxing_keeps_fixed_points_and_flattens_the_rest() -> None:
    vertices, faces = grid(4)
    rough = vertices + np.random.default_rng(3).normal(0, 0.1, vertices.shape)
    edges, border = surface.edges_of(tuple(map(tuple, faces.tolist())))
    fixed = np.zeros(len(vertices), bool)
    fixed[edges[border].ravel()] = True
    smooth = surface.relax(rough, edges, fixed, 10)
    np.testing.assert_array_equal(smooth[fixed], rough[fixed])
    assert np.abs(smooth[~fixed, 2]).max() < np.abs(rough[~fixed, 2]).max()


def test_noise_is_seeded_smooth_and_in_range() -> None:
    points = np.random.default_rng(4).uniform(-5, 5, (4000, 3))
    values = noise.fractal_noise(points, 3.0, 3, seed=5)
    assert 0 <= values.min() < 0.35
    assert 0.65 < values.max() <= 1
    np.testing.assert_array_equal(values, noise.fractal_noise(points, 3.0, 3, seed=5))
    assert np.abs(values - noise.fractal_noise(points, 3.0, 3, seed=6)).max() > 0.2
    assert np.abs(values - noise.fractal_noise(points + 1e-5, 3.0, 3, seed=5)).max() < 1e-3
