"""Weighted blending: against autograd, the properties it exists for, and the CUDA twin."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from avatars.gaussians.posed import PosedGaussians
from avatars.rendering import CameraBatch, Rasterised, rasterise
from avatars.rendering.gsplat_backend import why_unavailable
from avatars.rendering.has_triton import available
from avatars.rendering.weighted import Weighted, rasterise_weighted
from shared.errors import EffigyError
from tests.avatars.rendering.scenes import (
    assert_same_gradients,
    assert_same_image,
    gaussians_of,
    gradients,
    make_cameras,
    make_scene,
)
from tests.avatars.rendering.test_gsplat import to_device


def weighted(cameras: CameraBatch, implementation: str, beta: float) -> Callable[[dict], Rasterised]:
    """As `rasterise` would give it, so that the judges of scenes.py serve; the shares stand in for depth."""

    def act(parameters: dict) -> Rasterised:
        image = rasterise_weighted(
            gaussians_of(parameters),
            cameras,
            parameters["features"],
            beta=beta,
            background=parameters["background"],
            implementation=implementation,  # type: ignore[arg-type]
        )
        return Rasterised(image.colours, image.alpha, image.shares)

    return act


@pytest.mark.parametrize(("frames", "count", "width_px", "height_px"), [(2, 120, 37, 21), (1, 0, 8, 8)])
@pytest.mark.parametrize("beta", [0.0, 6.0])
def test_compiled_against_autograd(frames: int, count: int, width_px: int, height_px: int, beta: float) -> None:
    scene, cameras = make_scene(frames, count, 3), make_cameras(frames, width_px, height_px)
    got, slopes = gradients(weighted(cameras, "cpu", beta), scene)
    want, expected = gradients(weighted(cameras, "reference", beta), {k: v.double() for k, v in scene.items()})
    assert_same_image(got, want, rtol=1e-3, atol=1e-4)
    assert_same_gradients(slopes, expected)


def test_beta_0_is_ordinary_blending() -> None:
    scene, cameras = make_scene(2, 150, 3), make_cameras(2, 40, 30)
    plain, by_plain = gradients(
        lambda p: rasterise(gaussians_of(p), cameras, p["features"], background=p["background"], depth=False), scene
    )
    got, by_got = gradients(weighted(cameras, "cpu", 0.0), scene)
    torch.testing.assert_close(got.features, plain.features, rtol=1e-5, atol=2e-6)
    assert torch.equal(got.alpha, plain.alpha)
    assert_same_gradients(by_got, by_plain)


def layers(opacity: float) -> tuple[dict[str, torch.Tensor], CameraBatch]:
    """A red sheet before a blue one; both wide, flat and facing the camera."""
    return {
        "means": torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, 0.1]]]),
        "quats": torch.tensor([[[1.0, 0, 0, 0]] * 2]),
        "scales": torch.tensor([[[2.0, 2.0, 0.001]] * 2]),
        "opacities": torch.tensor([[opacity, 0.9]]),
        "features": torch.tensor([[[1.0, 0, 0], [0, 0, 1.0]]]),
        "background": torch.zeros(1, 3),
    }, make_cameras(1, 16, 16)


def pulls_to_green(opacity: float, beta: float) -> tuple[torch.Tensor, Weighted]:
    """Size of each layer's colour gradient when the picture should be green, [2]."""
    scene, cameras = layers(opacity)
    colours = scene["features"].requires_grad_()
    image = rasterise_weighted(gaussians_of(scene), cameras, colours, beta=beta)
    (image.colours - torch.tensor([0.0, 1.0, 0.0])).abs().mean().backward()
    assert colours.grad is not None
    return colours.grad[0].norm(dim=-1), image


def test_a_hidden_gaussian_is_left_alone_and_a_visible_one_is_not() -> None:
    front, back = pulls_to_green(0.98, 6.0)[0]
    assert back < 1e-3 * front
    front, back = pulls_to_green(0.98, 0.0)[0]
    assert back > 0.015 * front  # what leaks in ordinary blending
    front, back = pulls_to_green(0.3, 6.0)[0]
    assert back > 0.1 * front
    shares = pulls_to_green(0.98, 6.0)[1].shares[0]
    assert shares[1] < 0.05
    assert shares[0] > 10 * shares[1]


def test_brightness_holds_and_equal_colours_ask_for_no_opacity() -> None:
    scene, cameras = make_scene(1, 4000, 3), make_cameras(1, 48, 48)
    plain = rasterise(gaussians_of(scene), cameras, scene["features"])
    shown = rasterise_weighted(gaussians_of(scene), cameras, scene["features"])
    assert abs(shown.colours.mean() / plain.features.mean() - 1) < 0.03
    scene["features"] = torch.full_like(scene["features"], 0.4)
    scene["opacities"].requires_grad_()
    image = rasterise_weighted(gaussians_of(scene), cameras, scene["features"])
    ((image.colours / image.alpha[..., None].clamp_min(1e-4)).sum()).backward()
    assert scene["opacities"].grad is not None
    assert scene["opacities"].grad.abs().max() < 5e-3


def test_the_share_seen_is_what_ordinary_blending_shows_of_each() -> None:
    scene, cameras = make_scene(1, 60, 3, scale_m=0.1), make_cameras(1, 64, 64)
    ones = torch.ones(1, 60, 1, requires_grad=True)
    (mass,) = torch.autograd.grad(rasterise(gaussians_of(scene), cameras, ones).features.sum(), ones)
    alone = torch.stack([rasterise(one_of(scene, row), cameras, torch.ones(1, 1, 1)).alpha.sum() for row in range(60)])
    shares = rasterise_weighted(gaussians_of(scene), cameras, scene["features"]).shares[0]
    inside = alone > 20  # wholly in the picture and larger than a few pixels
    centre = scene["means"][0, :, :2].abs().max(-1).values < 0.4
    error = (shares - mass[0, :, 0] / alone)[inside & centre].abs()
    assert (error < 0.02).float().mean() > 0.9


def one_of(scene: dict[str, torch.Tensor], row: int) -> PosedGaussians:
    return gaussians_of({name: value[:, row : row + 1] for name, value in scene.items() if name != "background"})


def test_what_does_not_fit_is_refused() -> None:
    scene, cameras = make_scene(1, 5, 4), make_cameras(1, 8, 8)
    with pytest.raises(EffigyError, match="weighted blending"):
        rasterise_weighted(gaussians_of(scene), cameras, scene["features"])


@pytest.mark.cuda
@pytest.mark.skipif(bool(why_unavailable()) or not available(), reason="needs CUDA, gsplat and Triton")
@pytest.mark.parametrize(("frames", "count", "width_px", "height_px"), [(2, 300, 61, 35), (1, 1, 8, 8), (1, 0, 8, 8)])
def test_cuda_against_autograd(frames: int, count: int, width_px: int, height_px: int) -> None:
    scene, cameras = make_scene(frames, count, 3), make_cameras(frames, width_px, height_px)
    there = {name: value.cuda() for name, value in scene.items()}
    got, slopes = gradients(weighted(to_device(cameras, "cuda"), "gsplat", 6.0), there)
    want, expected = gradients(weighted(cameras, "reference", 6.0), {k: v.double() for k, v in scene.items()})
    torch.testing.assert_close(got.features.cpu().double(), want.features, rtol=2e-3, atol=3e-3)
    torch.testing.assert_close(got.depth.cpu().double(), want.depth, rtol=2e-2, atol=1e-3)
    for name, value in expected.items():
        error = (slopes[name].cpu().double() - value).norm() / value.norm().clamp_min(1e-9)
        assert error < 0.02, name
