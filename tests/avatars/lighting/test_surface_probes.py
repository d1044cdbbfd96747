"""Occlusion kept on a surface: turning harmonics, rays against shapes that can be worked out, following poses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from avatars.lighting.harmonics import COUNT, basis5, turned
from avatars.lighting.surface_probes import PosedSurfaceProbes, SurfaceProbes, cast, fitted, half_space
from avatars.templates.rotations import matrices_from_axis_angle

PLATE = np.array([[-9, -9, 0], [9, -9, 0], [9, 9, 0], [-9, 9, 0.0]])[np.array([[0, 1, 2], [0, 2, 3]])]


def rotations(count: int) -> torch.Tensor:
    torch.manual_seed(1)
    return matrices_from_axis_angle(torch.randn(count, 3))


def above_a_plate() -> torch.Tensor:
    return cast(np.array([[0, 0, 0.001]]), PLATE, reach_m=100.0)


def ask(
    harmonics: torch.Tensor, normal: torch.Tensor, towards: torch.Tensor, axes: torch.Tensor
) -> tuple[float, float]:
    probes = PosedSurfaceProbes(harmonics[None], axes[None, None])
    ambient, along = probes.visible(torch.zeros(1, 1, 3), normal.expand(1, 1, 3), towards.expand(1, 1, 1, 3))
    return float(ambient), float(along)


def test_turned_harmonics_are_the_same_function_in_other_axes() -> None:
    turns = rotations(5)
    functions = torch.randn(5, COUNT)
    local = normalize(torch.randn(5, 7, 3), dim=-1)
    there = (local @ turns.transpose(1, 2)).contiguous()
    found = torch.einsum("nk,ndk->nd", turned(functions, turns), basis5(local))
    torch.testing.assert_close(found, torch.einsum("nk,ndk->nd", functions, basis5(there)), atol=2e-4, rtol=0)
    assert turned(functions[:0], turns[:0]).shape == (0, COUNT)


@pytest.mark.parametrize("tilt", [0.0, 0.6, 1.2])
def test_an_even_surface_hides_nothing_of_its_own_half_and_leaning_normals_lose_their_part(tilt: float) -> None:
    """A normal at angle t from the plate's sees (1 + cos t) / 2; whatever the axes the harmonics are kept in."""
    axes = rotations(3)[2]
    normal = torch.tensor([math.sin(tilt), 0.0, math.cos(tilt)])
    ambient, _ = ask(turned(above_a_plate(), axes[None]), normal, normal, axes)
    assert ambient == pytest.approx((1 + math.cos(tilt)) / 2, abs=0.03)


@pytest.mark.parametrize(("cosine", "least", "most"), [(1.0, 0.97, 1.0), (0.3, 0.9, 1.0), (-0.6, 0.0, 0.25)])
def test_along_a_direction_an_even_surface_is_open_above_and_closed_below(
    cosine: float, least: float, most: float
) -> None:
    up, towards = torch.tensor([0.0, 0, 1]), torch.tensor([math.sqrt(1 - cosine**2), 0, cosine])
    assert least <= ask(above_a_plate(), up, towards, torch.eye(3))[1] <= most


def test_the_level_of_an_even_surface_is_what_its_harmonics_say() -> None:
    cosines = torch.linspace(-1, 1, 9)
    towards = torch.stack([(1 - cosines**2).clamp(min=0).sqrt(), 0 * cosines, cosines], -1)
    soft = torch.tensor([1.0, 0.92, 0.72, 0.46, 0.21])[[0] + [1] * 3 + [2] * 5 + [3] * 7 + [4] * 9]
    found = (above_a_plate()[0] * soft) @ basis5(towards).T
    torch.testing.assert_close(found, half_space(cosines), atol=0.03, rtol=0)


