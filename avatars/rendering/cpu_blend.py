"""Compiled tile kernels: blending forwards, blending backwards, and gathering what each Gaussian was seen to cover.

A tile is one vector of pixels wide. Within it Gaussians are walked front to back and only the rows that a Gaussian's
ellipse touches are evaluated. The backward pass walks front to back as well: what lies behind a Gaussian is the pixel's
total, which the forward pass left in the image, minus what was met so far; so both passes compute bit-equal weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avatars.rendering import simd
from avatars.rendering.constants import ALPHA_CEILING, ALPHA_FLOOR, TRANSMITTANCE_STOP
from avatars.rendering.cpu_project import CONIC_XX, CONIC_XY, CONIC_YY, DEPTH, OPACITY, PAIR_COLUMNS, X, Y
from avatars.rendering.cpu_tiles import TILE_HEIGHT, TILE_PIXELS, TILE_WIDTH
from avatars.rendering.jit import helper, kernel

CHECK_EVERY = 8  # Gaussians between two looks whether the tile is finished


@helper
def _start_tile(transmittance: Any, width: Any, height: Any, left: Any, top: Any) -> None:
    """1 at pixels of the image, 0 outside it: there nothing is ever blended."""
    for row in range(TILE_HEIGHT):
        for lane in range(TILE_WIDTH):
            inside = top + row < height and left + lane < width
            transmittance[row * TILE_WIDTH + lane] = 1.0 if inside else 0.0


@helper
def _open_rows(transmittance: Any) -> Any:
    """First row and one past the last where some pixel still lets light through (0, 0 when the tile is finished)."""
    first, last = 0, TILE_HEIGHT
    while last > 0 and simd.total(simd.load(transmittance, (last - 1) * TILE_WIDTH)) == 0.0:
        last -= 1
    while first < last and simd.total(simd.load(transmittance, first * TILE_WIDTH)) == 0.0:
        first += 1
    return (first, last) if first < last else (0, 0)


@helper
def _add(sums: Any, here: Any, value: Any, weight: Any) -> None:
    simd.store(sums, here, simd.fma(value, weight, simd.load(sums, here)))


@helper
def _prepared(splat: Any, left: Any, ramp: Any) -> Any:
    """What `_alphas` needs of a splat in a tile whose first pixel centre is at `left`; read once, before any store.

    dx; the exponent's parts in dx^2, in dx (to be multiplied by dy) and in dy^2; opacity; y.
    """
    dx = simd.splat(splat[X] - left) - ramp
    across = simd.splat(np.float32(-0.5) * splat[CONIC_XX]) * dx * dx
    mixed = simd.splat(-splat[CONIC_XY]) * dx
    return dx, across, mixed, np.float32(-0.5) * splat[CONIC_YY], simd.splat(splat[OPACITY]), splat[Y]


@helper
def _alphas(across: Any, mixed: Any, down: Any, opacity: Any, dy: Any, zero: Any) -> Any:
    """Opacity times Gaussian along one row of a tile: as it is, and as it is blended (floor and ceiling applied)."""
    exponent = simd.fma(mixed, simd.splat(dy), across) + simd.splat(down * dy * dy)
    exponent = simd.select_greater(exponent, zero, zero, exponent)  # only rounding can bring it above 0
    free = opacity * simd.exp_of_negative(exponent)
    highest = simd.splat(ALPHA_CEILING)
    alpha = simd.select_greater(free, highest, highest, free)
    return free, simd.select_greater(simd.splat(ALPHA_FLOOR), alpha, zero, alpha)


@helper
def _let_through(transmittance: Any, here: Any, alpha: Any, zero: Any) -> Any:
    """Take alpha from one row's transmittance: what was there before, and the blend weight (0 once stopped)."""
    before = simd.load(transmittance, here)
    weight = alpha * before
    after = before - weight
    stop = simd.splat(TRANSMITTANCE_STOP)
    simd.store(transmittance, here, simd.select_greater(after, stop, after, zero))
    return before, simd.select_greater(after, stop, weight, zero)


@helper
def _write_moments(out: Any, splat: Any, s: Any, sx: Any, sy: Any, sxx: Any, sxy: Any, syy: Any) -> None:
    """Gradients of a pair's centre, conic and opacity from the moments of its exponent's gradient over the pixels."""
    mx, my = simd.total(sx), simd.total(sy)
    out[X] = -(splat[CONIC_XX] * mx + splat[CONIC_XY] * my)
    out[Y] = -(splat[CONIC_XY] * mx + splat[CONIC_YY] * my)
    out[CONIC_XX] = np.float32(-0.5) * simd.total(sxx)
    out[CONIC_XY] = -simd.total(sxy)
    out[CONIC_YY] = np.float32(-0.5) * simd.total(syy)
    out[OPACITY] = simd.total(s) / splat[OPACITY]


