"""Gaussians on faces: they turn, move and stretch with them; parts of faces; values, gradients, faces without area."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.rendering.reference import rotation_from_quaternion
from avatars.surface_body.faces import COVERING, dressed, first_gaussians, on_faces, parts_of_faces, ride
from avatars.templates.rotations import matrices_from_axis_angle
from shared.errors import EffigyError


def some_faces(count: int = 7, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """corners [N, 3, 3], offsets, turns, scales, float64."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    return normal(count, 3, 3) * 0.02, 0.3 * normal(count, 2), normal(count), -5 + 0.3 * normal(count, 2)


def spread(frames: object) -> Tensor:
    """Covariances [B, N, 3, 3] m² of what lies in the face."""
    axes = frames.turned[..., :2] * frames.scales[..., None, :2]  # type: ignore[attr-defined]
    return axes @ axes.transpose(-1, -2)


def test_they_lie_as_their_numbers_say() -> None:
    corners, offsets, turns, scales = some_faces()
    found = ride(on_faces(offsets, turns, scales, corners), corners[None])
    shares = torch.softmax(torch.cat((torch.zeros(7, 1, dtype=torch.float64), offsets), -1), -1)
    torch.testing.assert_close(found.means[0], (shares[..., None] * corners).sum(1))
    first = torch.nn.functional.normalize(corners[:, 1] - corners[:, 0], dim=-1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(first, corners[:, 2] - corners[:, 0]), dim=-1)
    across = torch.linalg.cross(normal, first)
    axis = turns.cos()[:, None] * first + turns.sin()[:, None] * across
    torch.testing.assert_close(found.turned[0, :, :, 0], axis)
    torch.testing.assert_close(found.turned[0, :, :, 2], normal)
    torch.testing.assert_close(found.scales[0, :, :2], scales.exp())


def test_they_go_with_the_face() -> None:
    corners, offsets, turns, scales = some_faces()
    places = on_faces(offsets, turns, scales, corners)
    still = ride(places, corners[None])
    turn = matrices_from_axis_angle(torch.tensor([[0.4, -1.0, 0.7]], dtype=torch.float64))[0]
    moved = ride(places, 1.5 * corners[None] @ turn.T + 0.2)
    torch.testing.assert_close(moved.means, 1.5 * still.means @ turn.T + 0.2)
    torch.testing.assert_close(spread(moved), 2.25 * turn @ spread(still) @ turn.T)
    # stretched along the first axis, which then is all that grows
    axis = still.turned[0, :, :, 0]
    stretch = torch.eye(3, dtype=torch.float64) + axis[:, :, None] * axis[:, None]
    wider = ride(places, (corners @ stretch)[None])
    torch.testing.assert_close(wider.scales[..., 0], 2 * still.scales[..., 0])
    torch.testing.assert_close(wider.scales[..., 1], still.scales[..., 1])


def test_gradients() -> None:
    corners, offsets, turns, scales = some_faces(3)
    posed = corners[None] + 0.003 * some_faces(3, 1)[0][None]
    inputs = [value.clone().requires_grad_(True) for value in (offsets, turns, scales, corners, posed)]

    def numbers(*given: Tensor) -> Tensor:
        found = ride(on_faces(*given[:4]), given[4])
        return torch.cat([part.flatten() for part in (found.means, found.turned, 100 * found.scales)])

    assert torch.autograd.gradcheck(numbers, inputs, eps=1e-7, atol=1e-4)


def test_faces_without_area_stay_finite() -> None:
    corners, offsets, turns, scales = (value.float().requires_grad_(True) for value in some_faces(3))
    flat = corners.detach().clone()
    flat[0] = flat[0, :1]
    flat[1, 2] = 2 * flat[1, 1] - flat[1, 0]
    flat.requires_grad_(True)
    for canonical, posed in ((flat, corners), (corners, flat)):
        found = ride(on_faces(offsets, turns, scales, canonical), posed[None])
        total = sum(part.sum() for part in (found.means, found.turned, found.scales))
        assert torch.isfinite(total)
        for gradient in torch.autograd.grad(total, (offsets, turns, scales, flat, corners), allow_unused=True):
            assert gradient is None or torch.isfinite(gradient).all()


