"""Pictures on their way to a diffusion model and back: padded or resized to what it takes, then cut out again."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad


def squared(images: Tensor, background: Tensor, side_px: int) -> Tensor:
    """Pictures [B, H, W, 3] in the middle of a square of the background [3], [B, 3, side_px, side_px]."""
    planes = images.permute(0, 3, 1, 2)
    high, wide = planes.shape[2:]
    left, right, top, bottom = margins(high, wide)
    ground = background.to(planes).view(1, 3, 1, 1)
    padded = pad(planes - ground, (left, right, top, bottom)) + ground
    return resized(padded, side_px, side_px)


def unsquared(planes: Tensor, high: int, wide: int) -> Tensor:
    """The inverse of `squared`: [B, H, W, 3] of squares [B, 3, S, S]."""
    side = max(high, wide)
    left, _, top, _ = margins(high, wide)
    whole = resized(planes, side, side)
    return whole[:, :, top : top + high, left : left + wide].permute(0, 2, 3, 1)


def margins(high: int, wide: int) -> tuple[int, int, int, int]:
    """Left, right, top, bottom px that make a picture square."""
    side = max(high, wide)
    left, top = (side - wide) // 2, (side - high) // 2
    return left, side - wide - left, top, side - high - top


def resized(planes: Tensor, high: int, wide: int) -> Tensor:
    """Planes [B, C, H, W] at another size, bilinear, without aliases where smaller."""
    if planes.shape[2:] == (high, wide):
        return planes
    smaller = high < planes.shape[2] or wide < planes.shape[3]
    return interpolate(planes, (high, wide), mode="bilinear", align_corners=False, antialias=smaller)


def fitted(images: Tensor, longest_px: int, multiple: int) -> Tensor:
    """Pictures [B, H, W, 3] as planes [B, 3, H', W'] with sides that are multiples, the longer near `longest_px`."""
    planes = images.permute(0, 3, 1, 2)
    factor = longest_px / max(planes.shape[2:])
    high, wide = (max(multiple, round(side * factor / multiple) * multiple) for side in planes.shape[2:])
    return resized(planes, high, wide)


def blended(before: Tensor, after: Tensor, strength: float, full: float = 0.8) -> Tensor:
    """Part of an edit, [B, H, W, 3]: all of it from the usual strength `full` on."""
    return torch.lerp(before, after.to(before), min(1.0, strength / full)).clamp(0, 1)
