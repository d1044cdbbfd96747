"""Training's Triton kernels against their torch references: SSIM, L1, compositing, Adam."""

from __future__ import annotations

import pytest
import torch

from avatars.training import cuda_adam, cuda_images
from avatars.training.optimiser import EPSILON
from avatars.training.ssim import C1, C2, gaussian_taps, ssim_terms

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("shape", [(2, 13, 17, 3), (1, 6, 5, 1), (7, 200, 312, 3)])
def test_ssim_and_its_gradient(shape: tuple[int, ...]) -> None:
    draw = torch.Generator("cuda").manual_seed(0)
    images = torch.rand(*shape, generator=draw, device="cuda").requires_grad_()
    targets = (images.detach() + 0.2 * torch.randn(*shape, generator=draw, device="cuda")).clamp(0, 1)
    pull = torch.rand(shape[0], generator=draw, device="cuda")
    luminance, structure = ssim_terms(images, targets, padding=5)
    wanted = (luminance * structure).mean((1, 2, 3))
    found = cuda_images.ssim(images, targets, gaussian_taps().to(images), C1, C2)
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=0)
    slope, mine = (torch.autograd.grad((value * pull).sum(), images)[0] for value in (wanted, found))
    torch.testing.assert_close(mine / slope.abs().max(), slope / slope.abs().max(), atol=1e-4, rtol=0)


def test_ssim_of_equal_images_is_one() -> None:
    images = torch.rand(2, 20, 30, 3, device="cuda")
    torch.testing.assert_close(
        cuda_images.ssim(images, images, gaussian_taps().to(images), C1, C2), torch.ones(2, device="cuda")
    )


def test_mean_absolute_difference() -> None:
    images = torch.rand(2, 33, 21, 3, device="cuda").requires_grad_()
    targets = torch.rand(2, 33, 21, 3, device="cuda")
    targets[0, 0] = images.detach()[0, 0]  # equal numbers pull neither way
    wanted, found = (images - targets).abs().mean(), cuda_images.mean_absolute(images, targets)
    torch.testing.assert_close(found, wanted)
    slope, mine = (torch.autograd.grad(value * 1.7, images)[0] for value in (wanted, found))
    torch.testing.assert_close(mine, slope)


def test_pictures_over_backgrounds() -> None:
    pixels = torch.randint(0, 256, (3, 15, 7, 4), dtype=torch.uint8, device="cuda")
    backgrounds = torch.rand(3, 3, device="cuda")
    rgba = pixels.float() / 255
    wanted = rgba[..., :3] + (1 - rgba[..., 3:]) * backgrounds[:, None, None]
    torch.testing.assert_close(cuda_images.over_background(pixels, backgrounds), wanted)


def test_adam_takes_torchs_steps() -> None:
    draw = torch.Generator("cuda").manual_seed(0)
    wanted = torch.randn(5, 701, generator=draw, device="cuda").requires_grad_()
    found, mean, square = wanted.detach().clone(), torch.zeros_like(wanted), torch.zeros_like(wanted)
    adam = torch.optim.Adam([wanted], lr=0.01, eps=EPSILON)
    for steps in range(1, 20):
        gradient = torch.randn(5, 701, generator=draw, device="cuda") * 10.0 ** (steps % 5 - 3)
        wanted.grad = gradient
        adam.step()
        cuda_adam.step(found, gradient, mean, square, steps=steps, rate=0.01, betas=(0.9, 0.999), epsilon=EPSILON)
    torch.testing.assert_close(found, wanted.detach(), atol=1e-5, rtol=1e-4)
