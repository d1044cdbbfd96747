"""RGBAvatar's one grid over the UV square: which texels, in what order, where on the surface; laws of all bindings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatars.gaussians.binding import anchors, bind_uv_grid
from avatars.gaussians.frames import FRAME_KINDS, triangle_frames, triangle_scales
from avatars.gaussians.posed import multiply_quaternions
from avatars.templates.rotations import matrices_from_axis_angle, unit_quaternions
from avatars.templates.template import template_triangles
from shared.errors import BadTemplate
from shared.template import TemplateArrays


@pytest.fixture(scope="module")
def flame(flame_template: TemplateArrays) -> TemplateArrays:
    return flame_template


def test_texels_are_row_major_with_row_0_near_v_0(flame: TemplateArrays) -> None:
    binding = bind_uv_grid(flame, flame.vertices, 64)
    places = (binding.uv_corners[binding.face] * binding.barycentrics[:, :, None]).sum(1).double().numpy() * 64
    texels = np.floor(places).astype(int)
    np.testing.assert_allclose(places - texels, 0.5, atol=1e-3)  # each Gaussian sits on its texel's centre
    order = texels[:, 1] * 64 + texels[:, 0]
    assert (np.diff(order) > 0).all()
    torch.testing.assert_close(binding.barycentrics.sum(1), torch.ones(len(binding)))
    assert texels[0, 1] < 3
    assert texels[-1, 1] > 60, "the teeth lie in the topmost rows"


def test_counts_grow_with_the_square_of_the_size(flame: TemplateArrays) -> None:
    counts = {size: len(bind_uv_grid(flame, flame.vertices, size)) for size in (64, 128, 256)}
    _, uv_faces, _ = template_triangles(flame)
    corners = flame.uv[uv_faces].astype(float)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    covered = (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).sum() / 2  # nothing overlaps but the teeth
    for size, count in counts.items():
        assert count == pytest.approx(covered * size**2, rel=0.02)
    assert counts[256] > 50_000


def test_every_texel_belongs_to_the_first_face_that_covers_it(flame: TemplateArrays) -> None:
    """Against a plain search over all faces for a sample of texels."""
    size = 96
    binding = bind_uv_grid(flame, flame.vertices, size)
    faces, uv_faces, owner = template_triangles(flame)
    uv = flame.uv[uv_faces].astype(float)
    places = (binding.uv_corners[binding.face] * binding.barycentrics[:, :, None]).sum(1).double().numpy()
    rows = {tuple(face): index for index, face in enumerate(faces.tolist())}
    rng = np.random.default_rng(0)
    for gaussian in rng.choice(len(binding), 40, replace=False):
        centre = (np.floor(places[gaussian] * size) + 0.5) / size
        edges = uv - centre
        cross = np.stack(
            [edges[:, a, 0] * edges[:, b, 1] - edges[:, a, 1] * edges[:, b, 0] for a, b in ((0, 1), (1, 2), (2, 0))], 1
        )
        expected = int(np.flatnonzero((cross >= -1e-12).all(1))[0])
        found = rows[tuple(binding.triangles[binding.face[gaussian]].tolist())]
        assert found == expected
        assert int(binding.group[gaussian]) == owner[found]
    assert binding.group_names == ("skin", "teeth")
    empty = bind_uv_grid(flame, flame.vertices, size)
    assert torch.equal(empty.face, binding.face), "the same every time"


def test_extents_are_the_size_of_a_texel_on_the_surface(flame: TemplateArrays) -> None:
    coarse, fine = (bind_uv_grid(flame, flame.vertices, size) for size in (64, 128))
    assert float(coarse.extent_m.median() / fine.extent_m.median()) == pytest.approx(2, rel=0.05)
    for gaussian in range(0, len(coarse), 97):
        face = coarse.face[gaussian]
        corners = flame.vertices[coarse.triangles[face]].astype(float)
        uv = np.concatenate((coarse.uv_corners[face].double().numpy(), np.ones((3, 1))), 1)
        per_uv = np.linalg.solve(uv, corners)[:2]  # metres per unit of u and of v
        np.testing.assert_allclose(coarse.extent_m[gaussian], np.linalg.norm(per_uv, axis=1) / 64, rtol=1e-2)


def test_a_grid_that_meets_nothing_is_refused(flame: TemplateArrays) -> None:
    away = replace(flame, uv=flame.uv * 0 + 0.5)
    with pytest.raises(BadTemplate, match="meets no face"):
        bind_uv_grid(away, flame.vertices, 16)


@pytest.mark.parametrize("kind", FRAME_KINDS)
def test_turning_the_mesh_turns_bound_gaussians(flame: TemplateArrays, kind: str) -> None:
    """Means R·x + c (times the triangle's size for 'edge') and quaternions turn as the mesh does (15.3)."""
    binding = bind_uv_grid(flame, flame.vertices, 48)
    generator = torch.Generator().manual_seed(0)
    local = 0.01 * torch.randn(len(binding), 3, generator=generator)
    quats = unit_quaternions(torch.randn(len(binding), 4, generator=generator))
    axis = torch.tensor([0.4, -0.2, 0.9])
    turn = matrices_from_axis_angle(axis)
    angle = axis.norm()
    turn_quat = torch.cat((torch.cos(angle / 2)[None], torch.sin(angle / 2) * axis / angle))
    shift = torch.tensor([0.1, 2.0, -0.3])

    def world(vertices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        surface = anchors(binding, vertices[None].double(), kind)
        size = torch.ones(len(binding), dtype=torch.float64)
        if kind == "edge":
            size = triangle_scales(vertices.double()[binding.triangles])[binding.face]
        means = surface.points[0] + size[:, None] * (surface.frames[0] @ local.double()[..., None])[..., 0]
        return means, multiply_quaternions(surface.quats[0], quats.double())

    vertices = torch.from_numpy(flame.vertices.copy()).double()
    means, turned = world(vertices)
    moved_means, moved_turned = world(vertices @ turn.double().T + shift.double())
    torch.testing.assert_close(moved_means, means @ turn.double().T + shift.double(), atol=1e-6, rtol=0)
    if kind != "uv":  # the paper's frame is no rotation, so its quaternion is only near one
        expected = multiply_quaternions(turn_quat.double(), turned)
        torch.testing.assert_close(
            (expected * moved_turned).sum(-1).abs(), torch.ones(len(binding)).double(), atol=1e-6, rtol=0
        )


@pytest.mark.parametrize("kind", FRAME_KINDS)
def test_triangles_without_area_stay_finite(kind: str) -> None:
    corners = torch.zeros(3, 3, 3)
    corners[1, 1, 0] = 1.0  # an edge and a point on it
    corners[2, :, 2] = torch.tensor([0.0, 1.0, 2.0])  # a line
    uv = torch.tensor([[0.0, 0], [1, 0], [0, 1]]).expand(3, 3, 2)
    assert torch.isfinite(triangle_frames(corners, uv, kind)).all()
    assert torch.isfinite(triangle_frames(torch.rand(3, 3, 3), torch.zeros(3, 3, 2), kind)).all()
    assert torch.isfinite(triangle_scales(corners)).all()


def test_the_unit_right_triangle_has_size_1() -> None:
    assert float(triangle_scales(torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]]))) == pytest.approx(1.0)
