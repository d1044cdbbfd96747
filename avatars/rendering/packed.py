"""Viewport pictures packed on the device; the format and its reference are in shared.packed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from avatars.lighting.colour import srgb_from_linear
from shared.packed import DEPTH_STEPS


def pack(colour: Tensor, cover: Tensor, depth: Tensor, near_m: float, far_m: float) -> Tensor:
    """[H, W, 2] float32 of premultiplied linear RGB [H, W, 3], cover [H, W] and depth [H, W] m, 0 where nothing is."""
    packed = torch.zeros(*cover.shape, 2, dtype=torch.float32, device=cover.device)
    alpha = (255 * cover.clamp(0, 1)).round()
    there = (alpha > 0) & (depth > 0)
    straight = colour[there] / cover[there].clamp(1e-6, 1)[:, None]
    encoded = (255 * srgb_from_linear(straight.clamp(0, 1))).round()
    steps = (depth[there] / near_m).log() / math.log(far_m / near_m)
    # Whole numbers below 2^24: exact in float32.
    packed[there] = torch.stack(
        [
            encoded[:, 0] + 256 * encoded[:, 1] + 65536 * encoded[:, 2],
            alpha[there] + 256 * (steps.clamp(0, 1) * DEPTH_STEPS).round(),
        ],
        dim=-1,
    )
    return packed
