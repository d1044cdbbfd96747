"""Latitude-longitude maps: which way a pixel looks, how much of the sphere it is, and looking a direction up.

The mapping is `shared.types.Environment`'s: row 0 looks towards +z, column u towards azimuth (0.5 - u) 2 pi.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def row_solid_angles(height: int, width: int) -> Tensor:
    """Solid angle [H] sr of one pixel of each row, float64; all pixels together are 4 pi."""
    edges = torch.linspace(0, math.pi, height + 1, dtype=torch.float64).cos()
    return (edges[:-1] - edges[1:]) * (2 * math.pi / width)


def pixel_directions(height: int, width: int) -> Tensor:
    """Unit directions [H, W, 3] of pixel centres, float64."""
    polar = ((torch.arange(height, dtype=torch.float64) + 0.5) / height * math.pi)[:, None]
    azimuth = ((0.5 - (torch.arange(width, dtype=torch.float64) + 0.5) / width) * 2 * math.pi)[None]
    one = torch.ones_like(azimuth)
    return torch.stack([polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin(), polar.cos() * one], dim=-1)


def columns_rows(directions: Tensor, rotation_rad: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """Where directions [..., 3] meet a map turned by rotation_rad about +z: u and v [...] in 0..1, u wrapped.

    Directions need not be unit. At a pole, where the azimuth means nothing, its gradient is 0.
    """
    x, y, z = directions.unbind(-1)
    flat = x.square() + y.square()
    at_pole = flat < 1e-12 * (flat + z.square()).clamp(min=1e-30)
    x, y = torch.where(at_pole, torch.ones_like(x), x), torch.where(at_pole, torch.zeros_like(y), y)
    radius = torch.where(at_pole, torch.zeros_like(flat), torch.where(at_pole, torch.ones_like(flat), flat).sqrt())
    u = 0.5 - (torch.atan2(y, x) - rotation_rad) / (2 * math.pi)
    v = torch.atan2(radius, z) / math.pi
    return u - u.detach().floor(), v


def resampled(radiance: Tensor, height: int, width: int) -> Tensor:
    """A map [H, W, C] at another size: every new pixel is the mean radiance over its part of the sphere.

    Exact, so that no light is lost: a sun of one texel keeps its energy.
    """
    old_height, old_width, _ = radiance.shape
    if (old_height, old_width) == (height, width):
        return radiance
    rows = _overlaps(_heights(height), _heights(old_height)).to(radiance)
    columns = _overlaps(torch.linspace(0, 1, width + 1).double(), torch.linspace(0, 1, old_width + 1).double())
    return torch.einsum("ih,hwc,jw->ijc", rows, radiance, columns.to(radiance))


def _heights(height: int) -> Tensor:
    """Edges of rows as parts of the sphere's area, rising."""
    return (1 - torch.linspace(0, math.pi, height + 1, dtype=torch.float64).cos()) / 2


def _overlaps(new: Tensor, old: Tensor) -> Tensor:
    """[N, M]: which part of interval n of `new` lies in interval m of `old`; rows sum to 1."""
    low = torch.maximum(new[:-1, None], old[None, :-1])
    high = torch.minimum(new[1:, None], old[None, 1:])
    return (high - low).clamp(min=0) / (new[1:] - new[:-1])[:, None]


def looked_up(images: Tensor, u: Tensor, v: Tensor, level: Tensor | None = None) -> Tensor:
    """Bilinear values [..., C] of a map [H, W, C] at u and v [...] in 0..1; wraps around, and over the poles.

    Over a pole the neighbour is the pixel half a turn away in the same row. With level [...] int64, images is
    [L, H, W, C] and each place looks into its own map.
    """
    height, width, channels = images.shape[-3:]
    x, y = u * width - 0.5, v * height - 0.5
    left, top = x.detach().floor(), y.detach().floor()
    across, down = (x - left)[..., None], (y - top)[..., None]
    left_index, top_index = left.long(), top.long()
    base = 0 if level is None else level * (height * width)
    flat = images.reshape(-1, channels)

    def at(row: Tensor, column: Tensor) -> Tensor:
        over = (row < 0) | (row >= height)
        column = torch.where(over, column + width // 2, column) % width
        return flat[base + row.clamp(0, height - 1) * width + column]

    upper = at(top_index, left_index) * (1 - across) + at(top_index, left_index + 1) * across
    lower = at(top_index + 1, left_index) * (1 - across) + at(top_index + 1, left_index + 1) * across
    return upper * (1 - down) + lower * down


def enlarged(image: Tensor, height: int) -> Tensor:
    """A smooth map [H, 2 H, C] at more rows, bilinear."""
    if image.shape[0] == height:
        return image
    v = ((torch.arange(height, dtype=image.dtype, device=image.device) + 0.5) / height)[:, None]
    u = ((torch.arange(2 * height, dtype=image.dtype, device=image.device) + 0.5) / (2 * height))[None]
    return looked_up(image, u.expand(height, -1), v.expand(-1, 2 * height))
