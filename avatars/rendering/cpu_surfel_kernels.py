"""Compiled kernels of the surfel rasteriser: lists of surfels for each tile, blending forwards and backwards.

A tile's surfels are walked front to back, and of each only the pixels inside its box. The backward pass walks front to
back as well: what lies behind a surfel is the pixel's total, known from the forward pass, minus what was met so far.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from avatars.rendering.constants import ALPHA_CEILING, ALPHA_FLOOR, TRANSMITTANCE_STOP
from avatars.rendering.jit import helper, kernel

TILE = 16
LOW_PASS = 2.0
PAIR_COLUMNS = 13  # gradients of the matrix (9), the centre (2), opacity, depth; features follow


@kernel
def listed(boxes: Any, order: Any, drawn: Any, width: int, height: int, frames: int, count: int) -> Any:
    """start [frames * tiles + 1], entries [P, 2] (surfel, slot) by tile front to back, first_slot [frames * count + 1].

    boxes [frames * count, 4] int32: first column, first row, and one past the last of each; order: by depth.
    """
    tiles_x, tiles_y = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    tiles = tiles_x * tiles_y
    first_slot = np.zeros(frames * count + 1, np.int64)
    start = np.zeros(frames * tiles + 1, np.int64)
    for frame in range(frames):
        for surfel in range(frame * count, (frame + 1) * count):
            box = boxes[surfel]
            touched = 0
            if box[2] > box[0] and box[3] > box[1]:
                for row in range(box[1] // TILE, (box[3] - 1) // TILE + 1):
                    for column in range(box[0] // TILE, (box[2] - 1) // TILE + 1):
                        start[frame * tiles + row * tiles_x + column + 1] += 1
                        touched += 1
            first_slot[surfel + 1] = first_slot[surfel] + touched
    for tile in range(frames * tiles):
        start[tile + 1] += start[tile]
    entries = np.empty((first_slot[-1], 2), np.int64)
    cursor = start[:-1].copy()
    for frame in range(frames):
        for place in range(drawn[frame]):
            surfel = frame * count + order[frame, place]
            box, slot = boxes[surfel], first_slot[surfel]
            for row in range(box[1] // TILE, (box[3] - 1) // TILE + 1):
                for column in range(box[0] // TILE, (box[2] - 1) // TILE + 1):
                    tile = frame * tiles + row * tiles_x + column
                    entries[cursor[tile], 0] = surfel
                    entries[cursor[tile], 1] = slot
                    cursor[tile] += 1
                    slot += 1
    return start, entries, first_slot


@helper
def _met(m: Any, x: Any, y: Any, centre: Any) -> Any:
    """Where the ray of pixel (x, y) meets the plane (u, v), its third homogeneous coordinate, which of the two
    falloffs counts (True: the plane's) and its exponent."""
    ax, ay, az = x * m[6] - m[0], x * m[7] - m[1], x * m[8] - m[2]
    bx, by, bz = y * m[6] - m[3], y * m[7] - m[4], y * m[8] - m[5]
    cx, cy, w = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    dx, dy = centre[0] - x, centre[1] - y
    round_px = LOW_PASS * (dx * dx + dy * dy)
    if w == 0.0:
        return 0.0, 0.0, 0.0, False, 1e30
    u, v = cx / w, cy / w
    on_plane = u * u + v * v
    if on_plane <= round_px:
        return u, v, w, True, 0.5 * on_plane
    return u, v, w, False, 0.5 * round_px


@kernel
def blend(
    worker: int,
    workers: int,
    matrices: Any,
    centres: Any,
    depths: Any,
    opacities: Any,
    features: Any,
    boxes: Any,
    start: Any,
    entries: Any,
    images: Any,
) -> None:
    """Fill images [B, H, W, C + 3]: features, alpha, depth sum, distortion."""
    frames, height, width, columns = images.shape
    channels = columns - 3
    tiles_x, tiles_y = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    tiles = tiles_x * tiles_y
    left_over = np.empty((TILE, TILE), np.float64)
    m, centre = np.empty(9, np.float64), np.empty(2, np.float64)
    for job in range(worker, frames * tiles, workers):
        frame, tile = job // tiles, job % tiles
        top, left = (tile // tiles_x) * TILE, (tile % tiles_x) * TILE
        bottom, right = min(top + TILE, height), min(left + TILE, width)
        left_over[:] = 1.0
        open_pixels = (bottom - top) * (right - left)
        for entry in range(start[job], start[job + 1]):
            if open_pixels == 0:
                break
            surfel = entries[entry, 0]
            box = boxes[surfel]
            m[:] = matrices[surfel]
            centre[:] = centres[surfel]
            depth, opacity = float(depths[surfel]), float(opacities[surfel])
            for row in range(max(top, box[1]), min(bottom, box[3])):
                for column in range(max(left, box[0]), min(right, box[2])):
                    through = left_over[row - top, column - left]
                    if through <= 0.0:
                        continue
                    _, _, w, _, exponent = _met(m, column + 0.5, row + 0.5, centre)
                    alpha = min(ALPHA_CEILING, opacity * math.exp(-exponent))
                    if w == 0.0 or alpha < ALPHA_FLOOR:
                        continue
                    after = through * (1.0 - alpha)
                    if after <= TRANSMITTANCE_STOP:
                        left_over[row - top, column - left] = -1.0
                        open_pixels -= 1
                        continue
                    weight = alpha * through
                    pixel = images[frame, row, column]
                    pixel[channels + 2] += 2.0 * weight * (depth * pixel[channels] - pixel[channels + 1])
                    for channel in range(channels):
                        pixel[channel] += weight * features[surfel, channel]
                    pixel[channels] += weight
                    pixel[channels + 1] += weight * depth
                    left_over[row - top, column - left] = after


@kernel
def blend_backward(
    worker: int,
    workers: int,
    matrices: Any,
    centres: Any,
    depths: Any,
    opacities: Any,
    features: Any,
    boxes: Any,
    start: Any,
    entries: Any,
    images: Any,
    slopes: Any,
    pairs: Any,
) -> None:
    """Fill pairs [P, PAIR_COLUMNS + C], zero on entry, from slopes [B, H, W, C + 3] of the images, by slot."""
    frames, height, width, columns = images.shape
    channels = columns - 3
    tiles_x, tiles_y = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    tiles = tiles_x * tiles_y
    left_over, behind = np.empty((TILE, TILE), np.float64), np.empty((TILE, TILE), np.float64)
    cover, depth_sum = np.empty((TILE, TILE), np.float64), np.empty((TILE, TILE), np.float64)
    m, centre, out = np.empty(9, np.float64), np.empty(2, np.float64), np.empty(PAIR_COLUMNS + channels, np.float64)
    for job in range(worker, frames * tiles, workers):
        frame, tile = job // tiles, job % tiles
        if start[job] == start[job + 1]:
            continue
        top, left = (tile // tiles_x) * TILE, (tile % tiles_x) * TILE
        bottom, right = min(top + TILE, height), min(left + TILE, width)
        left_over[:], cover[:], depth_sum[:] = 1.0, 0.0, 0.0
        open_pixels = (bottom - top) * (right - left)
        for row in range(top, bottom):
            for column in range(left, right):
                pixel, slope = images[frame, row, column], slopes[frame, row, column]
                total = 0.0
                for channel in range(channels + 2):
                    total += float(pixel[channel]) * slope[channel]
                total += 2.0 * float(pixel[channels + 2]) * slope[channels + 2]  # it is quadratic in the weights
                behind[row - top, column - left] = total
        for entry in range(start[job], start[job + 1]):
            if open_pixels == 0:
                break
            surfel = entries[entry, 0]
            box = boxes[surfel]
            m[:] = matrices[surfel]
            centre[:] = centres[surfel]
            depth, opacity = float(depths[surfel]), float(opacities[surfel])
            out[:] = 0.0
            for row in range(max(top, box[1]), min(bottom, box[3])):
                for column in range(max(left, box[0]), min(right, box[2])):
                    i, j = row - top, column - left
                    through = left_over[i, j]
                    if through <= 0.0:
                        continue
                    x, y = column + 0.5, row + 0.5
                    u, v, w, on_plane, exponent = _met(m, x, y, centre)
                    free = opacity * math.exp(-exponent)
                    alpha = min(ALPHA_CEILING, free)
                    if w == 0.0 or alpha < ALPHA_FLOOR:
                        continue
                    after = through * (1.0 - alpha)
                    if after <= TRANSMITTANCE_STOP:
                        left_over[i, j] = -1.0
                        open_pixels -= 1
                        continue
                    weight = alpha * through
                    pixel, slope = images[frame, row, column], slopes[frame, row, column]
                    by_spread = float(slope[channels + 2])
                    value = slope[channels] + slope[channels + 1] * depth
                    for channel in range(channels):
                        value += slope[channel] * features[surfel, channel]
                        out[PAIR_COLUMNS + channel] += weight * slope[channel]
                    beyond = pixel[channels] - cover[i, j] - weight
                    depth_beyond = pixel[channels + 1] - depth_sum[i, j] - weight * depth
                    value += 2.0 * by_spread * (depth * cover[i, j] - depth_sum[i, j] + depth_beyond - depth * beyond)
                    out[12] += weight * (slope[channels + 1] + 2.0 * by_spread * (cover[i, j] - beyond))
                    cover[i, j] += weight
                    depth_sum[i, j] += weight * depth
                    behind[i, j] -= weight * value
                    by_alpha = through * value - behind[i, j] / (1.0 - alpha)
                    left_over[i, j] = after
                    if free > ALPHA_CEILING:
                        continue
                    out[11] += by_alpha * alpha / opacity
                    by_exponent = -by_alpha * alpha
                    if not on_plane:
                        out[9] += by_exponent * LOW_PASS * (centre[0] - x)
                        out[10] += by_exponent * LOW_PASS * (centre[1] - y)
                        continue
                    # u = cx / w, v = cy / w with (cx, cy, w) = a x b, a = x m2 - m0, b = y m2 - m1
                    gx, gy = by_exponent * u / w, by_exponent * v / w
                    gw = -(gx * u + gy * v)
                    ax, ay, az = x * m[6] - m[0], x * m[7] - m[1], x * m[8] - m[2]
                    bx, by, bz = y * m[6] - m[3], y * m[7] - m[4], y * m[8] - m[5]
                    # d(g . (a x b)) / da = b x g, / db = g x a
                    gax, gay, gaz = by * gw - bz * gy, bz * gx - bx * gw, bx * gy - by * gx
                    gbx, gby, gbz = gy * az - gw * ay, gw * ax - gx * az, gx * ay - gy * ax
                    out[0] -= gax
                    out[1] -= gay
                    out[2] -= gaz
                    out[3] -= gbx
                    out[4] -= gby
                    out[5] -= gbz
                    out[6] += x * gax + y * gbx
                    out[7] += x * gay + y * gby
                    out[8] += x * gaz + y * gbz
            pairs[entries[entry, 1]] = out


@kernel
def summed(pairs: Any, first_slot: Any) -> Any:
    """Gradients of each surfel [B * N, columns]: the sum over its slots, in order."""
    total = np.zeros((len(first_slot) - 1, pairs.shape[1]), np.float32)
    for surfel in range(len(total)):
        for slot in range(first_slot[surfel], first_slot[surfel + 1]):
            for column in range(pairs.shape[1]):
                total[surfel, column] += pairs[slot, column]
    return total
