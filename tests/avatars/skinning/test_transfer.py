"""Weights carried from a body to cloth: exact on the body itself, smooth where nothing is near, always a partition."""

from __future__ import annotations

import numpy as np
import pytest

from avatars.skinning.closest_points import closest_points
from avatars.skinning.transfer import inpainted, laplacian, transfer_weights
from avatars.templates.big_pose import big_pose, surface_triangles
from avatars.templates.opening import embedded_template
from shared.errors import EffigyError


def grid(n: int) -> tuple[np.ndarray, np.ndarray]:
    """A flat unit square of n x n cells, two triangles each, facing +z."""
    x, y = np.meshgrid(np.linspace(0, 1, n + 1), np.linspace(0, 1, n + 1), indexing="ij")
    i, j = (part.ravel() for part in np.meshgrid(np.arange(n), np.arange(n), indexing="ij"))
    a = i * (n + 1) + j
    b, c, d = a + n + 1, a + n + 2, a + 1
    triangles = np.concatenate((np.stack((a, b, c), 1), np.stack((a, c, d), 1)))
    return np.stack((x.ravel(), y.ravel(), 0 * x.ravel()), 1), triangles


def test_closest_points_are_those_of_all_triangles() -> None:
    rng = np.random.default_rng(0)
    vertices = rng.normal(0, 1, (60, 3))
    triangles = rng.integers(0, 60, (80, 3))
    triangles = triangles[(triangles[:, 0] != triangles[:, 1]) & (triangles[:, 1] != triangles[:, 2])]
    triangles = triangles[triangles[:, 0] != triangles[:, 2]]
    points = rng.normal(0, 1.5, (200, 3))
    found = closest_points(points, vertices, triangles)
    steps = [(i / 30, j / 30) for i in range(31) for j in range(31 - i)]
    table = np.array([(1 - u - v, u, v) for u, v in steps])
    dense = np.einsum("sk,fkc->fsc", table, vertices[triangles]).reshape(-1, 3)
    brute = np.linalg.norm(points[:, None] - dense[None], axis=2).min(1)
    assert (found.distance_m <= brute + 1e-9).all()
    assert (found.distance_m >= brute - 0.12).all(), "no farther than the spacing of the dense points"
    places = np.einsum("nk,nkc->nc", found.barycentrics, vertices[triangles[found.face]])
    np.testing.assert_allclose(np.linalg.norm(places - points, axis=1), found.distance_m, atol=1e-9)
    assert found.barycentrics.min() >= -1e-9
    with pytest.raises(EffigyError, match="0 triangles"):
        closest_points(points, vertices, triangles[:0])


def test_the_body_gets_its_own_weights_back() -> None:
    arrays = embedded_template("body")
    canonical = big_pose(arrays, preset="man")
    triangles = surface_triangles(arrays, ("skin",))
    rows = np.unique(triangles)
    own = np.searchsorted(rows, triangles)
    found = transfer_weights(
        canonical.vertices[rows], own, canonical.vertices[rows], own, arrays.weights[rows], angle_deg=90
    )
    settled = found.copied
    assert settled.mean() > 0.99
    np.testing.assert_allclose(found.weights[settled], arrays.weights[rows][settled], atol=1e-4)


def test_cloth_over_a_gap_is_filled_smoothly() -> None:
    """A sheet over two strips of body: linear in between, as the bi-Laplacian's minimum is for linear borders."""
    cloth, triangles = grid(24)
    cloth = cloth + [0, 0, 0.01]
    body, body_triangles = grid(24)
    weights = np.stack((1 - body[:, 0], body[:, 0]), 1)
    keep = ((body[body_triangles][..., 0] <= 0.25).all(1)) | ((body[body_triangles][..., 0] >= 0.75).all(1))
    found = transfer_weights(cloth, triangles, body, body_triangles[keep], weights, near_m=0.02)
    assert not found.copied[np.abs(cloth[:, 0] - 0.5) < 0.2].any()
    np.testing.assert_allclose(found.weights, np.stack((1 - cloth[:, 0], cloth[:, 0]), 1), atol=2e-3)


def test_weights_stay_a_partition_and_lonely_pieces_get_some() -> None:
    arrays = embedded_template("body")
    canonical = big_pose(arrays, preset="man")
    skin = surface_triangles(arrays, ("skin",))
    skirt = arrays.faces["skirt"].astype(np.int64)
    skirt = np.concatenate((skirt[:, :3], skirt[:, [0, 2, 3]]))
    rows = np.unique(skirt)
    vertices = np.concatenate((canonical.vertices[rows], [[5, 5, 5], [5.1, 5, 5], [5, 5.1, 5]]))
    triangles = np.concatenate((np.searchsorted(rows, skirt), len(rows) + np.array([[0, 1, 2]])))
    found = transfer_weights(vertices, triangles, canonical.vertices, skin, arrays.weights)
    assert 0.05 < found.copied[: len(rows)].mean() < 0.999
    assert found.copied[-3:].all(), "a piece with nothing near takes the nearest"
    assert found.weights.min() >= 0
    np.testing.assert_allclose(found.weights.sum(1), 1, atol=1e-5)
    edges = np.concatenate((triangles[:, :2], triangles[:, 1:]))
    nearest = transfer_weights(
        vertices, triangles, canonical.vertices, skin, arrays.weights, near_m=10.0, angle_deg=180
    )

    def tears(weights: np.ndarray) -> float:
        jump = np.abs(weights[edges[:, 0]] - weights[edges[:, 1]]).sum(1)
        return float(np.percentile(jump, 99))

    assert tears(found.weights) < 0.85 * tears(nearest.weights), "smoother than the nearest skin's weights"


def test_laplacian_against_hand_made_numbers() -> None:
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    L, mass = laplacian(vertices, np.array([[0, 1, 2]]))
    np.testing.assert_allclose(L.toarray(), [[1, -0.5, -0.5], [-0.5, 0.5, 0], [-0.5, 0, 0.5]], atol=1e-12)
    np.testing.assert_allclose(mass, [1 / 6] * 3)
    flat, index = grid(6)
    L, _ = laplacian(flat, index)
    inner = (flat[:, :2] > 0.01).all(1) & (flat[:, :2] < 0.99).all(1)
    np.testing.assert_allclose((L @ flat[:, 0])[inner], 0, atol=1e-12)
    all_known = np.ones(len(flat), bool)
    weights = np.stack((flat[:, 0], 1 - flat[:, 0]), 1)
    np.testing.assert_allclose(inpainted(flat, index, weights, all_known), weights)
    sliver = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    assert np.isfinite(laplacian(sliver, np.array([[0, 1, 2]]))[0].toarray()).all()
