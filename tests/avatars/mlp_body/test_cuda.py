"""The Triton kernels and recorded graphs of bodies against the plain torch reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from avatars.avatar_folder import load_avatar
from avatars.captures.opening import open_capture
from avatars.mlp_body import cuda_express, cuda_rows, neighbours
from avatars.mlp_body.avatar import MlpBodyAvatar
from avatars.mlp_body.cuda_posing import HalfBody
from avatars.mlp_body.express import seen_colours
from avatars.mlp_body.graphed import GraphedStep
from avatars.mlp_body.model import Drive, MlpBody
from avatars.mlp_body.neighbours import mix, mixing_of
from avatars.training.config import load_config
from avatars.training.loop import train
from tests.tiny_body import TINY, body_camera, body_motion, tiny_body, tiny_body_capture

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
EYES = torch.tensor([[0.0, -2, 1], [1, 2, 1], [2, 0, 0]])


def disturbed(device: str, sh_from: int = 0) -> MlpBody:
    model = tiny_body(replace(TINY, gaussians=3000, controls=300, basis=5, sh_from=sh_from))
    with torch.no_grad():
        model.neutral[6:10, 3] = 0
        model.bases[:, 6:10, 3] = 0
    return model.moved_to(device)


def rounded(model: MlpBody) -> MlpBody:
    """The same with networks and bases as half precision holds them."""
    with torch.no_grad():
        for parameter in (*model.networks.weights, model.bases, model.sh1_bases):
            parameter.copy_(parameter.half().float())
    return model


def found_by(model: MlpBody, *, active: bool, tinted: bool, refined: bool) -> tuple[list, dict]:
    """What a model makes of two poses seen by three cameras, and the gradients of a fixed random sum of it."""
    device = model.neutral.device
    turned, moved, expressed = (torch.from_numpy(value).to(device) for value in body_motion(2).values())
    turned = turned.clone().requires_grad_(refined)
    drive = Drive(model.theta(turned.detach(), expressed), model.placed(turned, moved, expressed))
    found, controls = model(drive, active=active, view_dependent=tinted)
    colours = seen_colours(found, torch.tensor([0, 1, 1], device=device), EYES.to(device))
    parts = [found.means, found.quats, found.scales, found.opacities, found.base, colours, controls]
    draw = torch.Generator().manual_seed(5)
    total = sum((part * torch.randn(part.shape, generator=draw).to(device)).sum() for part in parts)
    named = dict(model.named_parameters()) | ({"turned": turned} if refined else {})
    gradients = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    return [part.detach().cpu() for part in parts], dict(zip(named, gradients, strict=True))


@pytest.mark.parametrize(
    ("active", "tinted", "refined"),
    [(True, True, True), (True, False, False), (False, False, False), (False, True, False)],
)
def test_values_and_gradients_are_the_references(active: bool, tinted: bool, refined: bool) -> None:
    plain, plain_gradients = found_by(disturbed("cpu"), active=active, tinted=tinted, refined=refined)
    mine, gradients = found_by(disturbed("cuda"), active=active, tinted=tinted, refined=refined)
    for wanted, value in zip(plain, mine, strict=True):
        torch.testing.assert_close(value, wanted, atol=1e-4, rtol=1e-4)
    for name, wanted in plain_gradients.items():
        value = gradients[name]
        if wanted is None or value is None:  # a part that takes no part may have no gradient or one of zeros
            assert all(one is None or not one.any() for one in (wanted, value)), name
            continue
        scale = wanted.abs().max().clamp_min(1e-6)
        torch.testing.assert_close(value.cpu() / scale, wanted / scale, atol=2e-4, rtol=0, msg=name)


def test_sums_of_rows_are_equal_every_time() -> None:
    draw = torch.Generator().manual_seed(0)
    points, sources = torch.randn(5000, 3, generator=draw).numpy(), torch.randn(40, 3, generator=draw).numpy()
    mixing = mixing_of(points, sources, 3)
    values = torch.randn(5000, 17, generator=draw)
    plain = neighbours.gathered_back(values, mixing)
    there = mixing.to("cuda")
    assert cuda_rows.usable(values.cuda())
    first, second = (neighbours.gathered_back(values.cuda(), there) for _ in range(2))
    assert torch.equal(first, second)
    torch.testing.assert_close(first.cpu(), plain, atol=1e-4, rtol=1e-4)
    forth = torch.randn(40, 6, generator=draw)
    torch.testing.assert_close(mix(forth.cuda(), there).cpu(), mix(forth, mixing), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tinted", [True, False])
def test_a_packed_body_poses_as_the_plain_one_of_rounded_numbers(tinted: bool) -> None:
    model = rounded(disturbed("cuda", sh_from=0 if tinted else -1))
    packed = HalfBody(model)
    for row in range(2):
        parts = [torch.from_numpy(value[row : row + 1]).cuda() for value in body_motion(2).values()]
        for clamped in (True, False):
            found = packed.posed(*parts, clamped=clamped, normals=True)
            with torch.no_grad():
                wanted = model.pose(*parts, clamped=clamped, normals=True)
            for name in ("means", "scales", "opacities", "normals", "colours"):
                torch.testing.assert_close(getattr(found, name), getattr(wanted, name), atol=2e-5, rtol=1e-4)
            same = (found.quats * wanted.quats).sum(-1).abs()
            torch.testing.assert_close(same, torch.ones_like(same), atol=1e-5, rtol=0)
            if wanted.view_colours is None:
                assert found.tint is None
            else:
                torch.testing.assert_close(found.tint, wanted.view_colours.tint, atol=2e-5, rtol=1e-4)


def test_a_recorded_pose_is_the_plain_one_and_follows_the_pose() -> None:
    avatar, plain = MlpBodyAvatar(disturbed("cuda")), MlpBodyAvatar(rounded(disturbed("cpu")))
    motion = body_motion(3)
    for row in (0, 2, 1):
        parts = [torch.from_numpy(value[row : row + 1]) for value in motion.values()]
        found, wanted = avatar.pose(*(part.cuda() for part in parts)), plain.pose(*parts)
        eye = EYES[:1]
        for name in ("means", "scales", "opacities", "normals"):
            torch.testing.assert_close(getattr(found, name).cpu(), getattr(wanted, name), atol=2e-4, rtol=1e-3)
        colours = found.seen_from(eye.cuda()).colours.cpu()
        torch.testing.assert_close(colours, wanted.seen_from(eye).colours, atol=1e-3, rtol=0)


def test_a_recorded_step_is_the_plain_one() -> None:
    model = disturbed("cuda")
    turned, moved, expressed = (torch.from_numpy(value).cuda() for value in body_motion(2).values())
    with torch.no_grad():
        skinning = model.canonical.skeleton.skinning(turned, moved, expressed)
        theta = model.theta(turned, expressed)
    graphed = GraphedStep(model)
    parameters = [parameter for parameter in model.parameters()]
    for active, tinted in ((False, False), (True, False), (True, True)):
        found, controls = graphed(theta, skinning, expressed, active=active, view_dependent=tinted)
        loss = found.means.sum() + found.scales.square().sum() + found.base.sum() + controls.square().sum()
        mine = [
            None if one is None else one.clone() for one in torch.autograd.grad(loss, parameters, allow_unused=True)
        ]
        drive = Drive(theta, model.placed_by(skinning, expressed))
        found, controls = model(drive, active=active, view_dependent=tinted)
        loss = found.means.sum() + found.scales.square().sum() + found.base.sum() + controls.square().sum()
        plain = torch.autograd.grad(loss, parameters, allow_unused=True)
        for one, other in zip(mine, plain, strict=True):
            if other is not None and other.any():
                torch.testing.assert_close(one, other, atol=1e-5 + 1e-4 * float(other.abs().max()), rtol=1e-4)
    assert not graphed.refused
    assert cuda_express.usable(model.neutral)


def test_training_on_the_device_learns_and_its_avatar_looks_the_same_on_the_cpu(tmp_path: Path) -> None:
    from avatars.evaluation.frames import Shot, render_shots

    capture = open_capture(tiny_body_capture(tmp_path / "capture"))
    config = load_config("mlp_body_tiny", {"schedule.images": "120", "body.refine_pose_from": "80"})
    result = train(config, capture, tmp_path / "run", name="t", device="cuda", on_event=lambda event: None)
    curve = [point["psnr_db"] for point in result.metrics["curve"]]
    assert curve[-1] > curve[0] + 1
    shots = [Shot(1, body_camera(64))]
    pictures = [
        next(render_shots(load_avatar(result.avatar_folder, device), capture.motion, shots, device, 1)).cpu()
        for device in ("cpu", "cuda")
    ]
    assert (pictures[0] - pictures[1]).abs().mean() < 2e-3
