"""Points spread over a surface: the right number, even, repeatable, and by the rule of a plain elimination."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from avatars.skinning.surface_points import eliminate, radii, random_points, sample_surface
from avatars.templates.big_pose import big_pose, surface_triangles
from avatars.templates.opening import embedded_template
from shared.errors import EffigyError


def square() -> tuple[np.ndarray, np.ndarray]:
    """A unit square of two triangles facing +z."""
    return np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]), np.array([[0, 1, 2], [0, 2, 3]])


def plain_elimination(points: np.ndarray, normals: np.ndarray, count: int, area_m2: float) -> np.ndarray:
    """The same rule with all pairs at once."""
    largest, smallest = radii(count, len(points), area_m2)
    distance = np.maximum(np.linalg.norm(points[:, None] - points[None], axis=2), 2 * smallest)
    weight = np.clip(1 - distance / (2 * largest), 0, None) ** 8 * (normals @ normals.T >= 0)
    np.fill_diagonal(weight, 0)
    alive = np.ones(len(points), bool)
    while alive.sum() > count:
        crowded = np.where(alive, weight[:, alive].sum(1), -1.0)
        alive[np.argmax(crowded)] = False
    return np.flatnonzero(alive)


def test_it_eliminates_as_the_plain_rule_does() -> None:
    vertices, triangles = square()
    corners = vertices[triangles]
    points, face, _ = random_points(corners, np.ones(2), 300, 3)
    points = points + 0.02 * (face[:, None] == 1) * np.array([0, 0, 1.0])
    normals = np.where(face[:, None] == 1, [[0, 0, -1.0]], [[0, 0, 1.0]])
    kept = eliminate(points, normals, 60, 1.0)
    assert kept.tolist() == plain_elimination(points, normals, 60, 1.0).tolist()


def test_points_are_even_and_the_same_again() -> None:
    vertices, triangles = square()
    first = sample_surface(vertices, triangles, 2000, seed=4)
    again = sample_surface(vertices, triangles, 2000, seed=4)
    other = sample_surface(vertices, triangles, 2000, seed=5)
    assert len(first) == 2000
    assert np.array_equal(first.face, again.face)
    assert np.array_equal(first.barycentrics, again.barycentrics)
    assert not np.array_equal(first.barycentrics, other.barycentrics)
    assert first.barycentrics.min() >= 0
    np.testing.assert_allclose(first.barycentrics.sum(1), 1, atol=1e-6)
    places = first.at(vertices, triangles)
    nearest = cKDTree(places).query(places, k=2)[0][:, 1]
    largest, _ = radii(2000, 10000, 1.0)
    assert nearest.min() > 0.6 * largest, "random points would come as near as 0.02"
    assert abs((places[:, 0] < 0.5).mean() - 0.5) < 0.02


def test_a_body_gets_points_everywhere_with_exact_weights() -> None:
    arrays = embedded_template("body")
    canonical = big_pose(arrays, preset="man")
    triangles = surface_triangles(arrays)
    points = sample_surface(canonical.vertices, triangles, 3000, seed=0)
    weights = points.at(arrays.weights, triangles)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    assert weights.min() >= 0
    main = np.bincount(weights.argmax(1), minlength=len(arrays.joint_names))
    for name in ("head", "left_hip", "right_knee", "left_elbow", "spine3", "left_index1"):
        assert main[arrays.joint(name)] > 0, f"no point follows {name}"


@pytest.mark.parametrize("count", [1, 7])
def test_few_points_are_possible(count: int) -> None:
    assert len(sample_surface(*square(), count)) == count


def test_degenerate_meshes_and_counts_are_refused() -> None:
    vertices, triangles = square()
    with pytest.raises(EffigyError, match="no area"):
        sample_surface(np.zeros_like(vertices), triangles, 10)
    with pytest.raises(EffigyError, match="at least one"):
        sample_surface(vertices, triangles, 0)
    thin = np.concatenate((triangles, [[0, 0, 1]]))
    assert sample_surface(vertices, thin, 50).face.max() < 2, "a triangle without area gets no point"
