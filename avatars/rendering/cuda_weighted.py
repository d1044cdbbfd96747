"""Weighted blending on CUDA: gsplat projects and sorts into tiles, Triton kernels blend (`weighted.py`)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatars.rendering.cameras import CameraBatch
from avatars.rendering.constants import ALPHA_FLOOR, BLUR_PX2
from avatars.rendering.cpu_weighted import incoming_of
from avatars.rendering.gsplat_backend import gsplat_rasterization, views_of
from avatars.rendering.has_triton import available
from shared.errors import EnvironmentFailed


class _Blend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        means_px: Tensor,
        conics: Tensor,
        opacities: Tensor,
        colours: Tensor,
        lists: tuple[Tensor, Tensor],
        size: tuple[int, int],
        beta: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        from avatars.rendering import cuda_weighted_kernels as kernels

        parts = tuple(part.contiguous() for part in (means_px, conics, opacities, colours))
        frames, (height, width) = len(means_px), size
        sums = torch.empty(frames, height, width, 5, device=means_px.device)
        seen = torch.zeros(opacities.shape, device=means_px.device)
        grid, sizes = _plan(lists, size)
        kernels.blend_weighted[grid](*parts, *lists, sums, seen, *sizes, beta, PIXELS=128, num_warps=1)
        alpha, total = sums[..., 4].contiguous(), sums[..., 3].clamp_min(1e-12)
        factor, mean = alpha / total, sums[..., :3] / total[..., None]
        ctx.save_for_backward(*parts, *lists, alpha, factor, mean)
        ctx.size, ctx.beta = size, beta
        ctx.mark_non_differentiable(seen)
        return mean * alpha[..., None], alpha, seen

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, by_image: Tensor, by_alpha: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        from avatars.rendering import cuda_weighted_kernels as kernels

        *saved, alpha, factor, mean = ctx.saved_tensors
        parts, lists = saved[:4], (saved[4], saved[5])
        incoming = incoming_of(by_image, by_alpha, factor, mean).contiguous()
        gradients = tuple(torch.zeros_like(part) for part in parts)
        grid, sizes = _plan(lists, ctx.size)
        work = (*parts, *lists, alpha, incoming, *gradients)
        kernels.blend_weighted_backward[grid](*work, *sizes, ctx.beta, PIXELS=128, num_warps=1)
        return *gradients, None, None, None


def _plan(lists: tuple[Tensor, Tensor], size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, ...]]:
    """The grid, and pairs, width, height, tiles across and down, tiles of all frames."""
    offsets, flatten = lists
    tiles_y, tiles_x = offsets.shape[-2:]
    tiles = offsets.numel()
    return (tiles, 2), (flatten.numel(), size[1], size[0], tiles_x, tiles_y, tiles)


def blend(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colours: Tensor,
    cameras: CameraBatch,
    beta: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Premultiplied colours [B, H, W, 3], alpha [B, H, W], shares [B, N]; CUDA, float32. Raises EnvironmentFailed."""
    rasterization, newer = gsplat_rasterization()
    if not available():
        raise EnvironmentFailed(
            "weighted blending on CUDA needs Triton", found="no Triton", do="Edit with edit.wabe=off, or on the CPU"
        )
    frames, count = means.shape[:2]
    shape = (frames, cameras.height_px, cameras.width_px)
    if count == 0:
        nothing = colours.sum() * 0 + means.sum() * 0
        return colours.new_zeros(*shape, 3) + nothing, means.new_zeros(shape), means.new_zeros(frames, 0)
    _, _, meta = rasterization(
        means=means.float(),
        quats=quats.float(),
        scales=scales.float(),
        opacities=opacities.float(),
        colors=colours.detach().float(),
        **views_of(cameras, means.device),
        camera_model="ortho" if cameras.orthographic else "pinhole",
        eps2d=BLUR_PX2,
        tile_size=16,
        render_mode="RGB",
        **newer,
    )
    means_px, conics = meta["means2d"].reshape(frames, count, 2), meta["conics"].reshape(frames, count, 3)
    lists = (meta["isect_offsets"].int().contiguous(), meta["flatten_ids"].int().contiguous())
    drawn = (meta["radii"].reshape(frames, count, -1) > 0).all(-1)
    size = (cameras.height_px, cameras.width_px)
    shown, alpha, seen = _Blend.apply(means_px, conics, opacities.float(), colours.float(), lists, size, beta)
    with torch.no_grad():
        xx, xy, yy = conics.unbind(-1)
        alone = 2 * math.pi / (xx * yy - xy * xy).clamp_min(1e-12).sqrt() * (opacities - ALPHA_FLOOR)
        shares = torch.where(drawn & (alone > 0), seen / alone.clamp_min(1e-12), 0.0).clamp(0, 1)
    return shown, alpha, shares
