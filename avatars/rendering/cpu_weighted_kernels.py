"""Compiled tile kernels of weighted blending (`weighted.py`): forwards, and backwards with its own gradient.

The walk is that of `cpu_blend`: front to back within a tile, only the rows an ellipse touches, the same alphas. What
lies behind a Gaussian is a pixel's total less what was met so far, so nothing has to be kept between the passes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avatars.rendering import simd
from avatars.rendering.constants import ALPHA_CEILING
from avatars.rendering.cpu_blend import (
    CHECK_EVERY,
    _add,
    _alphas,
    _let_through,
    _open_rows,
    _prepared,
    _start_tile,
    _write_moments,
)
from avatars.rendering.cpu_project import DEPTH, PAIR_COLUMNS
from avatars.rendering.cpu_tiles import TILE_HEIGHT, TILE_PIXELS, TILE_WIDTH
from avatars.rendering.jit import helper, kernel

SUMS = 5
"""Planes of sums: weighted colour 3, weights, coverage."""


@helper
def _visible(before: Any, one: Any, beta: Any) -> Any:
    """exp(-beta (1 - T)) of the transmittance in front."""
    return simd.exp_of_negative(beta * (before - one))


@kernel
def blend_weighted(
    worker: int,
    workers: int,
    splats: Any,
    colours: Any,
    tile_start: Any,
    tile_splat: Any,
    tile_slot: Any,
    pair_rows: Any,
    beta: float,
    sums_out: Any,
    used: Any,
    seen: Any,
) -> None:
    """Fill sums_out [B, H, W, SUMS]; used: entries walked of each list; seen [pairs]: alpha T summed over pixels.

    colours: [B * N, 3]. seen: zero on entry, in slot order.
    """
    frames, height, width, _ = sums_out.shape
    tiles_x = (width + TILE_WIDTH - 1) // TILE_WIDTH
    tiles = tiles_x * ((height + TILE_HEIGHT - 1) // TILE_HEIGHT)
    transmittance = np.empty(TILE_PIXELS, np.float32)
    sums = np.empty(SUMS * TILE_PIXELS, np.float32)
    zero, one, ramp, decay = simd.splat(0.0), simd.splat(1.0), simd.ramp(), simd.splat(beta)
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
            _, across, mixed, down, opacity, y = _prepared(splats[index], np.float32(left + 0.5), ramp)
            red, green, blue = (
                simd.splat(colours[index, 0]),
                simd.splat(colours[index, 1]),
                simd.splat(colours[index, 2]),
            )
            let_in = zero
            for row in range(first, last):
                here = row * TILE_WIDTH
                _, a = _alphas(across, mixed, down, opacity, y - np.float32(top + row + 0.5), zero)
                before, plain = _let_through(transmittance, here, a, zero)
                weight = plain * _visible(before, one, decay)
                let_in = let_in + plain
                _add(sums, here, red, weight)
                _add(sums, here + TILE_PIXELS, green, weight)
                _add(sums, here + 2 * TILE_PIXELS, blue, weight)
                _add(sums, here + 3 * TILE_PIXELS, one, weight)
                _add(sums, here + 4 * TILE_PIXELS, one, plain)
            seen[tile_slot[entry]] = simd.total(let_in)
            entry += 1
        used[job] = entry - begin
        for row in range(min(TILE_HEIGHT, height - top)):
            for lane in range(min(TILE_WIDTH, width - left)):
                for plane in range(SUMS):
                    sums_out[frame, top + row, left + lane, plane] = sums[plane * TILE_PIXELS + row * TILE_WIDTH + lane]


@kernel
def blend_weighted_backward(
    worker: int,
    workers: int,
    splats: Any,
    colours: Any,
    tile_start: Any,
    tile_splat: Any,
    tile_slot: Any,
    pair_rows: Any,
    used: Any,
    beta: float,
    coverage: Any,
    incoming_out: Any,
    pair_gradients: Any,
) -> None:
    """Fill pair_gradients [pairs, PAIR_COLUMNS + 3] of every (Gaussian, tile) pair, in slot order.

    incoming_out: [B, H, W, 5] what a unit of weighted colour (3), of weight, and of plain coverage is worth.
    coverage: [B, H, W].
    """
    frames, height, width = coverage.shape
    tiles_x = (width + TILE_WIDTH - 1) // TILE_WIDTH
    tiles = tiles_x * ((height + TILE_HEIGHT - 1) // TILE_HEIGHT)
    transmittance = np.empty(TILE_PIXELS, np.float32)
    behind = np.empty(TILE_PIXELS, np.float32)  # of the weighted sum; its total is 0, since it is about the mean
    covered = np.empty(TILE_PIXELS, np.float32)  # of plain coverage
    incoming = np.empty(SUMS * TILE_PIXELS, np.float32)
    zero, one, ramp, highest = simd.splat(0.0), simd.splat(1.0), simd.ramp(), simd.splat(ALPHA_CEILING)
    decay = simd.splat(beta)
    for job in range(worker, frames * tiles, workers):
        frame, tile = job // tiles, job % tiles
        left, top = (tile % tiles_x) * TILE_WIDTH, (tile // tiles_x) * TILE_HEIGHT
        begin, end = tile_start[job], tile_start[job + 1]
        if begin == end:
            continue
        _start_tile(transmittance, width, height, left, top)
        incoming[:] = 0.0
        behind[:] = 0.0
        covered[:] = 0.0
        for row in range(min(TILE_HEIGHT, height - top)):
            for lane in range(min(TILE_WIDTH, width - left)):
                here = row * TILE_WIDTH + lane
                covered[here] = coverage[frame, top + row, left + lane]
                for plane in range(SUMS):
                    incoming[plane * TILE_PIXELS + here] = incoming_out[frame, top + row, left + lane, plane]
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
            red, green, blue = (
                simd.splat(colours[index, 0]),
                simd.splat(colours[index, 1]),
                simd.splat(colours[index, 2]),
            )
            s, sx, sxx, sy, sxy, syy = zero, zero, zero, zero, zero, zero  # moments of the exponent's gradient
            by_red, by_green, by_blue = zero, zero, zero
            for row in range(first, last):
                here = row * TILE_WIDTH
                dy = y - np.float32(top + row + 0.5)
                free, a = _alphas(across, mixed, down, opacity, dy, zero)
                before, plain = _let_through(transmittance, here, a, zero)
                visible = _visible(before, one, decay)
                weight = plain * visible
                red_in, green_in = simd.load(incoming, here), simd.load(incoming, TILE_PIXELS + here)
                blue_in = simd.load(incoming, 2 * TILE_PIXELS + here)
                value = simd.fma(
                    red,
                    red_in,
                    simd.fma(green, green_in, simd.fma(blue, blue_in, simd.load(incoming, 3 * TILE_PIXELS + here))),
                )
                cover_in = simd.load(incoming, 4 * TILE_PIXELS + here)
                by_red = simd.fma(weight, red_in, by_red)
                by_green = simd.fma(weight, green_in, by_green)
                by_blue = simd.fma(weight, blue_in, by_blue)
                rest = simd.load(behind, here) - weight * value
                simd.store(behind, here, rest)
                left_over = simd.load(covered, here) - plain
                simd.store(covered, here, left_over)
                slope = before * (visible * value + cover_in) - (rest + left_over * cover_in) / (one - a)
                slope = simd.select_greater(plain, zero, slope * a, zero)
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
            out[DEPTH] = 0.0
            out[PAIR_COLUMNS] = simd.total(by_red)
            out[PAIR_COLUMNS + 1] = simd.total(by_green)
            out[PAIR_COLUMNS + 2] = simd.total(by_blue)
        for entry in range(begin + used[job], end):
            pair_gradients[tile_slot[entry]] = 0.0
