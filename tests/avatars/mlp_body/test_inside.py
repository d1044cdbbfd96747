"""The inside of the head: found by rays as a plain loop finds it, and lit like the skin over it."""

from __future__ import annotations

import numpy as np

from avatars.mlp_body.initial import sample, surface_triangles
from avatars.mlp_body.inside import REACH_M, START_M, looks_inside
from avatars.mlp_body.settings import DENSITY
from avatars.mlp_body.skeleton import Canonical
from tests.tiny_body import tiny_body


def plain(points: np.ndarray, normals: np.ndarray, vertices: np.ndarray, triangles: np.ndarray) -> list[bool]:
    """One linear system a ray and triangle: p + t n = a + u (b - a) + v (c - a)."""
    found = []
    for point, normal in zip(points, normals, strict=True):
        met = False
        for a, b, c in vertices[triangles]:
            system = np.stack([b - a, c - a, -normal], 1)
            if abs(np.linalg.det(system)) < 1e-14:
                continue
            u, v, t = np.linalg.solve(system, point - a)
            met |= bool(u >= 0 and v >= 0 and u + v <= 1 and START_M < t < REACH_M)
        found.append(met)
    return found


def test_rays_meet_what_a_plain_loop_says() -> None:
    draw = np.random.default_rng(3)
    vertices = draw.normal(0, 0.05, (40, 3))
    triangles = draw.integers(0, 40, (30, 3))
    triangles[0] = (5, 5, 6)  # of no area
    points, normals = draw.normal(0, 0.05, (200, 3)), draw.normal(size=(200, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    found = looks_inside(points, normals, vertices, triangles)
    assert found.tolist() == plain(points, normals, vertices, triangles)
    assert 0.1 < found.mean() < 0.9


def test_nothing_before_a_point_is_no_inside() -> None:
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    points = np.array([[0.5, 0.4, 0.0], [0.5, 0.4, -0.05], [0.5, 0.4, -0.5], [0.5, 0.4, 0.05], [1.5, 0.4, -0.05]])
    up = np.tile([0.0, 0, 1], (5, 1))
    assert looks_inside(points, up, square, triangles).tolist() == [False, True, False, False, False]
    assert looks_inside(points[:0], up[:0], square, triangles).tolist() == []


def test_the_mouth_takes_the_light_of_the_skin_over_it() -> None:
    canonical: Canonical = tiny_body().canonical
    triangles, density = surface_triangles(canonical.arrays, dict(DENSITY))
    points = sample(canonical, triangles, density, 6000, 0)
    plainly, lit = (
        points.normals(canonical, triangles),
        points.facing(canonical, triangles, canonical.arrays.joint_names),
    )
    np.testing.assert_allclose(np.linalg.norm(lit, axis=1), 1, atol=1e-5)
    head = points.weights[:, [canonical.arrays.joint_names.index(name) for name in ("head", "jaw")]].sum(1) > 0.5
    assert np.array_equal(plainly[~head], lit[~head])
    changed = (plainly != lit).any(1)
    assert 0.05 < changed[head].mean() < 0.5
    # Towards the face's front everything that is seen faces forwards (-y) or sideways; the lining did not.
    centre = points.points[head].mean(0)
    front = head & changed & (points.points[:, 1] < centre[1] - 0.04)
    assert (plainly[front, 1] > 0.3).mean() > (lit[front, 1] > 0.3).mean() + 0.2
