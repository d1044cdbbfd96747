"""Occlusion probes against geometry that can be worked out, and where they must not reach."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from avatars.lighting.harmonics import COSINE, COUNT, band_of, basis5
from avatars.lighting.latlong import pixel_directions, row_solid_angles
from avatars.lighting.probes import FADE_M, MARGIN_M, PosedProbes, Probes, bake_probes


def wall(size: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    """A square in the plane z = 0."""
    s = size / 2
    return np.array([[-s, -s, 0], [s, -s, 0], [s, s, 0], [-s, s, 0.0]]), np.array([[0, 1, 2], [0, 2, 3]])


def sphere(radius: float = 0.15, rings: int = 12) -> tuple[np.ndarray, np.ndarray]:
    polar, turn = np.meshgrid(np.linspace(0, np.pi, rings), np.linspace(0, 2 * np.pi, 2 * rings), indexing="ij")
    points = np.stack([np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)], -1)
    index = np.arange(points.shape[0] * points.shape[1]).reshape(points.shape[:2])
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    return radius * points.reshape(-1, 3), faces


def unmoved(probes: Probes) -> PosedProbes:
    return probes.posed(torch.eye(4).expand(1, len(probes.joints), 4, 4))


def test_harmonics_are_orthonormal_and_the_cosine_has_these_bands() -> None:
    directions, area = pixel_directions(128, 256), row_solid_angles(128, 256)
    values = basis5(directions)
    gram = torch.einsum("hwi,hwj,h->ij", values, values, area)
    torch.testing.assert_close(gram, torch.eye(COUNT, dtype=torch.float64), atol=2e-3, rtol=0)
    towards = normalize(torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64), dim=-1)
    cosine = (directions @ towards).clamp(min=0)
    found = torch.einsum("hw,hwi,h->i", cosine, values, area)
    expected = torch.tensor([COSINE[band] for band in band_of()], dtype=torch.float64) * basis5(towards)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("tilt", [0.0, 0.7, 1.4])
def test_a_wall_hides_half_the_sky_of_what_stands_upright_on_it(tilt: float) -> None:
    """Just above an endless wall AO of a normal at angle t from its own is (1 + cos t) / 2."""
    vertices, faces = wall()
    probes = unmoved(bake_probes(vertices, faces, np.zeros(2, int), (0,), side=21))
    normal = torch.tensor([[[math.sin(tilt), 0.0, math.cos(tilt)]]])
    point = torch.tensor([[[0.0, 0.0, 0.025]]])
    ambient, along = probes.visible(point, normal, torch.tensor([[[[0.0, 0, 1], [0, 0, -1.0]]]]))
    assert float(ambient) == pytest.approx((1 + math.cos(tilt)) / 2, abs=0.05)
    assert float(along[0, 0, 0]) > 0.93
    assert float(along[0, 0, 1]) < 0.07


def test_a_ball_hides_its_solid_angle() -> None:
    vertices, faces = sphere()
    probes = unmoved(bake_probes(vertices, faces, np.zeros(len(faces), int), (0,), side=24))
    distance = 0.25  # facing the ball: the form factor of a sphere is (r / d)^2; nodes ahead are a little nearer
    point, normal = torch.tensor([[[0.0, 0.0, distance]]]), torch.tensor([[[0.0, 0.0, -1.0]]])
    ambient, along = probes.visible(point, normal, torch.tensor([[[[0.0, 0, -1], [0, 0, 1.0], [1, 0, 0]]]]))
    assert float(ambient) == pytest.approx(1 - (0.15 / distance) ** 2, abs=0.08)
    assert float(along[0, 0, 0]) < 0.35
    assert float(along[0, 0, 1:].min()) > 0.9
    away = probes.visible(point, -normal, torch.tensor([[[[0.0, 0, 1]]]]))[0]
    assert float(away) > 0.97


def test_nothing_reaches_beyond_the_lattice_and_its_fade() -> None:
    vertices, faces = sphere()
    probes = unmoved(bake_probes(vertices, faces, np.zeros(len(faces), int), (0,), side=8))
    edge = 0.15 + MARGIN_M
    heights = torch.tensor([edge, edge + 0.5 * FADE_M, edge + 0.99 * FADE_M, edge + FADE_M + 1e-3, 50.0])
    points = torch.stack([torch.zeros(5), torch.zeros(5), heights], -1)[None]
    down = torch.tensor([0.0, 0.0, -1.0]).expand(1, 5, 3)
    ambient = probes.visible(points, down, down[:, :, None])[0][0, :, 0]
    assert (ambient[1:] >= ambient[:-1] - 1e-5).all()
    assert float(ambient[0]) < 0.95
    assert float(ambient[2]) > 0.99
    assert ambient[3:].tolist() == [1.0, 1.0]


def test_inside_is_dark_and_parts_multiply_and_move() -> None:
    vertices, faces = sphere(0.3)
    one = bake_probes(vertices, faces, np.zeros(len(faces), int), (0,), side=12)
    inside = torch.tensor([[[0.02, 0.01, 0.03]]])
    up = torch.tensor([[[0.0, 0.0, 1.0]]])
    ambient, along = unmoved(one).visible(inside, up, up[:, :, None])
    assert float(ambient) < 0.02
    assert float(along.max()) < 0.05
    vertices, faces = sphere()
    ball = bake_probes(vertices, faces, np.zeros(len(faces), int), (0,), side=16)
    both = Probes((0, 1), ball.low_m.repeat(2, 1), ball.high_m.repeat(2, 1), ball.coefficients.repeat(2, 1, 1, 1, 1))
    moved = torch.eye(4).repeat(1, 2, 1, 1)
    moved[0, 1, 0, 3] = 5.0
    point, down = torch.tensor([[[0.0, 0.0, 0.25]]]), torch.tensor([[[0.0, 0.0, -1.0]]])
    alone = float(unmoved(ball).visible(point, down, down[:, :, None])[0])
    assert float(both.posed(moved).visible(point, down, down[:, :, None])[0]) == pytest.approx(alone)
    moved[0, 1] = torch.eye(4)
    assert float(both.posed(moved).visible(point, down, down[:, :, None])[0]) == pytest.approx(alone**2, abs=1e-4)
    # The whole person turned, doubled in size and moved: its probes go along.
    matrix = torch.tensor([[0.0, -2, 0, 1], [2, 0, 0, 2], [0, 0, 2, 3], [0, 0, 0, 1]])[None]
    there = (matrix[0, :3, :3] @ point[0, 0] + matrix[0, :3, 3])[None, None]
    found = unmoved(ball).moved(matrix).visible(there, down, down[:, :, None])[0]
    assert float(found) == pytest.approx(alone, abs=1e-4)


def test_a_part_without_faces_hides_nothing() -> None:
    vertices, faces = sphere()
    both = bake_probes(vertices, faces, np.zeros(len(faces), int), (0, 3), side=4)
    up = torch.tensor([[[0.0, 0.0, 1.0]]])
    only = unmoved(Probes((0,), both.low_m[1:], both.high_m[1:], both.coefficients[1:]))
    assert float(only.visible(torch.zeros(1, 1, 3), up, up[:, :, None])[0]) == pytest.approx(1.0, abs=2e-3)
