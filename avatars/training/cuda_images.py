"""Image sums of training on CUDA, each forward pass making its gradient as well. The torch forms are the reference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatars.rendering.has_triton import available

MAPS_BYTES = 36 << 20
"""So many pictures are filtered at once that their maps stay in a large device's cache from one pass to the next."""


def usable(*images: Tensor) -> bool:
    """Whether the kernels serve these tensors: CUDA, float32, and Triton is here."""
    return all(image.is_cuda and image.dtype == torch.float32 for image in images) and available()


def over_background(pixels: Tensor, backgrounds: Tensor) -> Tensor:
    """Premultiplied uint8 RGBA [B, H, W, 4] over colours [B, 3] in 0..1: [B, H, W, 3] float32."""
    from avatars.training.cuda_image_kernels import PIXELS_A_BLOCK
    from avatars.training.cuda_image_kernels import over_background as kernel

    frames, height, width, _ = pixels.shape
    out = torch.empty(frames, height, width, 3, device=pixels.device)
    blocks = -(-height * width // PIXELS_A_BLOCK)
    kernel[(blocks, frames)](pixels, backgrounds.contiguous(), out, height * width, BLOCK=PIXELS_A_BLOCK)
    return out


class _MeanAbsolute(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, targets: Tensor) -> Tensor:
        from avatars.training.cuda_image_kernels import NUMBERS_A_BLOCK, absolute_difference

        images, targets = images.contiguous(), targets.contiguous()
        count = images.numel()
        blocks = -(-count // NUMBERS_A_BLOCK)
        sums, signs = images.new_empty(blocks), torch.empty_like(images)
        absolute_difference[(blocks,)](images, targets, sums, signs, count, 1.0 / count, BLOCK=NUMBERS_A_BLOCK)
        ctx.save_for_backward(signs)
        return sums.sum() / count

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (signs,) = ctx.saved_tensors
        return signs * upstream, None


def mean_absolute(images: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute difference, a scalar; differentiable by `images` only."""
    return _MeanAbsolute.apply(images, targets)  # type: ignore[no-untyped-call, no-any-return]


class _SSIM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, targets: Tensor, taps: Tensor, c1: float, c2: float) -> Tensor:
        from avatars.training import cuda_image_kernels as kernels

        images, targets = images.contiguous(), targets.contiguous()
        frames, height, width, channels = images.shape
        row, total = width * channels, images[0].numel()
        gradient = torch.empty_like(images) if ctx.needs_input_grad[0] else None
        blocks, line = -(-total // kernels.ROW_BLOCK), {"BLOCK": kernels.ROW_BLOCK}
        tiles = (-(-row // kernels.TILE_COLUMNS), -(-height // kernels.TILE_ROWS))
        tile = {"ROWS": kernels.TILE_ROWS, "COLUMNS": kernels.TILE_COLUMNS}
        sums = images.new_empty(frames, tiles[0] * tiles[1])
        some = max(1, MAPS_BYTES // (5 * 4 * total))
        maps = images.new_empty(some, 5, total)
        slopes = images.new_empty(some, 3, total) if gradient is not None else maps
        for first in range(0, frames, some):
            few = slice(first, first + some)
            x, y = images[few], targets[few]
            kernels.ssim_rows[(blocks, len(x))](x, y, taps, maps, width, channels, total, **line)
            kernels.ssim_columns[(*tiles, len(x))](
                maps, taps, sums[few], slopes, height, row, total, c1, c2, GRADIENT=gradient is not None, **tile
            )
            if gradient is not None:
                kernels.slope_rows[(blocks, len(x))](slopes, taps, maps, width, channels, total, **line)
                kernels.slope_columns[(*tiles, len(x))](maps, taps, x, y, gradient[few], height, row, total, **tile)
        ctx.scale = 1.0 / total
        ctx.save_for_backward(*(() if gradient is None else (gradient,)))
        return sums.sum(1) * ctx.scale

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * (upstream * ctx.scale)[:, None, None, None], None, None, None, None


def ssim(images: Tensor, targets: Tensor, taps: Tensor, c1: float, c2: float) -> Tensor:
    """Mean SSIM [B] of images [B, H, W, C] with window `taps` [11], zeros around; differentiable by `images` only."""
    return _SSIM.apply(images, targets, taps, c1, c2)  # type: ignore[no-untyped-call, no-any-return]