@kernel
def blend(
    worker: int,
    workers: int,
    splats: Any,
    features: Any,
    tile_start: Any,
    tile_splat: Any,
    tile_slot: Any,
    pair_rows: Any,
    image: Any,
    alpha: Any,
    depth: Any,
    used: Any,
) -> None:
    """Blend every tile into image [B, H, W, C], alpha and depth sum [B, H, W]; used: entries walked of each list.

    features: [B * N, C].
    """
    frames, height, width, channels = image.shape
    tiles_x = (width + TILE_WIDTH - 1) // TILE_WIDTH
    tiles = tiles_x * ((height + TILE_HEIGHT - 1) // TILE_HEIGHT)
    transmittance, weights = np.empty(TILE_PIXELS, np.float32), np.empty(TILE_PIXELS, np.float32)
    sums = np.empty((channels + 2) * TILE_PIXELS, np.float32)  # features, depth, alpha
    zero, one, ramp = simd.splat(0.0), simd.splat(1.0), simd.ramp()
    for job in range(worker, frames * tiles, workers):
        frame, tile = job // tiles, job % tiles
        left, top = (tile % tiles_x) * TILE_WIDTH, (tile // tiles_x) * TILE_HEIGHT
        _start_tile(transmittance, width, height, left, top)
        sums[:] = 0.0
        begin, end = tile_start[job], tile_start[job + 1]
        entry, open_first, open_last = begin, 0, TILE_HEIGHT
        while entry < end:
            if (entry - begin) % CHECK_EVERY == CHECK_EVERY - 1:
                open_first, open_last = _open_rows(transmittance)
                if open_last == 0:
                    break
            index = tile_splat[entry]
            rows = pair_rows[tile_slot[entry]]
            first, last = max(rows & 255, open_first), min(rows >> 8, open_last)
            splat = splats[index]
            _, across, mixed, down, opacity, y = _prepared(splat, np.float32(left + 0.5), ramp)
            z = simd.splat(splat[DEPTH])
            if channels == 3:  # the common case, without going through memory for the weights
                red, green = simd.splat(features[index, 0]), simd.splat(features[index, 1])
                blue = simd.splat(features[index, 2])
                for row in range(first, last):
                    here = row * TILE_WIDTH
                    _, a = _alphas(across, mixed, down, opacity, y - np.float32(top + row + 0.5), zero)
                    _, weight = _let_through(transmittance, here, a, zero)
                    _add(sums, here, red, weight)
                    _add(sums, here + TILE_PIXELS, green, weight)
                    _add(sums, here + 2 * TILE_PIXELS, blue, weight)
                    _add(sums, here + 3 * TILE_PIXELS, z, weight)
                    _add(sums, here + 4 * TILE_PIXELS, one, weight)
            else:
                for row in range(first, last):
                    here = row * TILE_WIDTH
                    _, a = _alphas(across, mixed, down, opacity, y - np.float32(top + row + 0.5), zero)
                    _, weight = _let_through(transmittance, here, a, zero)
                    simd.store(weights, here, weight)
                    _add(sums, here + channels * TILE_PIXELS, z, weight)
                    _add(sums, here + (channels + 1) * TILE_PIXELS, one, weight)
                for channel in range(channels):
                    value = simd.splat(features[index, channel])
                    for row in range(first, last):
                        here = row * TILE_WIDTH
                        _add(sums, here + channel * TILE_PIXELS, value, simd.load(weights, here))
            entry += 1
        used[job] = entry - begin
        for row in range(min(TILE_HEIGHT, height - top)):
            for lane in range(min(TILE_WIDTH, width - left)):
                here = row * TILE_WIDTH + lane
                for channel in range(channels):
                    image[frame, top + row, left + lane, channel] = sums[channel * TILE_PIXELS + here]
                depth[frame, top + row, left + lane] = sums[channels * TILE_PIXELS + here]
                alpha[frame, top + row, left + lane] = sums[(channels + 1) * TILE_PIXELS + here]


@kernel
def blend_backward(
    worker: int,
    workers: int,
    splats: Any,
    features: Any,
    tile_start: Any,
    tile_splat: Any,
    tile_slot: Any,
    pair_rows: Any,
    used: Any,
    image: Any,
    alpha: Any,
    depth: Any,
    image_gradient: Any,
    alpha_gradient: Any,
    depth_gradient: Any,
    pair_gradients: Any,
) -> None:
    """Fill pair_gradients [pairs, PAIR_COLUMNS + C] of every (Gaussian, tile) pair, in slot order."""
    frames, height, width, channels = image.shape
    tiles_x = (width + TILE_WIDTH - 1) // TILE_WIDTH
    tiles = tiles_x * ((height + TILE_HEIGHT - 1) // TILE_HEIGHT)
    transmittance, weights = np.empty(TILE_PIXELS, np.float32), np.empty(TILE_PIXELS, np.float32)
    behind = np.empty(TILE_PIXELS, np.float32)  # sum over the Gaussians not met yet of weight * value
    incoming = np.empty((channels + 2) * TILE_PIXELS, np.float32)  # gradients of features, depth, alpha
    zero, one, ramp, highest = simd.splat(0.0), simd.splat(1.0), simd.ramp(), simd.splat(ALPHA_CEILING)
    for job in range(worker, frames * tiles, workers):
        frame, tile = job // tiles, job % tiles
        left, top = (tile % tiles_x) * TILE_WIDTH, (tile // tiles_x) * TILE_HEIGHT
        begin, end = tile_start[job], tile_start[job + 1]
        if begin == end:
            continue
        _start_tile(transmittance, width, height, left, top)
        incoming[:] = 0.0
        behind[:] = 0.0
        for row in range(min(TILE_HEIGHT, height - top)):
            for lane in range(min(TILE_WIDTH, width - left)):
                here = row * TILE_WIDTH + lane
                v, u = top + row, left + lane
                total = (
                    depth_gradient[frame, v, u] * depth[frame, v, u] + alpha_gradient[frame, v, u] * alpha[frame, v, u]
                )
                incoming[channels * TILE_PIXELS + here] = depth_gradient[frame, v, u]
                incoming[(channels + 1) * TILE_PIXELS + here] = alpha_gradient[frame, v, u]
                for channel in range(channels):
                    incoming[channel * TILE_PIXELS + here] = image_gradient[frame, v, u, channel]
                    total += image_gradient[frame, v, u, channel] * image[frame, v, u, channel]
                behind[here] = total
        open_first, open_last = 0, TILE_HEIGHT
        for entry in range(begin, begin + used[job]):
            if (entry - begin) % CHECK_EVERY == CHECK_EVERY - 1:
                open_first, open_last = _open_rows(transmittance)
            index = tile_splat[entry]
            rows = pair_rows[tile_slot[entry]]
            first, last = max(rows & 255, open_first), min(rows >> 8, open_last)
            splat = splats[index]
            out = pair_gradients[tile_slot[entry]]
            if first >= last:
                out[:] = 0.0
                continue
            dx, across, mixed, down, opacity, y = _prepared(splat, np.float32(left + 0.5), ramp)
            z = simd.splat(splat[DEPTH])
            s, sx, sxx, sy, sxy, syy = zero, zero, zero, zero, zero, zero  # moments of the exponent's gradient
            by_red, by_green, by_blue, by_depth = zero, zero, zero, zero
            if channels == 3:
                red, green = simd.splat(features[index, 0]), simd.splat(features[index, 1])
                blue = simd.splat(features[index, 2])
            else:
                red, green, blue = zero, zero, zero
            for row in range(first, last):
                here = row * TILE_WIDTH
                dy = y - np.float32(top + row + 0.5)
                free, a = _alphas(across, mixed, down, opacity, dy, zero)
                before, weight = _let_through(transmittance, here, a, zero)
                depth_in = simd.load(incoming, channels * TILE_PIXELS + here)
                value = simd.fma(z, depth_in, simd.load(incoming, (channels + 1) * TILE_PIXELS + here))
                by_depth = simd.fma(weight, depth_in, by_depth)
                if channels == 3:
                    red_in, green_in = simd.load(incoming, here), simd.load(incoming, TILE_PIXELS + here)
                    blue_in = simd.load(incoming, 2 * TILE_PIXELS + here)
                    value = simd.fma(red, red_in, simd.fma(green, green_in, simd.fma(blue, blue_in, value)))
                    by_red = simd.fma(weight, red_in, by_red)
                    by_green = simd.fma(weight, green_in, by_green)
                    by_blue = simd.fma(weight, blue_in, by_blue)
                else:
                    simd.store(weights, here, weight)
                    for channel in range(channels):
                        channel_in = simd.load(incoming, channel * TILE_PIXELS + here)
                        value = simd.fma(simd.splat(features[index, channel]), channel_in, value)
                rest = simd.load(behind, here) - weight * value
                simd.store(behind, here, rest)
                slope = before * value - rest / (one - a)  # of the image's sum with respect to alpha
                # d alpha / d exponent is alpha, unless alpha is cut off above or nothing was blended.
                slope = simd.select_greater(weight, zero, slope * a, zero)
                slope = simd.select_greater(free, highest, zero, slope)
                dy_lanes = simd.splat(dy)
                slope_x = slope * dx
                slope_y = slope * dy_lanes
                s = s + slope
                sx = sx + slope_x
                sy = sy + slope_y
                sxx = simd.fma(slope_x, dx, sxx)
                sxy = simd.fma(slope_x, dy_lanes, sxy)
                syy = simd.fma(slope_y, dy_lanes, syy)
            _write_moments(out, splat, s, sx, sy, sxx, sxy, syy)
            out[DEPTH] = simd.total(by_depth)
            if channels == 3:
                out[PAIR_COLUMNS] = simd.total(by_red)
                out[PAIR_COLUMNS + 1] = simd.total(by_green)
                out[PAIR_COLUMNS + 2] = simd.total(by_blue)
            else:
                for channel in range(channels):
                    by_channel = zero
                    for row in range(first, last):
                        here = row * TILE_WIDTH
                        channel_in = simd.load(incoming, channel * TILE_PIXELS + here)
                        by_channel = simd.fma(simd.load(weights, here), channel_in, by_channel)
                    out[PAIR_COLUMNS + channel] = simd.total(by_channel)
        for entry in range(begin + used[job], end):
            pair_gradients[tile_slot[entry]] = 0.0


@kernel
def gather_seen(
    worker: int,
    workers: int,
    splats: Any,
    tile_start: Any,
    tile_splat: Any,
    tile_slot: Any,
    pair_rows: Any,
    seen: Any,
    min_weight: float,
    gathered: Any,
) -> None:
    """Sum weight * seen over the pixels of each (Gaussian, tile) pair where the blend weight exceeds min_weight.

    seen: [B, H, W, C] float32. gathered: [pairs, C], zero on entry, in slot order.
    """
    frames, height, width, channels = seen.shape
    tiles_x = (width + TILE_WIDTH - 1) // TILE_WIDTH
    tiles = tiles_x * ((height + TILE_HEIGHT - 1) // TILE_HEIGHT)
    transmittance, weights = np.empty(TILE_PIXELS, np.float32), np.empty(TILE_PIXELS, np.float32)
    planes = np.empty(channels * TILE_PIXELS, np.float32)
    zero, ramp, least = simd.splat(0.0), simd.ramp(), simd.splat(min_weight)
    for job in range(worker, frames * tiles, workers):
        frame, tile = job // tiles, job % tiles
        left, top = (tile % tiles_x) * TILE_WIDTH, (tile // tiles_x) * TILE_HEIGHT
        _start_tile(transmittance, width, height, left, top)
        planes[:] = 0.0
        for row in range(min(TILE_HEIGHT, height - top)):
            for lane in range(min(TILE_WIDTH, width - left)):
                for channel in range(channels):
                    planes[channel * TILE_PIXELS + row * TILE_WIDTH + lane] = seen[
                        frame, top + row, left + lane, channel
                    ]
        open_first, open_last = 0, TILE_HEIGHT
        for entry in range(tile_start[job], tile_start[job + 1]):
            if (entry - tile_start[job]) % CHECK_EVERY == CHECK_EVERY - 1:
                open_first, open_last = _open_rows(transmittance)
                if open_last == 0:
                    break
            rows = pair_rows[tile_slot[entry]]
            first, last = max(rows & 255, open_first), min(rows >> 8, open_last)
            splat = splats[tile_splat[entry]]
            _, across, mixed, down, opacity, y = _prepared(splat, np.float32(left + 0.5), ramp)
            largest = zero
            for row in range(first, last):
                here = row * TILE_WIDTH
                _, a = _alphas(across, mixed, down, opacity, y - np.float32(top + row + 0.5), zero)
                _, weight = _let_through(transmittance, here, a, zero)
                left_over = simd.load(transmittance, here)  # a pixel is done once no weight can exceed min_weight
                simd.store(transmittance, here, simd.select_greater(left_over, least, left_over, zero))
                weight = simd.select_greater(weight, least, weight, zero)
                simd.store(weights, here, weight)
                largest = largest + weight
            if simd.total(largest) == 0.0:
                continue
            for channel in range(channels):
                covered = zero
                for row in range(first, last):
                    here = row * TILE_WIDTH
                    covered = simd.fma(
                        simd.load(weights, here), simd.load(planes, channel * TILE_PIXELS + here), covered
                    )
                gathered[tile_slot[entry], channel] = simd.total(covered)
