"""UV binding: texels, frames, anchors. Values against triangles done by hand, gradients, degenerate triangles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatars.gaussians.binding import anchors, bind_texels, smooth_normals
from avatars.gaussians.frames import frame_quaternions, triangle_frames, triangle_scales
from avatars.gaussians.posed import multiply_quaternions, quaternion_from_matrix
from avatars.gaussians.regions import PARTS, patch_triangles
from avatars.gaussians.uv_texels import covered_texels
from avatars.templates.opening import embedded_template
from avatars.templates.rotations import matrices_from_axis_angle
from shared import template as twin
from shared.errors import BadTemplate

SHARES = {"skin/face": 4.0, "skin/body": 1.0, "skin/hair1": 1.0, "eye_l": 4.0, "teeth": 0.0}


@pytest.fixture(scope="module")
def arrays() -> twin.TemplateArrays:
    return embedded_template("bust")


def test_a_square_of_two_triangles_covers_each_texel_once() -> None:
    corners = np.array([[[0, 0], [4, 0], [4, 3]], [[0, 0], [4, 3], [0, 3]]], float)
    face, weights = covered_texels(corners, 4, 3)
    assert len(face) == 12
    centres = (weights[..., None] * corners[face]).sum(1)
    expected = [(x + 0.5, y + 0.5) for y in range(3) for x in range(4)]
    np.testing.assert_allclose(centres, expected, atol=1e-12)
    assert (weights >= 0).all()


def test_triangles_without_area_or_outside_cover_nothing() -> None:
    line = np.array([[[0, 0], [1, 1], [2, 2]]], float)
    assert len(covered_texels(line, 4, 4)[0]) == 0
    outside = np.array([[[-5, -5], [-1, -5], [-1, -1]]], float)
    assert len(covered_texels(outside, 4, 4)[0]) == 0
    assert len(covered_texels(np.zeros((0, 3, 2)), 4, 4)[0]) == 0


def test_clockwise_triangles_are_covered_too() -> None:
    corners = np.array([[[0, 0], [0, 4], [4, 0]]], float)
    face, weights = covered_texels(corners, 4, 4)
    assert len(face) == 10
    np.testing.assert_allclose(weights.sum(1), 1)


@pytest.mark.parametrize("target", [500, 8000])
def test_the_wanted_count_comes_out_and_follows_the_shares(arrays: twin.TemplateArrays, target: int) -> None:
    binding = bind_texels(arrays, arrays.vertices, SHARES, target)
    assert len(binding) == pytest.approx(target, rel=0.06)
    assert "teeth" not in binding.group_names
    torch.testing.assert_close(binding.barycentrics.sum(1), torch.ones(len(binding)))
    counts = torch.bincount(binding.group, minlength=len(binding.group_names)).double()
    for (name, share), count in zip(((n, s) for n, s in SHARES.items() if s), counts, strict=True):
        faces, _ = patch_triangles(arrays, name)
        c = arrays.vertices[faces]
        area = np.linalg.norm(np.cross(c[:, 1] - c[:, 0], c[:, 2] - c[:, 0]), axis=1).sum() / 2
        density = float(count) / (area * share)
        assert density == pytest.approx(len(binding) / sum_area(arrays), rel=0.15)


def sum_area(arrays: twin.TemplateArrays) -> float:
    total = 0.0
    for name, share in SHARES.items():
        c = arrays.vertices[patch_triangles(arrays, name)[0]]
        total += share * np.linalg.norm(np.cross(c[:, 1] - c[:, 0], c[:, 2] - c[:, 0]), axis=1).sum() / 2
    return total


def test_patches_split_the_skin_without_overlap(arrays: twin.TemplateArrays) -> None:
    whole = {tuple(face) for face in patch_triangles(arrays, "skin")[0]}
    parts = [patch_triangles(arrays, f"skin/{part}")[0] for part in PARTS]
    together = [tuple(face) for part in parts for face in part]
    assert len(together) == len(whole)
    assert set(together) == whole
    assert min(map(len, parts)) > 100
    scalp = arrays.vertices[parts[PARTS.index("scalp")]].reshape(-1, 3)
    nose_tip = arrays.vertices[arrays.group_vertices("skin"), 1].min()
    assert scalp[:, 1].min() > nose_tip + 0.01
    eyes = arrays.joints[[arrays.joint("left_eye"), arrays.joint("right_eye")]]
    lids = arrays.vertices[parts[PARTS.index("lids")]].mean(1)
    assert np.linalg.norm(lids[:, None] - eyes, axis=-1).min(1).max() < 0.035
    mouth = arrays.vertices[patch_triangles(arrays, "tongue")[0]].reshape(-1, 3)
    assert scalp[:, 2].max() == pytest.approx(arrays.vertices[arrays.group_vertices("skin"), 2].max())
    assert np.linalg.norm(scalp - mouth.mean(0), axis=1).min() > 0.03
    np.testing.assert_array_equal(patch_triangles(arrays, "skin/hair2")[0], parts[PARTS.index("scalp")])


def test_unknown_patches_name_the_nearest(arrays: twin.TemplateArrays) -> None:
    with pytest.raises(BadTemplate, match="did you mean 'skin'"):
        patch_triangles(arrays, "skn")
    with pytest.raises(BadTemplate, match="did you mean 'scalp'"):
        patch_triangles(arrays, "skin/scap")
    with pytest.raises(BadTemplate, match="no patch"):
        bind_texels(arrays, arrays.vertices, {"skin": 0.0}, 10)


def equilateral() -> tuple[torch.Tensor, torch.Tensor]:
    corners = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0.5, 3**0.5 / 2, 0]]])
    return corners, corners[..., :2].clone()


@pytest.mark.parametrize("kind", ["uv", "orthonormal"])
def test_a_uv_aligned_triangle_has_the_identity_frame(kind: str) -> None:
    torch.testing.assert_close(triangle_frames(*equilateral(), kind)[0], torch.eye(3))


def test_the_uv_frame_is_the_papers_and_the_orthonormal_one_a_rotation() -> None:
    generator = torch.Generator().manual_seed(3)
    corners, uv = torch.randn(20, 3, 3, generator=generator), torch.randn(20, 3, 2, generator=generator)
    frames = triangle_frames(corners, uv, "uv")
    for face in range(20):
        e1, e2 = corners[face, 1] - corners[face, 0], corners[face, 2] - corners[face, 0]
        (du1, dv1), (du2, dv2) = uv[face, 1] - uv[face, 0], uv[face, 2] - uv[face, 0]
        f = 1 / (du1 * dv2 - dv1 * du2)
        for column, axis in enumerate(
            (f * (dv2 * e1 - dv1 * e2), f * (du1 * e2 - du2 * e1), torch.linalg.cross(e1, e2))
        ):
            torch.testing.assert_close(frames[face, :, column], axis / axis.norm(), rtol=1e-4, atol=1e-5)
    turned = triangle_frames(corners, uv, "orthonormal")
    torch.testing.assert_close(turned @ turned.mT, torch.eye(3).expand(20, 3, 3), atol=1e-5, rtol=0)
    assert (torch.linalg.det(turned) > 0.99).all()
    torch.testing.assert_close(turned[..., 2], frames[..., 2])
    assert ((turned[..., 0] * frames[..., 0]).sum(-1) > 0).all()


@pytest.mark.parametrize("kind", ["uv", "orthonormal"])
def test_turning_the_mesh_turns_the_anchors(arrays: twin.TemplateArrays, kind: str) -> None:
    binding = bind_texels(arrays, arrays.vertices, SHARES, 800)
    turn = matrices_from_axis_angle(torch.tensor([0.3, -0.8, 0.5]))
    vertices = torch.from_numpy(arrays.vertices.copy())[None]
    before, after = anchors(binding, vertices, kind), anchors(binding, vertices @ turn.T, kind)
    torch.testing.assert_close(after.points, before.points @ turn.T, atol=1e-5, rtol=0)
    # thin triangles lose digits to float32, so their frames are compared as a whole
    assert (after.frames - turn @ before.frames).abs().mean() < 2e-4
    assert torch.isfinite(after.quats).all()
    torch.testing.assert_close(after.quats.norm(dim=-1), torch.ones_like(after.quats[..., 0]))


def test_no_gradient_flows_into_frames_but_points_have_theirs(arrays: twin.TemplateArrays) -> None:
    binding = bind_texels(arrays, arrays.vertices, SHARES, 300)
    vertices = torch.from_numpy(arrays.vertices.copy())[None].requires_grad_()
    surface = anchors(binding, vertices, "orthonormal")
    assert not surface.frames.requires_grad
    surface.points[0, 5, 1].backward()
    used = binding.triangles[binding.face[5]]
    torch.testing.assert_close(vertices.grad[0, used, 1], binding.barycentrics[5])


@pytest.mark.parametrize("kind", ["uv", "orthonormal"])
@pytest.mark.parametrize("shape", ["point", "line", "no uv"])
def test_triangles_without_area_give_finite_frames(kind: str, shape: str) -> None:
    corners, uv = equilateral()
    if shape == "point":
        corners = torch.zeros_like(corners)
    elif shape == "line":
        corners = torch.tensor([[[0.0, 0, 0], [1, 1, 1], [2, 2, 2]]])
    else:
        uv = torch.zeros_like(uv)
    frames = triangle_frames(corners, uv, kind)
    assert torch.isfinite(frames).all()
    if kind == "orthonormal":
        torch.testing.assert_close(frames[0] @ frames[0].T, torch.eye(3), atol=1e-5, rtol=0)


def test_keep_drops_gaussians_and_unused_triangles(arrays: twin.TemplateArrays) -> None:
    binding = bind_texels(arrays, arrays.vertices, SHARES, 600)
    chosen = torch.arange(len(binding)) % 7 == 0
    smaller = binding.keep(chosen)
    assert len(smaller) == int(chosen.sum())
    vertices = torch.from_numpy(arrays.vertices.copy())[None]
    expected = anchors(binding, vertices, "uv").points[:, chosen]
    torch.testing.assert_close(anchors(smaller, vertices, "uv").points, expected)
    assert len(torch.unique(smaller.face)) == len(smaller.triangles)
    assert len(binding.keep(torch.zeros(len(binding), dtype=torch.bool))) == 0


def test_smooth_normals_on_a_sphere_point_outwards(arrays: twin.TemplateArrays) -> None:
    """The template's skin put on a sphere: interpolated normals follow the radius, closer than flat ones."""
    binding = bind_texels(arrays, arrays.vertices, {"eye_l": 1.0}, 600)
    faces = torch.from_numpy(patch_triangles(arrays, "eye_l")[0].astype(np.int64))
    vertices = torch.from_numpy(arrays.vertices.copy())
    centre = vertices[faces.unique()].mean(0)
    round_ = centre + 0.012 * torch.nn.functional.normalize(vertices - centre, dim=-1)
    normals = smooth_normals(binding, round_[None], faces)[0]
    surface = anchors(binding, round_[None], "uv")
    outwards = torch.nn.functional.normalize(surface.points[0] - centre, dim=-1)
    smooth, flat = ((part * outwards).sum(-1).median() for part in (normals, surface.frames[0, ..., 2]))
    assert smooth > 0.995
    assert smooth > flat
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(len(binding)))


