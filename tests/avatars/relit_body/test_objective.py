"""Terms of distillation: values that can be worked out, gradients, and input with nothing in it; growing surfels."""

from __future__ import annotations

import math

import pytest
import torch

from avatars.lit_pixels import pixel_rays
from avatars.relit_body.densify import grow, stray
from avatars.relit_body.initial import first_surfels, thinned
from avatars.relit_body.objective import (
    as_isometric_as_possible,
    depth_normals,
    edge_aware_variation,
    map_variation,
    neighbours_of,
    normal_consistency,
)
from avatars.rendering import CameraBatch
from tests.avatars.relit_files import front, painted_teacher


def test_posing_that_keeps_distances_costs_nothing() -> None:
    points = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    near = neighbours_of(points)
    assert near.shape == (40, 5)
    assert not (near == torch.arange(40)[:, None]).any()
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    everyone = torch.arange(40)
    moved = (points @ turn.T + 2.0)[None]
    assert float(as_isometric_as_possible(points, moved, near, everyone)) < 1e-5
    doubled = as_isometric_as_possible(points, 2 * points[None], near, everyone)
    apart = (points[:, None] - points[near]).norm(dim=-1).mean()
    assert float(doubled) == pytest.approx(float(apart), rel=1e-4)
    (gradient,) = torch.autograd.grad(doubled, points)
    assert torch.isfinite(gradient).all()
    assert float(gradient.abs().max()) > 0
    same = torch.zeros(3, 3, requires_grad=True)  # all in one place, fewer than five others
    total = as_isometric_as_possible(same, same[None] * 2, neighbours_of(same), torch.arange(3))
    assert torch.isfinite(torch.autograd.grad(total, same)[0]).all()


def tilted_plane(tilt: float) -> tuple[CameraBatch, torch.Tensor, torch.Tensor]:
    """A camera at -y, a plane through the origin turned about z by `tilt`, its depth map and its normal."""
    cameras = CameraBatch.from_cameras([front(24, 3.0)])
    normal = torch.tensor([math.sin(tilt), -math.cos(tilt), 0.0])
    rays, eye = pixel_rays(cameras), cameras.positions()[0]
    along = -(eye @ normal) / (rays @ normal)
    ahead = cameras.camera_from_world[0, 2, :3]
    return cameras, along * (rays @ ahead), normal


@pytest.mark.parametrize("tilt", [0.0, 0.5])
def test_normals_of_a_depth_map(tilt: float) -> None:
    cameras, depth, normal = tilted_plane(tilt)
    rays = pixel_rays(cameras)
    found = depth_normals(depth, cameras, rays)
    torch.testing.assert_close(found[0, 1:-1, 1:-1], normal.expand(22, 22, 3), atol=1e-4, rtol=0)
    assert not found[0, 0].any()
    alpha = torch.ones_like(depth)
    blended = normal.expand(1, 24, 24, 3)
    assert float(normal_consistency(blended, alpha, depth, cameras, rays)) < 1e-5
    other = torch.tensor([0.0, 0.0, 1.0]).expand(1, 24, 24, 3)
    assert float(normal_consistency(other, alpha, depth, cameras, rays)) == pytest.approx(1.0, abs=1e-4)
    leaf = depth.clone().requires_grad_()
    normal_consistency(other, alpha, leaf, cameras, rays).backward()
    assert torch.isfinite(leaf.grad).all()
    empty = torch.zeros_like(depth, requires_grad=True)
    nothing = normal_consistency(other, torch.zeros_like(depth), empty, cameras, rays)
    assert float(nothing) == 0
    assert torch.isfinite(torch.autograd.grad(nothing, empty)[0]).all()


def test_variation_is_small_at_edges_and_none_outside() -> None:
    step = torch.zeros(1, 4, 6, 1)
    step[:, :, 3:] = 1.0
    step.requires_grad_()
    alpha, flat, edged = torch.ones(1, 4, 6), torch.full((1, 4, 6, 3), 0.5), step.detach().expand(-1, -1, -1, 3)
    plain = edge_aware_variation(step, flat, alpha)
    assert float(plain) == pytest.approx(1 / 5)  # one of five steps along rows
    assert float(edge_aware_variation(step, edged, alpha)) == pytest.approx(math.exp(-8) / 5, rel=1e-4)
    assert float(edge_aware_variation(step, flat, torch.zeros_like(alpha))) == 0
    assert float(torch.autograd.grad(plain, step)[0].abs().sum()) > 0
    assert float(map_variation(torch.full((4, 8, 3), 0.7))) == pytest.approx(0, abs=1e-12)
    stripes = torch.zeros(4, 8, 3)
    stripes[:, ::2] = 1.0
    assert float(map_variation(stripes)) == pytest.approx(1.0)


def test_crowded_points_are_thinned_evenly() -> None:
    draw = torch.Generator().manual_seed(3)
    points = torch.cat([torch.rand(1500, 2, generator=draw), torch.zeros(1500, 1)], dim=-1)
    up = torch.tensor([0.0, 0.0, 1.0]).expand(1500, 3)
    kept = thinned(points, up, 500)
    assert len(kept) == len(set(kept.tolist())) == 500

    def nearest(places: torch.Tensor) -> torch.Tensor:
        return (torch.cdist(places, places) + 9 * torch.eye(len(places))).amin(1)

    random = nearest(points[:500])
    assert float(nearest(points[kept]).quantile(0.05)) > 3 * float(random.quantile(0.05))
    both = torch.cat([points[:300], points[:300]])  # two sides of a sheet: neither thins the other out
    sides = torch.cat([up[:300], -up[:300]])
    left = thinned(both, sides, 400)
    assert 150 < int((left < 300).sum()) < 250
    same = torch.zeros(5, 3)
    assert len(thinned(same, up[:5], 2)) == 2


def test_surfels_grow_where_pictures_pull() -> None:
    teacher = painted_teacher()
    vertices, faces = teacher.mesh()
    surfels = first_surfels(teacher.person, vertices, faces, 600, spare=40, opacity=0.9)
    pull = torch.zeros(640)
    pull[[5, 9, 30]] = 1e-3
    with torch.no_grad():
        surfels.scales[9] = math.log(0.03)
        surfels.scales[5] = math.log(0.004)
    assert grow(surfels, pull, 2e-4, teacher.query, seed=0) == 3
    new = surfels.alive[600:].nonzero()[:, 0] + 600
    assert len(new) == 3
    assert float(surfels.scales[9].exp().max()) == pytest.approx(0.03 / 1.6, rel=1e-4)  # split
    assert float(surfels.scales[5].exp().max()) == pytest.approx(0.004, rel=1e-4)  # copied
    assert float(teacher.query(surfels.positions[new]).distance_m.abs().max()) < 0.006
    apart = torch.cdist(surfels.positions[[5, 9, 30]], surfels.positions[new])
    assert float(apart.amin(1).max()) < 0.15
    assert grow(surfels, torch.zeros(640), 2e-4, teacher.query, seed=0) == 0
    surfels.alive.fill_(True)
    assert grow(surfels, pull, 2e-4, teacher.query, seed=0) == 0  # no slot is left
    away = surfels.positions.detach().clone()
    away[:4] += torch.tensor([0.0, -0.6, 0.0])
    assert stray(away, vertices, faces).nonzero()[:, 0].tolist() == [0, 1, 2, 3]
