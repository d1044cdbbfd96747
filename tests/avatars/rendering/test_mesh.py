"""The triangle rasteriser against a brute-force numpy version."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from avatars.rendering import rasterise_mesh
from shared.errors import EffigyError


def brute_force(vertices: NDArray, faces: NDArray, width: int, height: int) -> tuple[NDArray, NDArray, NDArray]:
    """Every face at every pixel centre, by ray: solve for the point of the face's plane that projects to the pixel."""
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    face_id = np.full((height, width), -1)
    weights = np.zeros((height, width, 3))
    depth = np.full((height, width), np.inf)
    for index, face in enumerate(faces):
        corners = vertices[face]
        if (corners[:, 2] <= 0).any():
            continue
        # Rows of the homogeneous corners z (x, y, 1): a pixel is their sum with weights b_i >= 0, up to scale.
        homogeneous = np.column_stack([corners[:, :2], np.ones(3)]) * corners[:, 2:]
        if abs(np.linalg.det(homogeneous)) < 1e-12:
            continue
        solved = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ np.linalg.inv(homogeneous)
        total = solved.sum(axis=-1)
        inside = (solved > 0).all(axis=-1)
        here = np.where(inside, 1.0 / np.where(inside, total, 1.0), np.inf)
        nearer = here < depth
        face_id[nearer], depth[nearer] = index, here[nearer]
        weights[nearer] = (solved / np.where(inside, total, 1.0)[..., None])[nearer]
    return face_id, weights, np.where(np.isfinite(depth), depth, 0.0)


def on_grid(values: NDArray) -> NDArray:
    """Snapped to the subpixel grid, so that the brute force sees the same triangles."""
    return np.rint(values * 256) / 256


@pytest.mark.parametrize("seed", range(4))
def test_same_as_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    width, height = 41, 27
    vertices = np.column_stack([on_grid(rng.uniform(-10, 50, (60, 2)) + 1 / 512), rng.uniform(0.5, 5, 60)])
    vertices[0, 2] = -1.0
    faces = rng.integers(0, 60, (25, 3))
    face_id, weights, depth = rasterise_mesh(vertices, faces, width, height)
    want_id, want_weights, want_depth = brute_force(vertices, faces, width, height)
    assert (face_id == want_id).mean() > 0.999  # a centre exactly on an edge may differ
    same = face_id == want_id
    np.testing.assert_allclose(weights[same], want_weights[same], atol=1e-5)
    np.testing.assert_allclose(depth[same], want_depth[same], rtol=1e-5)
    assert (face_id >= 0).any()


def test_every_pixel_of_a_tiled_square_is_hit_exactly_once() -> None:
    """A grid of triangles whose edges run through pixel centres: the areas of single faces add up to the square."""
    side, cells = 24, 6
    ticks = np.linspace(0.5, side - 0.5, cells + 1)
    x, y = np.meshgrid(ticks, ticks)
    vertices = np.column_stack([x.ravel(), y.ravel()])
    faces = []
    for row in range(cells):
        for column in range(cells):
            a = row * (cells + 1) + column
            b, c, d = a + 1, a + cells + 1, a + cells + 2
            faces += [[a, b, d], [a, d, c]] if (row + column) % 2 else [[a, b, c], [d, b, c]]
    hits = np.zeros((side, side), int)
    for face in faces:
        hits += rasterise_mesh(vertices, [face], side, side)[0] >= 0
    assert (hits[: side - 1, : side - 1] == 1).all()  # the last row and column lie on the bottom and right edges
    assert not hits[side - 1].any()
    assert not hits[:, side - 1].any()


def test_barycentrics_interpolate_uv_without_depth() -> None:
    vertices = np.array([[1.0, 1.0], [30.0, 4.0], [7.0, 28.0]])
    face_id, weights, depth = rasterise_mesh(vertices, [[0, 1, 2]], 32, 32)
    rows, columns = np.nonzero(face_id == 0)
    np.testing.assert_allclose(weights[rows, columns] @ vertices, np.column_stack([columns, rows]) + 0.5, atol=1e-3)
    assert not depth.any()
    assert not weights[face_id < 0].any()


def test_the_first_face_wins_where_a_layout_overlaps() -> None:
    vertices = np.array([[0.0, 0.0], [16.0, 0.0], [0.0, 16.0], [16.0, 16.0]])
    assert set(np.unique(rasterise_mesh(vertices, [[0, 1, 2], [2, 1, 0]], 16, 16)[0])) == {-1, 0}


def test_degenerate_input() -> None:
    nothing = rasterise_mesh(np.zeros((0, 2)), np.zeros((0, 3), int), 4, 3)
    assert (nothing[0] == -1).all()
    broken = np.array([[np.nan, 0, 1], [8, 0, 1], [0, 8, 1], [1e12, 0, 1], [4, 4, 1], [4, 4, 1]])
    assert (rasterise_mesh(broken, [[0, 1, 2], [3, 1, 2], [1, 4, 5], [2, 2, 2]], 8, 8)[0] == -1).all()
    with pytest.raises(EffigyError, match="point outside"):
        rasterise_mesh(broken, [[0, 1, 9]], 8, 8)
    with pytest.raises(EffigyError, match="faces have the wrong shape"):
        rasterise_mesh(broken, [[0, 1, 2, 2]], 8, 8)
