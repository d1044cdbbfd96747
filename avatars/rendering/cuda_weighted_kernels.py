"""Triton kernels of weighted blending (`weighted.py`) on gsplat's lists of tiles. CUDA devices only.

A program is one warp and holds half a tile of 16 x 16 pixels, so that sums over its pixels need no barrier. It walks
its tile's Gaussians front to back; the backward pass knows what lies behind as the total less what was met.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _alpha(means, conics, opacities, index, x, y, live):
    """Offsets, opacity, the free and the blended alpha of one Gaussian at pixels x, y."""
    dx = tl.load(means + index * 2) - x
    dy = tl.load(means + index * 2 + 1) - y
    xx, xy, yy = tl.load(conics + index * 3), tl.load(conics + index * 3 + 1), tl.load(conics + index * 3 + 2)
    opacity = tl.load(opacities + index)
    exponent = 0.5 * (xx * dx * dx + yy * dy * dy) + xy * dx * dy
    free = opacity * tl.exp(-exponent)
    alpha = tl.minimum(free, 0.999)
    alpha = tl.where(live & (exponent >= 0.0) & (alpha >= 0.00392156862745098), alpha, 0.0)
    return dx, dy, xx, xy, yy, opacity, free, alpha


@triton.jit
def _range(offsets, tiles, pairs, frames_tiles):
    """First and one past the last entry of a tile's list."""
    begin = tl.load(offsets + tiles)
    end = tl.where(
        tiles + 1 < frames_tiles, tl.load(offsets + tiles + 1, mask=tiles + 1 < frames_tiles, other=0), pairs
    )
    return begin, end