def test_large_faces_are_cut_first_and_parts_cover_them() -> None:
    sizes = torch.tensor([1.0, 8.0, 2.0, 4.0])
    triangle = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    corners = sizes[:, None, None] * triangle
    for count, wanted in ((4, (1, 1, 1, 1)), (12, (1, 4, 1, 4)), (28, (4, 16, 4, 4)), (64, (16, 16, 16, 16))):
        face, parts = parts_of_faces(corners, count)
        assert torch.bincount(face).tolist() == list(wanted)
        small = parts @ corners[face]
        areas = torch.linalg.cross(small[:, 1] - small[:, 0], small[:, 2] - small[:, 0]).norm(dim=-1)
        covered = torch.zeros(4).index_add(0, face, areas)
        torch.testing.assert_close(covered, sizes**2)
        torch.testing.assert_close(parts.sum(-1), torch.ones(len(face), 3))
    with pytest.raises(EffigyError, match="do not fit"):
        parts_of_faces(corners, 3)


def test_at_first_each_covers_its_part() -> None:
    corners = some_faces(5)[0].float() + torch.tensor([0.0, 0.0, 0.3])
    mesh = corners.reshape(-1, 3), torch.arange(15).view(5, 3)
    model, used = first_gaussians(*mesh, lambda places: places.abs(), 0.9, 30)
    assert used > 5
    model.requires_grad_(False)
    assert float(torch.sigmoid(model.opacities[used:]).max()) < 1e-6
    model = model.kept(slice(used)).requires_grad_(False)
    whole = corners[model.face]
    found = ride(on_faces(model.offsets, model.turns, model.scales, whole), whole[None])
    _, parts = parts_of_faces(corners, 30)
    small = parts @ whole
    torch.testing.assert_close(found.means[0], small.mean(1), atol=1e-6, rtol=1e-4)
    apart = small - small.mean(1, keepdim=True)
    torch.testing.assert_close(spread(found)[0], COVERING**2 * apart.transpose(1, 2) @ apart / 3, atol=1e-7, rtol=1e-2)
    torch.testing.assert_close(model.colours, small.mean(1).abs(), atol=1e-6, rtol=1e-4)
    assert math.isclose(float(torch.sigmoid(model.opacities[0])), 0.9, rel_tol=1e-5)


def test_fewer_than_faces_cover_a_lighter_mesh() -> None:
    made = trimesh.creation.icosphere(subdivisions=4, radius=0.5)
    vertices, faces = torch.from_numpy(np.array(made.vertices)).float(), torch.from_numpy(np.array(made.faces))
    model, used = first_gaussians(vertices, faces, lambda places: places.abs(), 0.9, 400)
    model = model.kept(slice(used)).requires_grad_(False)
    assert 350 < used <= 400
    corners = vertices[faces[model.face]]
    found = ride(on_faces(model.offsets, model.turns, model.scales, corners), corners[None])
    torch.testing.assert_close(found.means.norm(dim=-1), torch.full((1, used), 0.5), atol=0.005, rtol=0)
    area = torch.pi / used  # of an equilateral face, whose corners have this variance along each axis:
    usual = float((found.scales[..., 0] * found.scales[..., 1]).median())
    assert usual == pytest.approx(COVERING**2 * area * 2 / 3**1.5, rel=0.1)


def test_quaternions_are_those_of_the_frames() -> None:
    corners, offsets, turns, scales = (value.float() for value in some_faces())
    frames = ride(on_faces(offsets, turns, scales, corners), corners[None])
    posed = dressed(frames, torch.zeros(7), torch.full((7, 3), 0.5), torch.ones(7, 3, 3), None)
    assert isinstance(posed, PosedGaussians)
    torch.testing.assert_close(rotation_from_quaternion(posed.quats), frames.turned, atol=1e-5, rtol=1e-4)
    # seen along its first axis a tint of that axis is added whole
    eye = frames.means[:, 0] - 2 * frames.turned[:, 0, :, 0]
    seen = posed.seen_from(eye).colours[0, 0]
    torch.testing.assert_close(seen, torch.full((3,), 1.5), atol=1e-4, rtol=1e-4)
