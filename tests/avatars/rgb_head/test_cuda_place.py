"""The Triton kernels against the plain torch reference: values, gradients, degenerate triangles and broken numbers."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from avatars.gaussians.binding import anchors
from avatars.gaussians.frames import FrameKind
from avatars.rgb_head import cuda_place
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.rgb_head.cuda_pose import CudaPose
from avatars.rgb_head.cuda_pose import usable as knows
from avatars.rgb_head.initial import RgbHeadConfig, new_head
from avatars.rgb_head.model import ATTRIBUTES, DELTAS, RgbHead
from avatars.templates.opening import TemplateReference, embedded_template

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
FRAMES = [2, 0, 3]


def disturbed_head(kind: FrameKind) -> tuple[RgbHead, torch.Tensor]:
    """A head with random parameters, and vertices of four poses [4, V, 3], both on the device."""
    arrays = embedded_template("bust")
    reference = TemplateReference(arrays.template_id, arrays.digest, "bust", "man")
    model = new_head(reference, RgbHeadConfig(target_gaussians=3000, blendshapes=4, frame=kind), seed=0)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=draw))
        model.rotations[3] = 0
    turned = 0.2 * torch.randn(4, len(arrays.joint_names), 3, generator=draw)
    moved = 0.3 * torch.rand(4, len(arrays.expression_names), generator=draw)
    vertices = model.head.posed_vertices(turned, torch.zeros(4, 3), moved)
    triangle = model.binding.triangles[5]
    vertices[:, triangle] = vertices[:, triangle[:1]]  # without area
    return model.moved_to("cuda"), vertices.cuda()


@pytest.mark.parametrize("kind", ["uv", "orthonormal"])
@pytest.mark.parametrize("blended", [False, True])
def test_values_and_gradients_are_the_references(kind: FrameKind, blended: bool) -> None:
    model, vertices = disturbed_head(kind)
    frames = torch.tensor(FRAMES, device="cuda")
    rows = cuda_place.face_rows(model.binding, vertices, frames, kind)
    reference = anchors(model.binding, vertices[frames], kind)
    mine = rows.rows[:, model.binding.face]
    torch.testing.assert_close(mine[..., :9].unflatten(-1, (3, 3)), reference.frames, atol=2e-6, rtol=0)
    torch.testing.assert_close((mine[..., 9:13] * reference.quats).sum(-1).abs(), torch.ones_like(mine[..., 0]))
    reference = dataclasses.replace(reference, quats=mine[..., 9:13])  # a quaternion's sign is free
    draw = torch.Generator().manual_seed(2)
    weights = torch.randn(3, 4, generator=draw).cuda().requires_grad_() if blended else None
    names = ATTRIBUTES + (DELTAS if blended else ())
    inputs = [getattr(model, name) for name in names] + ([weights] if blended else [])
    found = []
    for surface in (reference, rows):
        posed = model.place(surface, weights, hide_unseen=False)
        values = (posed.means, posed.quats, posed.scales, posed.opacities, posed.colours)
        pulls = [torch.randn(value.shape, generator=torch.Generator().manual_seed(3)).cuda() for value in values]
        total = sum((value * pull).sum() for value, pull in zip(values, pulls, strict=True))
        found.append((values, torch.autograd.grad(total, inputs)))
    for what, (mine_all, theirs_all) in enumerate(zip(found[1], found[0], strict=True)):
        for mine, theirs in zip(mine_all, theirs_all, strict=True):
            scale = theirs.abs().max().clamp_min(1e-12) if what else 1.0
            torch.testing.assert_close(mine / scale, theirs / scale, atol=3e-5 if what else 2e-6, rtol=0)


def test_broken_and_hidden_gaussians_are_not_drawn() -> None:
    model, vertices = disturbed_head("orthonormal")
    with torch.no_grad():
        model.positions[7, 1] = torch.nan
        model.scales[9, 0] = torch.inf
        model.seen.fill_(True)
        model.seen[11] = False
        posed = model.place(model.surface(vertices), None, hide_unseen=True)
    assert (posed.opacities[:, [7, 9, 11]] == 0).all()
    assert (posed.opacities[:, [6, 8, 10, 12]] > 0).all()
    for value in (posed.means, posed.quats, posed.scales, posed.colours):
        assert torch.isfinite(value).all()


def test_a_recorded_pose_is_the_pose_again_and_again() -> None:
    model, _ = disturbed_head("orthonormal")
    model.seen.fill_(True)
    avatar = RgbHeadAvatar(model)
    arrays = model.head.template.arrays
    draw = torch.Generator().manual_seed(4)
    kept = []
    assert knows(model)  # the fused kernels are what is recorded
    for _ in range(3):
        turned = 0.2 * torch.randn(1, len(arrays.joint_names), 3, generator=draw).cuda()
        shifted = 0.1 * torch.randn(1, 3, generator=draw).cuda()
        moved = 0.3 * torch.rand(1, len(arrays.expression_names), generator=draw).cuda()
        with torch.no_grad():
            kept.append((avatar.pose(turned, shifted, moved), model.pose(turned, shifted, moved)))
    for found, wanted in kept:  # compared only now: later calls must not have written over earlier results
        for name in ("means", "quats", "scales", "opacities", "colours", "normals"):
            apart = (getattr(found, name) - getattr(wanted, name)).abs()
            assert apart.max() < 1e-3, name  # frames of slivers turn with the last bit of a vertex
            assert apart.mean() < 1e-5, name
    assert not torch.equal(kept[0][0].means, kept[1][0].means)


@pytest.mark.parametrize("theta", ["head", "rgbavatar"])
def test_vertices_and_weights_of_many_frames(theta: str) -> None:
    arrays = embedded_template("bust")
    reference = TemplateReference(arrays.template_id, arrays.digest, "bust", "man")
    config = RgbHeadConfig(target_gaussians=300, blendshapes=5, theta=theta)
    model = new_head(reference, config, seed=0).moved_to("cuda")
    draw = torch.Generator().manual_seed(5)
    turned = 0.3 * torch.randn(6, len(arrays.joint_names), 3, generator=draw)
    turned[0, 2] = 0
    shifted = 0.1 * torch.randn(6, 3, generator=draw)
    moved = torch.rand(6, len(arrays.expression_names), generator=draw)
    pose = [part.cuda() for part in (turned, shifted, moved)]
    with torch.no_grad():
        vertices, weights = CudaPose(model)(*pose)
        torch.testing.assert_close(vertices, model.head.posed_vertices(*pose), atol=2e-6, rtol=0)
        torch.testing.assert_close(weights, model.weights(model.theta(*pose)), atol=2e-6, rtol=1e-5)
