"""Suns and lamps as lobes: against summation over their discs, at a distance, at their edges, and in pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatars.lighting.irradiance import environment_irradiance, irradiance_at, lamps_irradiance
from avatars.lighting.latlong import pixel_directions, row_solid_angles
from avatars.lighting.lobes import Lobes, lobes_of, received
from avatars.lighting.prefilter import filtered_environment
from avatars.lighting.shading import Material, shade
from shared import lamps
from shared.types import Environment

DARK = np.zeros((4, 8, 3), np.float32)


def lobes(*rows: np.ndarray) -> Lobes:
    return Lobes.of(np.zeros((0, 7), np.float32), lamps=np.stack(rows))


@pytest.mark.parametrize("half_angle", [0.1, 0.3, 1.0, 1.4])
def test_what_a_disc_in_the_sky_gives_is_the_integral_over_it(half_angle: float) -> None:
    directions, area = pixel_directions(512, 1024).reshape(-1, 3), row_solid_angles(512, 1024)
    area = area[:, None].expand(-1, 1024).reshape(-1)
    angles = torch.linspace(0, math.pi, 25, dtype=torch.float64)
    normals = torch.stack([angles.sin(), torch.zeros_like(angles), angles.cos()], dim=-1)
    inside = directions[:, 2] > math.cos(half_angle)  # a disc about +z
    gathered = (normals @ directions[inside].T).clamp(min=0) @ area[inside]
    found = received(angles.cos(), torch.tensor(half_angle, dtype=torch.float64))
    assert float((found - gathered / gathered[0]).abs().max()) < 0.01


def test_what_arrives_has_a_slope_everywhere() -> None:
    cosine = torch.linspace(-1, 1, 201, requires_grad=True)
    for half_angle in (0.0, 0.2, math.pi / 2):
        (slope,) = torch.autograd.grad(received(cosine, torch.tensor(half_angle)).sum(), cosine)
        assert torch.isfinite(slope).all()
        assert float(slope.min()) > -1e-3
    middle = torch.tensor([0.05, 0.1], requires_grad=True)
    step = 1e-3
    (slope,) = torch.autograd.grad(received(middle, torch.tensor(0.3)).sum(), middle)
    with torch.no_grad():
        ends = [received(middle + sign * step, torch.tensor(0.3)) for sign in (1, -1)]
    torch.testing.assert_close(slope, (ends[0] - ends[1]) / (2 * step), rtol=0.02, atol=1e-3)


def test_a_ball_weakens_with_the_square_of_the_distance() -> None:
    there = lobes(lamps.ball((0, 0, 3), (8, 4, 2))).at(torch.tensor([[0.0, 0, 1], [0, 0, -1], [0, 0, 3]]))
    np.testing.assert_allclose(there.irradiance[:2, 0], [[2, 1, 0.5], [0.5, 0.25, 0.125]], rtol=1e-5)
    np.testing.assert_allclose(there.directions[0, 0], [0, 0, 1])
    assert torch.isfinite(there.irradiance).all()  # also inside of it
    wide = lobes(lamps.ball((0, 0, 3), (8, 4, 2), radius_m=2.0)).at(torch.tensor([[0.0, 0, 1]]))
    np.testing.assert_allclose(wide.irradiance[0, 0], [1, 0.5, 0.25], rtol=1e-5)
    assert float(wide.half_angle_rad[0, 0]) == pytest.approx(math.pi / 4)


def test_a_cone_is_dark_outside_and_soft_at_its_edge() -> None:
    spot = lobes(lamps.cone((0, 0, 2), (0, 0, -1), (1, 1, 1), math.radians(30), 0.5, 0.0))
    angles = np.radians([0, 15, 27, 29.9, 31, 90, 180])
    points = torch.tensor(np.stack([np.sin(angles), 0 * angles, 2 - np.cos(angles)], -1), dtype=torch.float32)
    found = spot.at(points).irradiance[:, 0, 0].numpy()
    np.testing.assert_allclose(found[:2], 1, rtol=1e-4)
    assert 0.05 < found[2] < 0.95
    assert found[3] < 0.01
    np.testing.assert_allclose(found[4:], 0, atol=1e-6)


def test_a_panel_shines_forwards_as_its_square_says() -> None:
    """Against summing small emitters over a square, where it is some sizes away."""
    side, at = 0.5, torch.tensor([[0.3, 0.2, 0.0], [1.0, 0.0, 0.4], [0, 0, 3.0]])
    found = lobes(lamps.panel((0, 0, 2), (0, 0, -1), (1, 1, 1), side**2)).at(at)
    grid = (torch.arange(20) + 0.5) / 20 * side - side / 2
    x, y = torch.meshgrid(grid, grid, indexing="ij")
    spots = torch.stack([x, y, torch.full_like(x, 2.0)], -1).reshape(-1, 3)
    for index in range(2):
        ray = spots - at[index]
        distance = ray.norm(dim=-1)
        normal = found.directions[index, 0]
        cosines = (ray[:, 2] / distance) * (ray @ normal / distance)
        expected = (cosines / distance.square()).mean()
        assert float(found.irradiance[index, 0, 0]) == pytest.approx(float(expected), rel=0.02)
    assert not found.irradiance[2].any()  # behind it
    narrow = lobes(lamps.panel((0, 0, 2), (0, 0, -1), (1, 1, 1), 0.0, half_spread_rad=0.5)).at(at[1:2] * 0 + at[:1])
    assert float(narrow.irradiance[0, 0, 0]) < float(found.irradiance[0, 0, 0])


def test_points_are_asked_for_only_where_lamps_are_near() -> None:
    suns = Lobes.of(lamps.sun((0, 0, 1), (1, 1, 1), 0.1)[None])
    assert suns.at(None) is suns
    assert lobes_of(Environment(DARK)) is None
    with pytest.raises(ValueError, match="points"):
        lobes(lamps.ball((0, 0, 1), (1, 1, 1))).at(None)


def test_suns_and_lamps_shade_side_by_side() -> None:
    """Each adds what it would alone, and hiding one leaves the other."""
    rows = {"lights": lamps.sun((0, 0, 1), (3, 3, 3), 0.02)[None], "lamps": lamps.ball((2, 0, 0), (8, 8, 8))[None]}
    points, normals = torch.zeros(1, 3), normalize(torch.tensor([[1.0, -0.2, 0.8]]), dim=-1)
    material = Material(torch.full((1, 3), 0.5), torch.full((1, 1), 0.4), torch.zeros(1, 1))

    def total(**chosen: np.ndarray) -> Tensor:
        light = filtered_environment(Environment(DARK, **chosen))
        return shade(material, normals, normals, light, points=points).total

    parts = [total(**{name: row}) for name, row in rows.items()]
    assert min(float(part.min()) for part in parts) > 0.05
    torch.testing.assert_close(total(**rows), sum(parts))


def test_colours_are_lit_by_lamps_as_by_suns_of_the_same_strength() -> None:
    place = torch.tensor([0.5, 0.0, 1.0])
    lamp = Environment(DARK, lamps=lamps.ball((0.5, 2.0, 1.0), (4, 2, 1))[None])
    sun = Environment(DARK, lights=lamps.sun((0, 1, 0), (1, 0.5, 0.25), 0.0)[None])
    torch.testing.assert_close(lamps_irradiance(lamp, place), environment_irradiance(sun))
    assert not lamps_irradiance(sun, place).any()
    up = irradiance_at(lamps_irradiance(lamp, place), torch.tensor([[0.0, 1.0, 0.0]]))
    assert float(up[0, 0]) == pytest.approx(1.0, rel=0.1)  # of nine coefficients