def test_smooth_normals_without_a_surface_are_finite(arrays: twin.TemplateArrays) -> None:
    binding = bind_texels(arrays, arrays.vertices, {"teeth": 1.0}, 50)
    normals = smooth_normals(binding, torch.zeros(2, len(arrays.vertices), 3), torch.zeros(0, 3, dtype=torch.int64))
    assert torch.equal(normals, torch.tensor([0.0, 0, 1]).expand(2, len(binding), 3))


def test_the_quaternion_of_a_uv_frame_is_read_in_flames_axes() -> None:
    """On a sheared triangle it is RGBAvatar's: the largest of four in y-up axes; on a rotation all kinds agree."""
    model_from_flame = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    generator = torch.Generator().manual_seed(3)
    sheared = torch.nn.functional.normalize(torch.randn(50, 3, 3, generator=generator), dim=1)
    read = quaternion_from_matrix(model_from_flame.T @ sheared)
    turn = quaternion_from_matrix(model_from_flame)
    expected = multiply_quaternions(turn.expand_as(read), read)
    torch.testing.assert_close(frame_quaternions(sheared, "uv"), expected)
    rotations = torch.linalg.qr(sheared)[0]
    rotations = rotations * torch.linalg.det(rotations)[:, None, None]
    ours, theirs = frame_quaternions(rotations, "uv"), frame_quaternions(rotations, "orthonormal")
    torch.testing.assert_close((ours * theirs).sum(-1).abs(), torch.ones(50))


