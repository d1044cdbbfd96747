"""Triton kernels over images: pictures over their backgrounds, L1, and SSIM with its gradient. CUDA devices only.

Images are [B, H, W, C]; a channel of a picture is reached by its offset and the stride between pixels.
"""

from __future__ import annotations

import triton
import triton.language as tl

PIXELS_A_BLOCK, NUMBERS_A_BLOCK, ROW_BLOCK = 512, 2048, 256
TILE_ROWS, TILE_COLUMNS = 16, 64


@triton.jit
def over_background(pixels, backgrounds, out, count, BLOCK: tl.constexpr):
    """Premultiplied uint8 RGBA [B, P, 4] over colours [B, 3] as float32 [B, P, 3]."""
    batch = tl.program_id(1)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = at < count
    source = pixels + (batch * count + at) * 4
    place = out + (batch * count + at) * 3
    seen_through = 1.0 - tl.load(source + 3, mask=live, other=0).to(tl.float32) / 255.0
    for channel in tl.static_range(3):
        colour = tl.load(source + channel, mask=live, other=0).to(tl.float32) / 255.0
        tl.store(place + channel, colour + seen_through * tl.load(backgrounds + batch * 3 + channel), mask=live)


@triton.jit
def absolute_difference(images, targets, sums, signs, count, scale, BLOCK: tl.constexpr):
    """Sum of |images - targets| of each block, and its sign times `scale`."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = at < count
    error = tl.load(images + at, mask=live, other=0.0) - tl.load(targets + at, mask=live, other=0.0)
    tl.store(signs + at, tl.where(error > 0, scale, tl.where(error < 0, -scale, 0.0)), mask=live)
    tl.store(sums + tl.program_id(0), tl.sum(tl.abs(error)))


@triton.jit
def ssim_rows(images, targets, taps, maps, width, channels, total, BLOCK: tl.constexpr):
    """The window along rows over x, y, xx, yy, xy of images [F, total] of W columns and C channels: [F, 5, total]."""
    images += tl.program_id(1) * total
    targets += tl.program_id(1) * total
    maps += tl.program_id(1) * 5 * total
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = at < total
    column = (at // channels) % width
    zero = tl.zeros([BLOCK], tl.float32)
    mean_x, mean_y, xx, yy, xy = zero, zero, zero, zero, zero
    for tap in tl.static_range(11):
        inside = live & (column + tap >= 5) & (column + tap - 5 < width)
        x = tl.load(images + at + (tap - 5) * channels, mask=inside, other=0.0)
        y = tl.load(targets + at + (tap - 5) * channels, mask=inside, other=0.0)
        weight = tl.load(taps + tap)
        mean_x += weight * x
        mean_y += weight * y
        xx += weight * x * x
        yy += weight * y * y
        xy += weight * x * y
    tl.store(maps + at, mean_x, mask=live)
    tl.store(maps + total + at, mean_y, mask=live)
    tl.store(maps + 2 * total + at, xx, mask=live)
    tl.store(maps + 3 * total + at, yy, mask=live)
    tl.store(maps + 4 * total + at, xy, mask=live)


@triton.jit
def _down(source, taps, start, columns, line, height, row, inside, ROWS: tl.constexpr):
    """A window along columns over [height, row] numbers: [ROWS, columns] sums, each row of the source read once."""
    total = tl.zeros([ROWS, columns.shape[0]], tl.float32)
    for step in range(ROWS + 10):
        read = start + step - 5
        values = tl.load(source + read * row + columns, mask=inside & (read >= 0) & (read < height), other=0.0)
        tap = step - (line - start)
        weights = tl.load(taps + tap, mask=(tap >= 0) & (tap < 11), other=0.0)
        total += weights[:, None] * values[None, :]
    return total


@triton.jit
def ssim_columns(
    maps,
    taps,
    sums,
    slopes,
    height,
    row,
    total,
    c1,
    c2,
    GRADIENT: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """SSIM from row-filtered maps [F, 5, total], summed over each block; slopes [F, 3, total] by mean_x, xx and xy."""
    frame = tl.program_id(2)
    maps += frame * 5 * total
    slopes += frame * 3 * total
    start = tl.program_id(1) * ROWS
    line, columns = start + tl.arange(0, ROWS), tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < row
    mean_x = _down(maps, taps, start, columns, line, height, row, inside, ROWS)
    mean_y = _down(maps + total, taps, start, columns, line, height, row, inside, ROWS)
    xx = _down(maps + 2 * total, taps, start, columns, line, height, row, inside, ROWS)
    yy = _down(maps + 3 * total, taps, start, columns, line, height, row, inside, ROWS)
    xy = _down(maps + 4 * total, taps, start, columns, line, height, row, inside, ROWS)
    a1, a2 = 2 * mean_x * mean_y + c1, 2 * (xy - mean_x * mean_y) + c2
    b1, b2 = mean_x * mean_x + mean_y * mean_y + c1, xx - mean_x * mean_x + yy - mean_y * mean_y + c2
    ssim = a1 * a2 / (b1 * b2)
    live = (line < height)[:, None] & inside[None, :]
    block = (frame * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(0) + tl.program_id(0)
    tl.store(sums + block, tl.sum(tl.where(live, ssim, 0.0)))
    if GRADIENT:
        by_mean = 2 * mean_y * (a2 - a1) / (b1 * b2) - 2 * mean_x * ssim * (1 / b1 - 1 / b2)
        at = line[:, None] * row + columns[None, :]
        tl.store(slopes + at, by_mean, mask=live)
        tl.store(slopes + total + at, -ssim / b2, mask=live)
        tl.store(slopes + 2 * total + at, 2 * a1 / (b1 * b2), mask=live)


@triton.jit
def slope_rows(slopes, taps, maps, width, channels, total, BLOCK: tl.constexpr):
    """The window along rows over three maps [F, 3, total], into the first three of [F, 5, total]."""
    maps += tl.program_id(1) * 5 * total
    slopes += tl.program_id(1) * 3 * total
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = at < total
    column = (at // channels) % width
    zero = tl.zeros([BLOCK], tl.float32)
    first, second, third = zero, zero, zero
    for tap in tl.static_range(11):
        inside = live & (column + tap >= 5) & (column + tap - 5 < width)
        place = slopes + at + (tap - 5) * channels
        weight = tl.load(taps + tap)
        first += weight * tl.load(place, mask=inside, other=0.0)
        second += weight * tl.load(place + total, mask=inside, other=0.0)
        third += weight * tl.load(place + 2 * total, mask=inside, other=0.0)
    tl.store(maps + at, first, mask=live)
    tl.store(maps + total + at, second, mask=live)
    tl.store(maps + 2 * total + at, third, mask=live)


@triton.jit
def slope_columns(maps, taps, images, targets, gradient, height, row, total, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The gradient of the sum of SSIM by the images, from row-filtered slopes."""
    frame = tl.program_id(2)
    maps += frame * 5 * total
    start = tl.program_id(1) * ROWS
    line, columns = start + tl.arange(0, ROWS), tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < row
    first = _down(maps, taps, start, columns, line, height, row, inside, ROWS)
    second = _down(maps + total, taps, start, columns, line, height, row, inside, ROWS)
    third = _down(maps + 2 * total, taps, start, columns, line, height, row, inside, ROWS)
    at = frame * total + line[:, None] * row + columns[None, :]
    live = (line < height)[:, None] & inside[None, :]
    x, y = tl.load(images + at, mask=live, other=0.0), tl.load(targets + at, mask=live, other=0.0)
    tl.store(gradient + at, first + 2 * x * second + y * third, mask=live)
