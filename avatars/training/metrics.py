"""How alike two images are: PSNR, SSIM, MS-SSIM and FLIP, each [B] for [B, H, W, C] images in 0..1, display-encoded."""

from __future__ import annotations

import torch
from torch import Tensor

from avatars.training.losses import halved
from avatars.training.ssim import WINDOW, check_images, ssim_terms
from shared.errors import EffigyError

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, table of section 3.2


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, [B]; infinite for equal images."""
    check_images(images, targets)
    return -10.0 * torch.log10((images - targets).square().mean(dim=(1, 2, 3)))


def ms_ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Multi-scale SSIM (Wang, Simoncelli and Bovik 2003), [B]; five scales, windows inside the image only.

    Images must be at least 176 px a side, so that the window fits into the smallest scale.
    """
    check_images(images, targets)
    least = WINDOW * 2 ** (len(SCALE_WEIGHTS) - 1)
    if min(images.shape[1:3]) < least:
        raise EffigyError(
            "images are too small for MS-SSIM",
            found=f"{images.shape[2]}x{images.shape[1]}",
            expected=f"{least} px a side",
        )
    product = images.new_ones(images.shape[0], images.shape[3])
    for scale, weight in enumerate(SCALE_WEIGHTS):
        luminance, structure = ssim_terms(images, targets, padding=0)
        last = scale == len(SCALE_WEIGHTS) - 1
        score = (luminance * structure if last else structure).mean(dim=(2, 3))
        product = product * score.clamp(min=0) ** weight
        if not last:
            images, targets = halved(images), halved(targets)
    return product.mean(dim=1)
