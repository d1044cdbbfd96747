"""The plain-torch rasteriser against hand calculation and finite differences."""

from __future__ import annotations

import math

import torch

from avatars.gaussians.posed import PosedGaussians
from avatars.rendering import CameraBatch, rasterise
from avatars.rendering.constants import ALPHA_CEILING, BLUR_PX2
from tests.avatars.rendering.scenes import gaussians_of, gradients, make_cameras, make_scene


def test_one_gaussian_by_hand() -> None:
    K = torch.tensor([[[50.0, 0, 8.5], [0, 50.0, 8.5], [0, 0, 1]]], dtype=torch.float64)
    cameras = CameraBatch(K, torch.eye(4, dtype=torch.float64)[None], 17, 17)
    one = torch.ones(1, 1, 3, dtype=torch.float64)
    quats = torch.tensor([[[1.0, 0, 0, 0]]], dtype=torch.float64)
    means = torch.tensor([[[0.0, 0, 2]]], dtype=torch.float64)
    gaussians = PosedGaussians(means, quats, 0.04 * one, torch.tensor([[0.8]], dtype=torch.float64), one)
    image = rasterise(gaussians, cameras, 0.5 * one, implementation="reference")
    variance = (0.04 * 50 / 2) ** 2 + BLUR_PX2
    alpha = 0.8 * math.exp(-0.5 * 2.0**2 / variance)
    assert abs(float(image.alpha[0, 8, 10]) - alpha) < 1e-12
    assert abs(float(image.features[0, 8, 10, 0]) - 0.5 * alpha) < 1e-12
    assert abs(float(image.depth[0, 8, 10]) - 2) < 1e-9
    assert float(image.alpha[0, 0, 0]) == 0
    assert float(image.depth[0, 0, 0]) == 0


def test_nearer_gaussians_hide_farther_ones_whatever_their_order() -> None:
    cameras = make_cameras(1, 9, 9)
    means = torch.tensor([[[0.0, 0, 0.5], [0.0, 0, -0.5]]])
    quats = torch.tensor([1.0, 0, 0, 0]).expand(1, 2, 4)
    gaussians = PosedGaussians(means, quats, torch.full((1, 2, 3), 200.0), torch.ones(1, 2), torch.ones(1, 2, 3))
    image = rasterise(gaussians, cameras, torch.tensor([[[0.0], [1.0]]]), implementation="reference")
    # The ceiling lets a thousandth through, and the far one would take it below the stop.
    torch.testing.assert_close(image.features, torch.full_like(image.features, ALPHA_CEILING), rtol=0, atol=2e-4)
    torch.testing.assert_close(image.depth, torch.full_like(image.depth, 1.5))


def test_gradients_match_finite_differences() -> None:
    scene = {name: tensor.double() for name, tensor in make_scene(1, 6, 2, scale_m=0.3).items()}
    scene["opacities"] = scene["opacities"] * 0.5  # far from the ceiling and the stop, where the image has jumps
    cameras = make_cameras(1, 6, 5)

    def render(parameters):
        return rasterise(
            gaussians_of(parameters),
            cameras,
            parameters["features"],
            background=parameters["background"],
            implementation="reference",
        )

    def total(parameters) -> float:
        rng = torch.Generator().manual_seed(7)
        image = render(parameters)
        return sum(
            float((output * torch.randn(output.shape, generator=rng).double()).sum())
            for output in (image.features, image.alpha, image.depth)
        )

    _, analytic = gradients(render, scene)
    step = 1e-6
    for name, tensor in scene.items():
        numeric = torch.zeros_like(tensor)
        for index in range(tensor.numel()):
            bumped = {key: value.clone() for key, value in scene.items()}
            bumped[name].view(-1)[index] += step
            above = total(bumped)
            bumped[name].view(-1)[index] -= 2 * step
            numeric.view(-1)[index] = (above - total(bumped)) / (2 * step)
        torch.testing.assert_close(analytic[name], numeric, rtol=1e-4, atol=1e-5)
