"""Image losses of training. Images are [B, H, W, C] in 0..1, display-encoded, already over their background.

Only `images` carry gradients. The linear ones (gradient, pyramid) work on the difference, so each costs one pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avatars.training import cuda_images
from avatars.training.ssim import WINDOW, check_images, ssim

CHARBONNIER_EPSILON = 1e-3
SCALES = 5


def l1_loss(images: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute difference, a scalar."""
    check_images(images, targets)
    if cuda_images.usable(images, targets):
        return cuda_images.mean_absolute(images, targets)
    return (images - targets).abs().mean()


def dssim_loss(images: Tensor, targets: Tensor) -> Tensor:
    """1 - mean SSIM, a scalar in 0..2; differentiable by `images` only."""
    return 1.0 - ssim(images, targets).mean()


def charbonnier_loss(images: Tensor, targets: Tensor) -> Tensor:
    """Mean of sqrt(d^2 + 1e-6) - 1e-3: absolute difference with a round bottom (Charbonnier et al. 1994), a scalar."""
    check_images(images, targets)
    error = (images - targets).square() + CHARBONNIER_EPSILON**2
    return error.sqrt().mean() - CHARBONNIER_EPSILON


def multi_scale_dssim_loss(images: Tensor, targets: Tensor) -> Tensor:
    """1 - mean of SSIM over up to five scales, each half the last, a scalar.

    The plain mean over scales, not MS-SSIM's product of powers: that has no gradient where a scale's mean is negative.
    Scales whose shorter side would be below the window (11 px) are left out; the first never is.
    """
    total, scales = dssim_loss(images, targets), 1
    while scales < SCALES and min(images.shape[1:3]) >= 2 * WINDOW:
        images, targets = halved(images), halved(targets)
        total, scales = total + dssim_loss(images, targets), scales + 1
    return total / scales


def gradient_loss(images: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute difference of the steps from pixel to pixel, along rows plus along columns, a scalar.

    A direction with a single pixel adds nothing.
    """
    check_images(images, targets)
    error = images - targets
    steps = (error[:, :, 1:] - error[:, :, :-1], error[:, 1:] - error[:, :-1])
    return steps[0].abs().sum() / max(steps[0].numel(), 1) + steps[1].abs().sum() / max(steps[1].numel(), 1)


def pyramid_loss(images: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute difference of Laplacian pyramids (Burt and Adelson 1983; box filter), averaged over levels.

    Up to five levels, the last one the remaining coarse image. A level is the image less its halved version enlarged
    again; sides below 2 px are not halved.
    """
    check_images(images, targets)
    error = (images - targets).permute(0, 3, 1, 2)
    total, levels = error.new_zeros(()), 1
    while levels < SCALES and min(error.shape[2:]) >= 2:
        coarse = torch.nn.functional.avg_pool2d(error, 2, ceil_mode=True, count_include_pad=False)
        smooth = torch.nn.functional.interpolate(coarse, size=error.shape[2:], mode="bilinear", align_corners=False)
        total, levels = total + (error - smooth).abs().mean(), levels + 1
        error = coarse
    return (total + error.abs().mean()) / levels


def halved(images: Tensor) -> Tensor:
    """[B, H, W, C] at half the size, by means of 2x2 pixels; a last odd row or column is dropped."""
    return torch.nn.functional.avg_pool2d(images.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def orthogonality(deltas: tuple[Tensor, ...]) -> Tensor:
    """How alike blendshapes are (method page 3.1), a scalar.

    For each attribute's deltas [K, N, C] the Frobenius norm of the strict upper triangle of the Gram matrix of the K
    unit-length rows, summed over the attributes.
    Deltas shorter than 1e-6 (those that have not started) count as far as they have come.
    """
    total = deltas[0].new_zeros(())
    for attribute in deltas:
        rows = torch.nn.functional.normalize(attribute.flatten(1), dim=1, eps=1e-6)
        total = total + torch.linalg.vector_norm(torch.triu(rows @ rows.T, diagonal=1))
    return total
