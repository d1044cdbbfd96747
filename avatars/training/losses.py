"""Image losses of training. Images are [B, H, W, C] in 0..1, display-encoded, already over their background."""

from __future__ import annotations

from torch import Tensor

from avatars.training.ssim import check_images, ssim


def l1_loss(images: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute difference, a scalar."""
    check_images(images, targets)
    return (images - targets).abs().mean()


def dssim_loss(images: Tensor, targets: Tensor) -> Tensor:
    """1 - mean SSIM, a scalar in 0..2; differentiable by `images` only."""
    return 1.0 - ssim(images, targets).mean()
