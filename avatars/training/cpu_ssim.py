"""Compiled SSIM with its gradient: separable windows over rows kept in cache, eight pixels at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from avatars.rendering import simd
from avatars.rendering.jit import helper, kernel
from avatars.rendering.simd import LANES


@helper
def _filter_rows(maps: Any, count: Any, row: Any, height: Any, stride: Any, taps: Any, ring: Any, out: Any) -> Any:
    """Window `count` maps, one after the other [count, height, stride], around `row`, into out [count, stride].

    `ring` [count, taps, stride] holds rows filtered horizontally, of which `row` + reach is added here; rows outside
    the image count as 0. Maps have `reach` zeros left of the image and enough right of it.
    """
    size = len(taps)
    reach = size // 2
    newest = row + reach
    slot = newest % size
    for index in range(count):
        target = (index * size + slot) * stride
        source = (index * height + newest) * stride
        for column in range(0, stride - LANES - 2 * reach + 1, LANES):
            total = simd.splat(0.0)
            if newest < height:
                for tap in range(size):
                    total = simd.fma(simd.splat(taps[tap]), simd.load(maps, source + column + tap), total)
            simd.store(ring, target + column, total)
    oldest = (newest + 1) % size  # where the row `reach` above lies, and the others after it
    for index in range(count):
        for column in range(0, stride - LANES - 2 * reach + 1, LANES):
            total = simd.splat(0.0)
            here = (index * size + oldest) * stride + column
            for tap in range(size - oldest):
                total = simd.fma(simd.splat(taps[tap]), simd.load(ring, here + tap * stride), total)
            here = (index * size - (size - oldest)) * stride + column
            for tap in range(size - oldest, size):
                total = simd.fma(simd.splat(taps[tap]), simd.load(ring, here + tap * stride), total)
            simd.store(out, index * stride + column, total)


@helper
def _start_ring(maps: Any, count: Any, height: Any, stride: Any, taps: Any, ring: Any, out: Any) -> None:
    """Fill the ring with the first rows, and zeros for those above the image."""
    reach = len(taps) // 2
    ring[:] = 0.0
    for row in range(-reach, 0):
        _filter_rows(maps, count, row, height, stride, taps, ring, out)


@kernel
def ssim_and_gradient(
    worker: int, workers: int, images: Any, targets: Any, taps: Any, c1: float, c2: float, sums: Any, gradients: Any
) -> None:
    """Sum of the SSIM map of every plane, sums [B, C], and its gradient [B, H, W, C] by images [B, H, W, C].

    Rows and columns outside the image count as 0. An empty `gradients` asks for none.
    """
    frames, height, width, channels = images.shape
    size = len(taps)
    reach = size // 2
    stride = (width + LANES - 1) // LANES * LANES + 2 * reach + LANES
    wanted = gradients.size > 0
    maps = np.zeros(5 * height * stride, np.float32)
    slopes = np.zeros((3 * height * stride) if wanted else 0, np.float32)
    ring, out = np.zeros(5 * size * stride, np.float32), np.zeros(5 * stride, np.float32)
    one, two = simd.splat(1.0), simd.splat(2.0)
    first_constant, second_constant = simd.splat(c1), simd.splat(c2)
    plane = height * stride
    for job in range(worker, frames * channels, workers):
        frame, channel = job // channels, job % channels
        for row in range(height):
            for column in range(width):
                x, y = images[frame, row, column, channel], targets[frame, row, column, channel]
                here = row * stride + reach + column
                maps[here] = x
                maps[plane + here] = y
                maps[2 * plane + here] = x * x
                maps[3 * plane + here] = y * y
                maps[4 * plane + here] = x * y
        _start_ring(maps, 5, height, stride, taps, ring, out)
        total = 0.0
        for row in range(height):
            _filter_rows(maps, 5, row, height, stride, taps, ring, out)
            for column in range(0, stride - LANES - 2 * reach + 1, LANES):
                mx, my = simd.load(out, column), simd.load(out, stride + column)
                xx, yy = simd.load(out, 2 * stride + column), simd.load(out, 3 * stride + column)
                xy = simd.load(out, 4 * stride + column)
                a1 = simd.fma(two * mx, my, first_constant)
                a2 = two * (xy - mx * my) + second_constant
                b1 = simd.fma(mx, mx, simd.fma(my, my, first_constant))
                b2 = (xx - mx * mx) + (yy - my * my) + second_constant
                inverse = one / (b1 * b2)
                score = a1 * a2 * inverse
                simd.store(out, column, score)
                if wanted:
                    by_xx = simd.splat(0.0) - score / b2
                    by_xy = two * a1 * inverse
                    by_mean = two * (my * (a2 - a1) * inverse - mx * score / b1 - mx * by_xx)
                    here = row * stride + reach + column
                    simd.store(slopes, here, by_mean)
                    simd.store(slopes, plane + here, by_xx)
                    simd.store(slopes, 2 * plane + here, by_xy)
            for column in range(width):
                total += out[column]
            if wanted:
                for index in range(3):  # what the last vector wrote beyond the image
                    slopes[index * plane + row * stride + reach + width : index * plane + (row + 1) * stride] = 0.0
        sums[frame, channel] = total
        if not wanted:
            continue
        _start_ring(slopes, 3, height, stride, taps, ring, out)
        for row in range(height):
            _filter_rows(slopes, 3, row, height, stride, taps, ring, out)
            for column in range(width):
                x, y = images[frame, row, column, channel], targets[frame, row, column, channel]
                gradients[frame, row, column, channel] = (
                    out[column] + np.float32(2.0) * x * out[stride + column] + y * out[2 * stride + column]
                )
