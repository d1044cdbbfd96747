"""Structural similarity (Wang et al. 2004): Gaussian window 11x11, sigma 1.5, as a metric and as a loss."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatars.training import cuda_images
from shared.errors import EffigyError

WINDOW = 11
SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2  # for images in 0..1


def gaussian_taps(size: int = WINDOW, sigma: float = SIGMA) -> Tensor:
    """[size] float64 weights of a Gaussian window, summing to 1."""
    offset = torch.arange(size, dtype=torch.float64) - size // 2
    weights = torch.exp(-(offset**2) / (2 * sigma**2))
    return weights / weights.sum()


@cache
def _taps_array() -> Any:
    return gaussian_taps().float().numpy()


def window(maps: Tensor, *, padding: int) -> Tensor:
    """Filter [P, 1, H, W] with the window, rows then columns; `padding` zeros around (5 keeps the size, 0 shrinks)."""
    taps = gaussian_taps().to(maps)
    rows = torch.nn.functional.conv2d(maps, taps.view(1, 1, 1, -1), padding=(0, padding))
    return torch.nn.functional.conv2d(rows, taps.view(1, 1, -1, 1), padding=(padding, 0))


def ssim_terms(images: Tensor, targets: Tensor, *, padding: int) -> tuple[Tensor, Tensor]:
    """The luminance term and the contrast-structure term, [B, C, H', W'] each, of [B, H, W, C] images. Plain torch."""
    frames, height, width, channels = images.shape
    x = images.permute(0, 3, 1, 2).reshape(-1, 1, height, width)
    y = targets.permute(0, 3, 1, 2).reshape(-1, 1, height, width)
    mean_x, mean_y, xx, yy, xy = window(torch.cat([x, y, x * x, y * y, x * y]), padding=padding).chunk(5)
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    structure = (2 * (xy - mean_x * mean_y) + C2) / (xx - mean_x**2 + yy - mean_y**2 + C2)
    shape = (frames, channels, *luminance.shape[2:])
    return luminance.view(shape), structure.view(shape)


class _CompiledSSIM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, targets: Tensor) -> Tensor:
        from avatars.rendering import jit
        from avatars.training.cpu_ssim import ssim_and_gradient

        x, y = (tensor.detach().to(torch.float32).contiguous().numpy() for tensor in (images, targets))
        frames, height, width, channels = x.shape
        sums = np.zeros((frames, channels))
        gradient = np.empty(x.shape if ctx.needs_input_grad[0] else (0, 0, 0, 0), np.float32)
        jit.run(ssim_and_gradient, x, y, _taps_array(), C1, C2, sums, gradient)
        ctx.scale = 1.0 / (height * width * channels)
        ctx.save_for_backward(torch.from_numpy(gradient))
        return torch.from_numpy((sums.sum(axis=1) * ctx.scale).astype(np.float32))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * (upstream * ctx.scale)[:, None, None, None], None


def check_images(images: Tensor, targets: Tensor) -> None:
    """Raise EffigyError unless both are floating-point [B, H, W, C] of the same shape with at least one pixel."""
    floating = images.is_floating_point() and targets.is_floating_point()
    if images.shape != targets.shape or images.ndim != 4 or images.numel() == 0 or not floating:
        raise EffigyError(
            "images to compare do not fit each other",
            found=f"{list(images.shape)} {images.dtype} and {list(targets.shape)} {targets.dtype}",
            expected="two floating-point batches [B, H, W, C] of one shape",
        )


def ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Mean SSIM of each pair of images, [B]. images, targets: [B, H, W, C] in 0..1, display-encoded.

    Borders are padded with zeros, as in the code of Kerbl et al. 2023 and those who compare with it. Differentiable by
    `images`, not by `targets`. Compiled kernels on the CPU and on CUDA.
    """
    check_images(images, targets)
    if images.device.type == "cpu" and images.dtype == torch.float32:
        return _CompiledSSIM.apply(images, targets)  # type: ignore[no-untyped-call, no-any-return]
    if cuda_images.usable(images, targets):
        return cuda_images.ssim(images, targets.detach(), gaussian_taps().to(images), C1, C2)
    luminance, structure = ssim_terms(images, targets.detach(), padding=WINDOW // 2)
    return (luminance * structure).mean(dim=(1, 2, 3))
