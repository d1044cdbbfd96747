"""The compiled CPU surfel rasteriser as a differentiable torch function."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatars.rendering import cpu_surfel_kernels as kernels
from avatars.rendering import jit
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.cpu import as_array
from avatars.rendering.surfels import ProjectedSurfels

_PAIRS_A_PIECE = 2000


class _Lists:
    """Each tile's surfels, front to back, and a slot of its own for the gradient of every (surfel, tile) pair."""

    def __init__(self, projected: ProjectedSurfels, width: int, height: int) -> None:
        centres, half = as_array(projected.centres_px), as_array(projected.half_px)
        depths = as_array(projected.depths)
        drawn = projected.drawn.cpu().numpy()
        self.frames, self.count = drawn.shape
        boxes = np.zeros((self.frames, self.count, 4), np.int32)
        limits = np.array([width, height], np.float32)
        low = np.clip(np.ceil(centres - half - 0.5), 0, limits)
        high = np.clip(np.floor(centres + half - 0.5) + 1, 0, limits)
        seen = drawn & (high > low).all(-1)
        boxes[seen] = np.concatenate((low, high), -1)[seen]
        self.boxes = boxes.reshape(-1, 4)
        order = np.argsort(np.where(seen, depths, np.inf), axis=1, kind="stable").astype(np.int64)
        self.start, self.entries, self.first_slot = kernels.listed(
            self.boxes, order, seen.sum(1), width, height, self.frames, self.count
        )


class _Blend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        matrices: Tensor,
        centres: Tensor,
        depths: Tensor,
        opacities: Tensor,
        features: Tensor,
        projected: ProjectedSurfels,
        size: tuple[int, int],
    ) -> tuple[Tensor, ...]:
        width, height = size
        frames, _, channels = features.shape
        lists = _Lists(projected, width, height)
        arrays = (
            as_array(matrices).reshape(-1, 9),
            as_array(centres).reshape(-1, 2),
            as_array(depths).reshape(-1),
            as_array(opacities).reshape(-1),
            as_array(features).reshape(-1, channels),
        )
        images = np.zeros((frames, height, width, channels + 3), np.float32)
        pieces = len(lists.entries) // _PAIRS_A_PIECE + 1
        jit.run(kernels.blend, *arrays, lists.boxes, lists.start, lists.entries, images, pieces=pieces)
        ctx.lists, ctx.pieces, ctx.arrays, ctx.images = lists, pieces, arrays, images
        found = torch.from_numpy(images).to(features.device)
        return found[..., :channels], *(found[..., channels + extra] for extra in range(3))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor | None, ...]:
        lists, arrays, images = ctx.lists, ctx.arrays, ctx.images
        channels = images.shape[-1] - 3
        slopes = np.concatenate([as_array(incoming[0]), *(as_array(part)[..., None] for part in incoming[1:])], -1)
        pairs = np.zeros((len(lists.entries), kernels.PAIR_COLUMNS + channels), np.float32)
        jit.run(
            kernels.blend_backward,
            *arrays,
            lists.boxes,
            lists.start,
            lists.entries,
            images,
            slopes,
            pairs,
            pieces=ctx.pieces,
        )
        total = kernels.summed(pairs, lists.first_slot)
        device, shape = incoming[0].device, (lists.frames, lists.count)
        found = torch.from_numpy(total).to(device)
        return (
            found[:, :9].reshape(*shape, 3, 3),
            found[:, 9:11].reshape(*shape, 2),
            found[:, 12].reshape(shape),
            found[:, 11].reshape(shape),
            found[:, kernels.PAIR_COLUMNS :].reshape(*shape, channels),
            None,
            None,
        )


def blend(
    projected: ProjectedSurfels, opacities: Tensor, features: Tensor, cameras: CameraBatch, distortion: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Premultiplied features [B, H, W, C], alpha, alpha-weighted depth sum, distortion [B, H, W]; CPU, float32."""
    image, alpha, depth, spread = _Blend.apply(  # type: ignore[no-untyped-call]
        projected.pixel_from_surfel,
        projected.centres_px,
        projected.depths,
        opacities,
        features,
        projected,
        (cameras.width_px, cameras.height_px),
    )
    return image, alpha, depth, spread if distortion else torch.zeros_like(alpha)
