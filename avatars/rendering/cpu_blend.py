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
def _finished(transmittance: Any) -> Any:
    """Whether no pixel of the tile lets light through any more."""
    left = simd.load(transmittance, 0)
    for row in range(1, TILE_HEIGHT):
        left = left + simd.load(transmittance, row * TILE_WIDTH)
    return simd.total(left) == 0.0


@helper
def _alphas(splat: Any, left: Any, y_px: Any, offsets: Any, zero: Any) -> Any:
    """Opacity times Gaussian along one row of a tile: as it is, and as it is blended (floor and ceiling applied)."""
    dy = splat[Y] - y_px
    dx = simd.splat(splat[X] - left) - offsets
    across = simd.splat(np.float32(-0.5) * splat[CONIC_XX]) * dx * dx
    mixed = simd.splat(-splat[CONIC_XY] * dy) * dx
    exponent = across + mixed + simd.splat(np.float32(-0.5) * splat[CONIC_YY] * dy * dy)
    free = simd.splat(splat[OPACITY]) * simd.exp_of_negative(exponent)
    highest = simd.splat(ALPHA_CEILING)
    alpha = simd.select_greater(free, highest, highest, free)
    alpha = simd.select_greater(simd.splat(ALPHA_FLOOR), alpha, zero, alpha)
    return dx, free, simd.select_greater(exponent, zero, zero, alpha)


@helper
def _let_through(transmittance: Any, here: Any, alpha: Any, zero: Any) -> Any:
    """Take alpha from one row's transmittance: what was there before, and the blend weight (0 once stopped)."""
    before = simd.load(transmittance, here)
    weight = alpha * before
    after = before - weight
    stop = simd.splat(TRANSMITTANCE_STOP)
    simd.store(transmittance, here, simd.select_greater(after, stop, after, zero))
    return before, simd.select_greater(after, stop, weight, zero)


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
        entry = begin
        while entry < end:
            if (entry - begin) % CHECK_EVERY == CHECK_EVERY - 1 and _finished(transmittance):
                break
            index = tile_splat[entry]
            rows = pair_rows[tile_slot[entry]]
            first, last = rows & 255, rows >> 8
            splat = splats[index]
            for row in range(first, last):
                here = row * TILE_WIDTH
                _, _, a = _alphas(splat, np.float32(left + 0.5), np.float32(top + row + 0.5), ramp, zero)
                _, weight = _let_through(transmittance, here, a, zero)
                simd.store(weights, here, weight)
            for channel in range(channels + 2):
                if channel < channels:
                    value = simd.splat(features[index, channel])
                elif channel == channels:
                    value = simd.splat(splat[DEPTH])
                else:
                    value = one
                plane = channel * TILE_PIXELS
                for row in range(first, last):
                    here = row * TILE_WIDTH
                    simd.store(
                        sums, plane + here, simd.fma(value, simd.load(weights, here), simd.load(sums, plane + here))
                    )
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
                y, x = top + row, left + lane
                total = (
                    depth_gradient[frame, y, x] * depth[frame, y, x] + alpha_gradient[frame, y, x] * alpha[frame, y, x]
                )
                incoming[channels * TILE_PIXELS + here] = depth_gradient[frame, y, x]
                incoming[(channels + 1) * TILE_PIXELS + here] = alpha_gradient[frame, y, x]
                for channel in range(channels):
                    incoming[channel * TILE_PIXELS + here] = image_gradient[frame, y, x, channel]
                    total += image_gradient[frame, y, x, channel] * image[frame, y, x, channel]
                behind[here] = total
        for entry in range(begin, begin + used[job]):
            index = tile_splat[entry]
            rows = pair_rows[tile_slot[entry]]
            first, last = rows & 255, rows >> 8
            splat = splats[index]
            out = pair_gradients[tile_slot[entry]]
            depth_lanes = simd.splat(splat[DEPTH])
            s, sx, sxx, sy, sxy, syy = zero, zero, zero, zero, zero, zero  # moments of the exponent's gradient
            for row in range(first, last):
                here = row * TILE_WIDTH
                dx, free, a = _alphas(splat, np.float32(left + 0.5), np.float32(top + row + 0.5), ramp, zero)
                before, weight = _let_through(transmittance, here, a, zero)
                simd.store(weights, here, weight)
                value = simd.fma(
                    depth_lanes,
                    simd.load(incoming, channels * TILE_PIXELS + here),
                    simd.load(incoming, (channels + 1) * TILE_PIXELS + here),
                )
                for channel in range(channels):
                    value = simd.fma(
                        simd.splat(features[index, channel]), simd.load(incoming, channel * TILE_PIXELS + here), value
                    )
                rest = simd.load(behind, here) - weight * value
                simd.store(behind, here, rest)
                slope = before * value - rest / (one - a)  # of the image's sum with respect to alpha
                # d alpha / d exponent is alpha, unless alpha is cut off above or nothing was blended.
                slope = simd.select_greater(weight, zero, slope * a, zero)
                slope = simd.select_greater(free, highest, zero, slope)
                dy_lanes = simd.splat(splat[Y] - np.float32(top + row + 0.5))
                slope_x = slope * dx
                slope_y = slope * dy_lanes
                s = s + slope
                sx = sx + slope_x
                sy = sy + slope_y
                sxx = simd.fma(slope_x, dx, sxx)
                sxy = simd.fma(slope_x, dy_lanes, sxy)
                syy = simd.fma(slope_y, dy_lanes, syy)
            mx, my = simd.total(sx), simd.total(sy)
            out[X] = -(splat[CONIC_XX] * mx + splat[CONIC_XY] * my)
            out[Y] = -(splat[CONIC_XY] * mx + splat[CONIC_YY] * my)
            out[CONIC_XX] = np.float32(-0.5) * simd.total(sxx)
            out[CONIC_XY] = -simd.total(sxy)
            out[CONIC_YY] = np.float32(-0.5) * simd.total(syy)
            out[OPACITY] = simd.total(s) / splat[OPACITY]
            for channel in range(channels + 1):
                plane = channel * TILE_PIXELS
                gathered = zero
                for row in range(first, last):
                    here = row * TILE_WIDTH
                    gathered = simd.fma(simd.load(weights, here), simd.load(incoming, plane + here), gathered)
                out[DEPTH if channel == channels else PAIR_COLUMNS + channel] = simd.total(gathered)
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
        for entry in range(tile_start[job], tile_start[job + 1]):
            rows = pair_rows[tile_slot[entry]]
            first, last = rows & 255, rows >> 8
            splat = splats[tile_splat[entry]]
            largest = zero
            for row in range(first, last):
                here = row * TILE_WIDTH
                _, _, a = _alphas(splat, np.float32(left + 0.5), np.float32(top + row + 0.5), ramp, zero)
                _, weight = _let_through(transmittance, here, a, zero)
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
