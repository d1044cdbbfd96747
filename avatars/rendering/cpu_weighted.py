"""Weighted blending on the CPU as a differentiable torch function (`weighted.py` says what it is)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatars.rendering import cpu_project, jit
from avatars.rendering import cpu_weighted_kernels as kernels
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.constants import ALPHA_FLOOR
from avatars.rendering.cpu import Tiles, as_array


class _BlendWeighted(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        colours: Tensor,
        cameras: CameraBatch,
        beta: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        inputs = (means, quats, scales, opacities, colours)
        arrays = tuple(as_array(tensor) for tensor in inputs)
        tiles = Tiles(arrays, cameras)
        frames, count = means.shape[:2]
        sums = np.empty((frames, cameras.height_px, cameras.width_px, kernels.SUMS), np.float32)
        seen = np.zeros(int(tiles.first_pair[-1]) + 1, np.float32)  # one spare keeps the sums below in range
        lists = (tiles.start, tiles.splat, tiles.slot, tiles.rows)
        flat = arrays[4].reshape(-1, 3)
        work = (tiles.splats, flat, *lists, float(beta), sums, tiles.used, seen)
        jit.run(kernels.blend_weighted, *work, pieces=tiles.pair_pieces)
        total = torch.from_numpy(sums)
        alpha = total[..., 4].contiguous()
        factor = alpha / total[..., 3].clamp_min(1e-12)
        mean = total[..., :3] / total[..., 3:4].clamp_min(1e-12)
        ctx.tiles, ctx.cameras, ctx.beta = tiles, cameras, float(beta)
        ctx.save_for_backward(*inputs, alpha, factor, mean)
        shares = torch.from_numpy(_shares(tiles, seen).reshape(frames, count))
        ctx.mark_non_differentiable(shares)
        return mean * alpha[..., None], alpha, shares

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, by_image: Tensor, by_alpha: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, alpha, factor, mean = ctx.saved_tensors
        saved = tuple(as_array(tensor) for tensor in inputs)
        tiles, cameras = ctx.tiles, ctx.cameras
        incoming = incoming_of(by_image, by_alpha, factor, mean)
        pairs = np.empty((int(tiles.first_pair[-1]), cpu_project.PAIR_COLUMNS + 3), np.float32)
        lists = (tiles.start, tiles.splat, tiles.slot, tiles.rows, tiles.used)
        flat = saved[4].reshape(-1, 3)
        work = (tiles.splats, flat, *lists, ctx.beta, as_array(alpha), as_array(incoming), pairs)
        jit.run(kernels.blend_weighted_backward, *work, pieces=tiles.pair_pieces)
        gradients = tuple(np.zeros_like(array) for array in saved)
        lens = (tiles.K, tiles.pose, cameras.width_px, cameras.height_px, bool(cameras.orthographic), False)
        work = (*saved[:3], *lens, tiles.splats, tiles.first_pair, pairs, *gradients)
        jit.run(cpu_project.project_backward, *work, pieces=tiles.splat_pieces)
        return *(torch.from_numpy(gradient) for gradient in gradients), None, None


def incoming_of(by_image: Tensor, by_alpha: Tensor, factor: Tensor, mean: Tensor) -> Tensor:
    """What a unit of weighted colour, of weight and of coverage is worth, [B, H, W, 5].

    by_image [B, H, W, 3], by_alpha [B, H, W]: gradients of the outputs; factor [B, H, W] = coverage / weights; mean
    [B, H, W, 3] = weighted colours / weights.
    """
    along = (by_image * mean).sum(-1)
    worth = by_image * factor[..., None]
    return torch.cat((worth, (-factor * along)[..., None], (by_alpha + along)[..., None]), -1)


def _shares(tiles: Tiles, seen: Any) -> Any:
    """Of what each Gaussian would cover alone, how much of it is seen, [B * N] in 0..1."""
    running = np.concatenate([np.zeros(1), np.cumsum(seen, dtype=np.float64)])
    mass = running[tiles.first_pair[1:]] - running[tiles.first_pair[:-1]]
    xx, xy, yy, opacity = (
        tiles.splats[:, column].astype(np.float64)
        for column in (cpu_project.CONIC_XX, cpu_project.CONIC_XY, cpu_project.CONIC_YY, cpu_project.OPACITY)
    )
    drawn = tiles.first_pair[1:] > tiles.first_pair[:-1]
    with np.errstate(all="ignore"):
        alone = 2 * np.pi / np.sqrt(xx * yy - xy * xy) * (opacity - ALPHA_FLOOR)
        share = np.where(drawn & (alone > 0), mass / alone, 0.0)
    return np.nan_to_num(share).clip(0, 1).astype(np.float32)


def blend(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colours: Tensor,
    cameras: CameraBatch,
    beta: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Premultiplied colours [B, H, W, 3], alpha [B, H, W], shares [B, N]; CPU, float32."""
    return _BlendWeighted.apply(means, quats, scales, opacities, colours, cameras, beta)  # type: ignore[no-untyped-call, no-any-return]
