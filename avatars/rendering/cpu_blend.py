"""Compiled tile kernels: depth sort and binning, blending forwards, blending backwards.

A tile is one vector of pixels wide. Within it Gaussians are walked front to back and only the rows that a Gaussian's
ellipse touches are evaluated. The backward pass walks front to back as well: what lies behind a Gaussian is the pixel's
total, which the forward pass left in the image, minus what was met so far; so both passes compute bit-equal weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avatars.rendering import simd
from avatars.rendering.constants import ALPHA_CEILING, ALPHA_FLOOR, TRANSMITTANCE_STOP
from avatars.rendering.cpu_project import (
    CONIC_XX,
    CONIC_XY,
    CONIC_YY,
    DEPTH,
    OPACITY,
    PAIR_COLUMNS,
    X,
    Y,
    column_range,
    column_rows,
    reach_squared,
)
from avatars.rendering.jit import helper, kernel
from avatars.rendering.simd import LANES

TILE_WIDTH = LANES
TILE_HEIGHT = 16
TILE_PIXELS = TILE_WIDTH * TILE_HEIGHT
CHECK_EVERY = 8  # Gaussians between two looks whether the tile is finished
_RADIX_BITS = 11
_RADIX = 1 << _RADIX_BITS


@helper
def _sorted_by_depth(splats: Any, first_pair: Any, begin: Any, end: Any) -> Any:
    """Indices of the drawn splats of one frame, nearest first; equal depths keep their order (stable radix sort)."""
    drawn = 0
    for index in range(begin, end):
        drawn += first_pair[index + 1] > first_pair[index]
    order, spare = np.empty(drawn, np.int32), np.empty(drawn, np.int32)
    keys, spare_keys = np.empty(drawn, np.float32).view(np.uint32), np.empty(drawn, np.uint32)
    depths = keys.view(np.float32)
    place = 0
    for index in range(begin, end):
        if first_pair[index + 1] > first_pair[index]:
            order[place] = index
            depths[place] = splats[index, DEPTH]  # positive, so its bits sort like the number
            place += 1
    starts = np.empty(_RADIX, np.int32)
    for shift in range(0, 32, _RADIX_BITS):
        starts[:] = 0
        for place in range(drawn):
            starts[(keys[place] >> shift) & (_RADIX - 1)] += 1
        total = 0
        for digit in range(_RADIX):
            here = starts[digit]
            starts[digit] = total
            total += here
        for place in range(drawn):
            digit = (keys[place] >> shift) & (_RADIX - 1)
            spare[starts[digit]] = order[place]
            spare_keys[starts[digit]] = keys[place]
            starts[digit] += 1
        order, spare = spare, order
        keys, spare_keys = spare_keys, keys
    return order


@kernel
def list_pairs(
    worker: int,
    workers: int,
    count: int,
    width: int,
    height: int,
    splats: Any,
    first_pair: Any,
    pair_tile: Any,
    pair_rows: Any,
) -> None:
    """For every (Gaussian, tile) pair, by Gaussian: the tile and the rows touched in it, first | past_last << 8."""
    tiles_x = (width + TILE_WIDTH - 1) // TILE_WIDTH
    tiles = tiles_x * ((height + TILE_HEIGHT - 1) // TILE_HEIGHT)
    total = len(first_pair) - 1
    for index in range(worker * total // workers, (worker + 1) * total // workers):
        slot = first_pair[index]
        if slot == first_pair[index + 1]:
            continue
        splat = splats[index]
        reach = reach_squared(float(splat[OPACITY]))
        first, last = column_range(splat, reach, TILE_WIDTH, tiles_x)
        for column in range(first, last):
            low, high = column_rows(splat, reach, column * TILE_WIDTH, (column + 1) * TILE_WIDTH, height)
            if high <= low:
                continue
            for row in range(low // TILE_HEIGHT, (high - 1) // TILE_HEIGHT + 1):
                top = row * TILE_HEIGHT
                pair_tile[slot] = (index // count) * tiles + row * tiles_x + column
                pair_rows[slot] = max(low - top, 0) | (min(high - top, TILE_HEIGHT) << 8)
                slot += 1


@kernel
def fill_tiles(
    worker: int,
    workers: int,
    frames: int,
    count: int,
    splats: Any,
    first_pair: Any,
    pair_tile: Any,
    tile_start: Any,
    tile_splat: Any,
    tile_slot: Any,
) -> None:
    """List each tile's pairs front to back, frame by frame: their splat and their slot in the order by Gaussian.

    tile_start: [B * tiles + 1], zero on entry.
    """
    tiles = (len(tile_start) - 1) // frames
    for frame in range(worker, frames, workers):
        order = _sorted_by_depth(splats, first_pair, frame * count, (frame + 1) * count)
        begin, end = first_pair[frame * count], first_pair[(frame + 1) * count]
        cursor = np.zeros(tiles, np.int64)
        for slot in range(begin, end):
            cursor[pair_tile[slot] - frame * tiles] += 1
        entry = begin
        for tile in range(tiles):
            tile_start[frame * tiles + tile] = entry
            here = cursor[tile]
            cursor[tile] = entry
            entry += here
        for index in order:
            for slot in range(first_pair[index], first_pair[index + 1]):
                tile = pair_tile[slot] - frame * tiles
                entry = cursor[tile]
                tile_splat[entry] = index
                tile_slot[entry] = slot
                cursor[tile] = entry + 1
        if frame == frames - 1:
            tile_start[frames * tiles] = end


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
    stop, lowest, highest = simd.splat(TRANSMITTANCE_STOP), simd.splat(ALPHA_FLOOR), simd.splat(ALPHA_CEILING)
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
            offset = splat[X] - np.float32(left + 0.5)
            dx = simd.splat(offset) - ramp
            xx = simd.splat(np.float32(-0.5) * splat[CONIC_XX]) * dx * dx
            xy = simd.splat(-splat[CONIC_XY]) * dx
            opacity = simd.splat(splat[OPACITY])
            for row in range(first, last):
                here = row * TILE_WIDTH
                dy = splat[Y] - np.float32(top + row + 0.5)
                yy = np.float32(-0.5) * splat[CONIC_YY] * dy * dy
                exponent = simd.fma(xy, simd.splat(dy), xx) + simd.splat(yy)
                a = opacity * simd.exp_of_negative(exponent)
                a = simd.select_greater(a, highest, highest, a)
                a = simd.select_greater(lowest, a, zero, a)
                a = simd.select_greater(exponent, zero, zero, a)
                before = simd.load(transmittance, here)
                weight = a * before
                after = before - weight
                weight = simd.select_greater(after, stop, weight, zero)
                simd.store(transmittance, here, simd.select_greater(after, stop, after, zero))
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
    zero, one, ramp = simd.splat(0.0), simd.splat(1.0), simd.ramp()
    stop, lowest, highest = simd.splat(TRANSMITTANCE_STOP), simd.splat(ALPHA_FLOOR), simd.splat(ALPHA_CEILING)
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
            offset = splat[X] - np.float32(left + 0.5)
            dx = simd.splat(offset) - ramp
            xx = simd.splat(np.float32(-0.5) * splat[CONIC_XX]) * dx * dx
            xy = simd.splat(-splat[CONIC_XY]) * dx
            opacity = simd.splat(splat[OPACITY])
            depth_lanes = simd.splat(splat[DEPTH])
            s, sx, sxx, sy, sxy, syy = zero, zero, zero, zero, zero, zero  # moments of the exponent's gradient
            for row in range(first, last):
                here = row * TILE_WIDTH
                dy = splat[Y] - np.float32(top + row + 0.5)
                yy = np.float32(-0.5) * splat[CONIC_YY] * dy * dy
                exponent = simd.fma(xy, simd.splat(dy), xx) + simd.splat(yy)
                free = opacity * simd.exp_of_negative(exponent)
                a = simd.select_greater(free, highest, highest, free)
                a = simd.select_greater(lowest, a, zero, a)
                a = simd.select_greater(exponent, zero, zero, a)
                before = simd.load(transmittance, here)
                weight = a * before
                after = before - weight
                weight = simd.select_greater(after, stop, weight, zero)
                simd.store(transmittance, here, simd.select_greater(after, stop, after, zero))
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
                dy_lanes = simd.splat(dy)
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