def test_the_edge_frame_and_the_size_of_triangles() -> None:
    """GaussianAvatars' frame is a rotation that turns with the triangle; the unit right triangle has size 1."""
    right = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]], dtype=torch.float64)
    uv = torch.zeros(1, 3, 2)
    torch.testing.assert_close(triangle_scales(right), torch.ones(1, dtype=torch.float64))
    expected = torch.tensor([[[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]], dtype=torch.float64)  # columns: x, z, -y
    torch.testing.assert_close(triangle_frames(right, uv, "edge"), expected)
    corners = torch.randn(20, 3, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    frames = triangle_frames(corners, uv.expand(20, 3, 2), "edge")
    torch.testing.assert_close(frames.transpose(1, 2) @ frames, torch.eye(3, dtype=torch.float64).expand(20, 3, 3))
    torch.testing.assert_close(torch.linalg.det(frames), torch.ones(20, dtype=torch.float64))
    turn = matrices_from_axis_angle(torch.tensor([0.4, -1.0, 0.7], dtype=torch.float64))
    turned = triangle_frames(3 * corners @ turn.T, uv.expand(20, 3, 2), "edge")
    torch.testing.assert_close(turned, turn @ frames)
    torch.testing.assert_close(triangle_scales(3 * corners @ turn.T), 3 * triangle_scales(corners))
    assert torch.autograd.gradcheck(
        lambda c: (triangle_frames(c, uv.expand(3, 3, 2), "edge"), triangle_scales(c)), corners[:3].requires_grad_()
    )
    flat = torch.zeros(1, 3, 3)
    assert torch.isfinite(triangle_frames(flat, uv, "edge")).all()
    assert triangle_scales(flat) == 0