@triton.jit
def blend_weighted(
    means, conics, opacities, colours, offsets, flatten, sums, seen,
    pairs, width, height, tiles_x, tiles_y, frames_tiles, beta, PIXELS: tl.constexpr,
):  # fmt: skip
    """sums [B, H, W, 5]: weighted colour 3, weights, coverage; seen [B * N]: alpha T over pixels, zero on entry."""
    tile, part = tl.program_id(0), tl.program_id(1)
    frame, place = tile // (tiles_x * tiles_y), tile % (tiles_x * tiles_y)
    lane = tl.arange(0, PIXELS)
    column, row = (place % tiles_x) * 16 + lane % 16, (place // tiles_x) * 16 + part * 8 + lane // 16
    inside = (column < width) & (row < height)
    x, y = column.to(tl.float32) + 0.5, row.to(tl.float32) + 0.5
    transmittance = tl.where(inside, 1.0, 0.0)
    red, green, blue = tl.zeros([PIXELS], tl.float32), tl.zeros([PIXELS], tl.float32), tl.zeros([PIXELS], tl.float32)
    total, cover = tl.zeros([PIXELS], tl.float32), tl.zeros([PIXELS], tl.float32)
    entry, end = _range(offsets, tile, pairs, frames_tiles)
    open_pixels = tl.max(transmittance, 0)
    while (entry < end) & (open_pixels > 0.0):
        index = tl.load(flatten + entry)
        _, _, _, _, _, _, _, alpha = _alpha(means, conics, opacities, index, x, y, transmittance > 0.0)
        after = transmittance * (1.0 - alpha)
        stops = (after <= 1e-4) & (alpha > 0.0)
        plain = tl.where(stops, 0.0, alpha * transmittance)
        weight = plain * tl.exp(beta * (transmittance - 1.0))
        transmittance = tl.where(stops, 0.0, after)
        red += weight * tl.load(colours + index * 3)
        green += weight * tl.load(colours + index * 3 + 1)
        blue += weight * tl.load(colours + index * 3 + 2)
        total += weight
        cover += plain
        let_in = tl.sum(plain, 0)
        if let_in > 0.0:
            tl.atomic_add(seen + index, let_in)
        open_pixels = tl.max(transmittance, 0)
        entry += 1
    at = sums + ((frame * height + row) * width + column) * 5
    tl.store(at, red, mask=inside)
    tl.store(at + 1, green, mask=inside)
    tl.store(at + 2, blue, mask=inside)
    tl.store(at + 3, total, mask=inside)
    tl.store(at + 4, cover, mask=inside)


@triton.jit
def blend_weighted_backward(
    means, conics, opacities, colours, offsets, flatten, coverage, incoming,
    by_means, by_conics, by_opacities, by_colours,
    pairs, width, height, tiles_x, tiles_y, frames_tiles, beta, PIXELS: tl.constexpr,
):  # fmt: skip
    """Add every Gaussian's gradients; incoming [B, H, W, 5] as of `cpu_weighted.incoming_of`; coverage [B, H, W]."""
    tile, part = tl.program_id(0), tl.program_id(1)
    frame, place = tile // (tiles_x * tiles_y), tile % (tiles_x * tiles_y)
    lane = tl.arange(0, PIXELS)
    column, row = (place % tiles_x) * 16 + lane % 16, (place // tiles_x) * 16 + part * 8 + lane // 16
    inside = (column < width) & (row < height)
    x, y = column.to(tl.float32) + 0.5, row.to(tl.float32) + 0.5
    transmittance = tl.where(inside, 1.0, 0.0)
    pixel = (frame * height + row) * width + column
    at = incoming + pixel * 5
    red_in, green_in = tl.load(at, mask=inside, other=0.0), tl.load(at + 1, mask=inside, other=0.0)
    blue_in, weight_in = tl.load(at + 2, mask=inside, other=0.0), tl.load(at + 3, mask=inside, other=0.0)
    cover_in = tl.load(at + 4, mask=inside, other=0.0)
    covered = tl.load(coverage + pixel, mask=inside, other=0.0)
    behind = tl.zeros([PIXELS], tl.float32)
    entry, end = _range(offsets, tile, pairs, frames_tiles)
    open_pixels = tl.max(transmittance, 0)
    while (entry < end) & (open_pixels > 0.0):
        index = tl.load(flatten + entry)
        dx, dy, xx, xy, yy, opacity, free, alpha = _alpha(means, conics, opacities, index, x, y, transmittance > 0.0)
        after = transmittance * (1.0 - alpha)
        stops = (after <= 1e-4) & (alpha > 0.0)
        plain = tl.where(stops, 0.0, alpha * transmittance)
        if tl.max(plain, 0) > 0.0:
            visible = tl.exp(beta * (transmittance - 1.0))
            weight = plain * visible
            red, green = tl.load(colours + index * 3), tl.load(colours + index * 3 + 1)
            blue = tl.load(colours + index * 3 + 2)
            value = red * red_in + green * green_in + blue * blue_in + weight_in
            behind -= weight * value
            covered -= plain
            slope = transmittance * (visible * value + cover_in) - (behind + covered * cover_in) / (1.0 - alpha)
            slope = tl.where((plain > 0.0) & (free <= 0.999), slope * alpha, 0.0)
            mx, my = tl.sum(slope * dx, 0), tl.sum(slope * dy, 0)
            tl.atomic_add(by_means + index * 2, -(xx * mx + xy * my))
            tl.atomic_add(by_means + index * 2 + 1, -(xy * mx + yy * my))
            tl.atomic_add(by_conics + index * 3, -0.5 * tl.sum(slope * dx * dx, 0))
            tl.atomic_add(by_conics + index * 3 + 1, -tl.sum(slope * dx * dy, 0))
            tl.atomic_add(by_conics + index * 3 + 2, -0.5 * tl.sum(slope * dy * dy, 0))
            tl.atomic_add(by_opacities + index, tl.sum(slope, 0) / opacity)
            tl.atomic_add(by_colours + index * 3, tl.sum(weight * red_in, 0))
            tl.atomic_add(by_colours + index * 3 + 1, tl.sum(weight * green_in, 0))
            tl.atomic_add(by_colours + index * 3 + 2, tl.sum(weight * blue_in, 0))
        transmittance = tl.where(stops, 0.0, after)
        open_pixels = tl.max(transmittance, 0)
        entry += 1
