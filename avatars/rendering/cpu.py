"""The compiled CPU rasteriser as a differentiable torch function."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatars.rendering import cpu_blend, cpu_project, cpu_tiles, jit
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.cpu_tiles import TILE_HEIGHT, TILE_WIDTH

_SPLATS_A_PIECE, _PAIRS_A_PIECE = 2000, 4000


class Tiles:
    """Projected Gaussians and each tile's list of them, front to back."""

    def __init__(self, arrays: tuple[Any, ...], cameras: CameraBatch, sharp: bool = False) -> None:
        means, quats, scales, opacities, features = arrays
        frames, count = means.shape[:2]
        width, height = cameras.width_px, cameras.height_px
        self.K, self.pose = as_array(cameras.K), as_array(cameras.camera_from_world)
        self.splats = np.empty((frames * count, cpu_project.SPLAT_COLUMNS), np.float32)
        self.splat_pieces = frames * count // _SPLATS_A_PIECE
        pairs = np.empty(frames * count, np.int32)
        jit.run(
            cpu_project.project,
            means,
            quats,
            scales,
            opacities,
            features,
            self.K,
            self.pose,
            width,
            height,
            float(cameras.near_m),
            bool(cameras.orthographic),
            sharp,
            TILE_WIDTH,
            TILE_HEIGHT,
            self.splats,
            pairs,
            pieces=self.splat_pieces,
        )
        self.first_pair = np.zeros(frames * count + 1, np.int64)
        np.cumsum(pairs, out=self.first_pair[1:])
        total = int(self.first_pair[-1])
        self.pair_pieces = total // _PAIRS_A_PIECE
        tiles = -(-width // TILE_WIDTH) * -(-height // TILE_HEIGHT)
        self.start = np.zeros(frames * tiles + 1, np.int64)
        self.splat, self.slot, tile, self.rows = (np.empty(total, np.int32) for _ in range(4))
        self.used = np.zeros(frames * tiles, np.int32)
        if total:
            found = (self.first_pair, tile, self.rows)
            jit.run(cpu_tiles.list_pairs, count, width, height, self.splats, *found, pieces=self.splat_pieces)
            lists = (self.first_pair, tile, self.start, self.splat, self.slot)
            jit.run(cpu_tiles.fill_tiles, frames, count, self.splats, *lists, pieces=frames)


def as_array(tensor: Tensor) -> Any:
    """The tensor's values as a contiguous float32 numpy array, shared where that is possible."""
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy()


class _Blend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        features: Tensor,
        cameras: CameraBatch,
        sharp: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        inputs = (means, quats, scales, opacities, features)
        arrays = tuple(as_array(tensor) for tensor in inputs)
        tiles = Tiles(arrays, cameras, sharp)
        frames, _, channels = features.shape
        shape = (frames, cameras.height_px, cameras.width_px)
        images = (np.empty((*shape, channels), np.float32), np.empty(shape, np.float32), np.empty(shape, np.float32))
        lists = (tiles.start, tiles.splat, tiles.slot, tiles.rows)
        flat = arrays[4].reshape(-1, channels)
        jit.run(cpu_blend.blend, tiles.splats, flat, *lists, *images, tiles.used, pieces=tiles.pair_pieces)
        image, alpha, depth = (torch.from_numpy(array).to(means.device) for array in images)
        ctx.tiles, ctx.cameras, ctx.sharp = tiles, cameras, sharp
        ctx.save_for_backward(*inputs, image, alpha, depth)
        return image, alpha, depth

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor | None, ...]:
        saved = tuple(as_array(tensor) for tensor in ctx.saved_tensors)
        (means, quats, scales, _, features), images = saved[:5], saved[5:]
        tiles, cameras = ctx.tiles, ctx.cameras
        channels = features.shape[2]
        incoming = tuple(as_array(gradient) for gradient in output_gradients)
        pairs = np.empty((int(tiles.first_pair[-1]), cpu_project.PAIR_COLUMNS + channels), np.float32)
        lists = (tiles.start, tiles.splat, tiles.slot, tiles.rows, tiles.used)
        flat = features.reshape(-1, channels)
        work = (tiles.splats, flat, *lists, *images, *incoming, pairs)
        jit.run(cpu_blend.blend_backward, *work, pieces=tiles.pair_pieces)
        gradients = tuple(np.zeros_like(array) for array in saved[:5])
        lens = (tiles.K, tiles.pose, cameras.width_px, cameras.height_px, bool(cameras.orthographic), ctx.sharp)
        work = (means, quats, scales, *lens, tiles.splats, tiles.first_pair, pairs, *gradients)
        jit.run(cpu_project.project_backward, *work, pieces=tiles.splat_pieces)
        device = output_gradients[0].device
        return *(torch.from_numpy(gradient).to(device) for gradient in gradients), None, None


def blend(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    features: Tensor,
    cameras: CameraBatch,
    *,
    sharp: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Premultiplied features [B, H, W, C], alpha [B, H, W], alpha-weighted depth sum [B, H, W]; CPU, float32."""
    return _Blend.apply(means, quats, scales, opacities, features, cameras, sharp)  # type: ignore[no-untyped-call, no-any-return]