def test_a_box_without_a_lid_is_open_upwards_only_and_a_closed_one_is_dark() -> None:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    quads = [[corners[[a, b, c]], corners[[a, c, d]]] for a, b, c, d in sides]
    closed = np.concatenate(quads)
    up = torch.tensor([0.0, 0, 1])
    assert ask(cast(np.array([[0, 0, -0.9]]), closed, 100.0), up, up, torch.eye(3))[0] == 0
    open_box = cast(np.array([[0, 0, -0.9]]), np.concatenate(quads[:-1]), 100.0)
    ambient, along = ask(open_box, up, up, torch.eye(3))
    assert 0.15 < ambient < 0.35  # a square lid seen from its depth: 0.24
    assert along > 0.5
    assert ask(open_box, up, torch.tensor([1.0, 0, 0]), torch.eye(3))[1] < 0.2


def test_nothing_around_is_open_everywhere() -> None:
    sky = cast(np.zeros((2, 3)), np.zeros((0, 3, 3)))
    ambient, along = ask(sky[:1], torch.tensor([0.0, 1, 0]), torch.tensor([0.0, -1, 0]), torch.eye(3))
    assert ambient == pytest.approx(1, abs=0.01)
    assert along == pytest.approx(1, abs=0.01)


def test_fitted_probes_follow_what_drives_them_and_stop_where_nothing_was_baked() -> None:
    driven = torch.tensor([[0.0, 5], [0.25, 5], [0.5, 5], [1.0, 5]])
    closed, opened = torch.zeros(COUNT), torch.zeros(COUNT)
    opened[0] = 2 * math.sqrt(math.pi)
    harmonics = (closed + driven[:, :1] * (opened - closed))[:, None].expand(4, 3, COUNT)
    probes = fitted(driven, harmonics, 4)
    assert len(probes) == 3
    assert probes.changes.shape[0] == 1, "one number of the two never changed"
    found = probes.harmonics(torch.tensor([[0.0, 5], [0.7, 5], [9.0, 5], [0.7, -40.0]]))[:, 0, 0] / opened[0]
    torch.testing.assert_close(found, torch.tensor([0.0, 0.7, 1.0, 0.7]), atol=0.03, rtol=0)


@pytest.mark.parametrize("poses", [1, 2, 4])
def test_poses_that_are_all_the_same_give_probes_that_stay(poses: int) -> None:
    harmonics = torch.rand(1, 2, COUNT).expand(poses, 2, COUNT)
    probes = fitted(torch.ones(poses, 3), harmonics, 8)
    assert probes.changes.shape == (0, 2, COUNT)
    torch.testing.assert_close(probes.harmonics(torch.randn(2, 3)), harmonics[:1].expand(2, 2, -1), atol=1e-3, rtol=0)


def test_moving_the_person_moves_its_shadows_and_no_gradient_passes() -> None:
    axes = torch.eye(3)[None, None]
    probes = fitted(torch.zeros(1, 1), above_a_plate()[None], 0).posed(torch.zeros(1, 1), axes)
    matrix = torch.eye(4)[None].clone()
    matrix[0, :3, :3] = 2.5 * matrices_from_axis_angle(torch.tensor([[0.0, math.pi / 2, 0]]))[0]  # +z becomes +x
    across, up = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 0, 1])
    moved = probes.moved(matrix)
    towards = torch.stack([across, -across])[None, None]
    ambient, along = moved.visible(torch.zeros(1, 1, 3), across.expand(1, 1, 3), towards)
    assert float(ambient) == pytest.approx(1, abs=0.02)
    assert along[0, 0, 0] > 0.95
    assert along[0, 0, 1] < 0.1
    normal = up.expand(1, 1, 3).clone().requires_grad_()
    assert not moved.visible(torch.zeros(1, 1, 3), normal, towards)[0].requires_grad


def test_keeping_some_points_keeps_theirs() -> None:
    torch.manual_seed(0)
    probes = SurfaceProbes(
        torch.rand(4, COUNT).half(),
        torch.rand(2, 4, COUNT).half(),
        *[torch.zeros(3), torch.rand(2, 3)],
        torch.full((2,), -1.0),
        torch.ones(2),
    )
    some = probes.kept(torch.tensor([False, True, False, True]))
    driven = torch.rand(2, 3)
    torch.testing.assert_close(some.harmonics(driven), probes.harmonics(driven)[:, [1, 3]])
