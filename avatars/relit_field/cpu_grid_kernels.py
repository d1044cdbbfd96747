"""The compiled CPU kernels of `cpu_grid`."""

from __future__ import annotations

from typing import Any

import numpy as np

from avatars.rendering.jit import helper, kernel

PRIME_Y, PRIME_Z = 2654435761, 805459861


@helper
def _row(x: int, y: int, z: int, side: int, size: int, dense: bool) -> int:
    """Row of a level's part of the table for a lattice point."""
    if dense:
        return (x * side + y) * side + z
    return (x ^ (y * PRIME_Y) ^ (z * PRIME_Z)) & (size - 1)


@helper
def _cell(place: Any, resolution: int) -> tuple[int, Any, Any]:
    """Cell along one axis, place in it in 0..1, and 1 where moving on changes anything (0 outside the cube)."""
    held = min(max(place, np.float32(0)), np.float32(1))
    scaled = held * np.float32(resolution)
    cell = min(int(scaled), resolution - 1)
    return cell, scaled - np.float32(cell), np.float32(1) if held == place else np.float32(0)


@kernel
def forward(
    worker: int, workers: int, places: Any, table: Any, resolutions: Any, sizes: Any, dense: Any, offsets: Any,
    levels: int, features: Any, slopes: Any,
) -> None:  # fmt: skip
    """features [P, L F] and, unless it is empty, slopes [P, 3, L F] of places [P, 3] in the unit cube."""
    count, width = len(places), table.shape[1]
    steep = slopes.shape[1] == 3
    one = np.float32(1)
    for p in range(count * worker // workers, count * (worker + 1) // workers):
        for level in range(levels):
            resolution = resolutions[level]
            side, size, offset = resolution + 1, sizes[level], offsets[level]
            x, u, mx = _cell(places[p, 0], resolution)
            y, v, my = _cell(places[p, 1], resolution)
            z, w, mz = _cell(places[p, 2], resolution)
            r = np.float32(resolution)
            for corner in range(8):
                a, b, c = corner >> 2, (corner >> 1) & 1, corner & 1
                row = offset + _row(x + a, y + b, z + c, side, size, dense[level])
                wx, wy, wz = u if a else one - u, v if b else one - v, w if c else one - w
                weight = wx * wy * wz
                first = level * width
                if steep:
                    sx = (r if a else -r) * mx * wy * wz
                    sy = (r if b else -r) * my * wx * wz
                    sz = (r if c else -r) * mz * wx * wy
                    for f in range(width):
                        value = table[row, f]
                        features[p, first + f] += weight * value
                        slopes[p, 0, first + f] += sx * value
                        slopes[p, 1, first + f] += sy * value
                        slopes[p, 2, first + f] += sz * value
                else:
                    for f in range(width):
                        features[p, first + f] += weight * table[row, f]


@kernel
def backward(
    worker: int, workers: int, places: Any, by_features: Any, by_slopes: Any, by_table: Any, resolutions: Any,
    sizes: Any, dense: Any, offsets: Any, levels: int,
) -> None:  # fmt: skip
    """Add to by_table [T, F] what by_features [P, L F] and by_slopes [P, 3, L F] (or empty) say; a level a worker."""
    count, width = len(places), by_table.shape[1]
    steep = by_slopes.shape[1] == 3
    one = np.float32(1)
    for level in range(worker, levels, workers):
        resolution = resolutions[level]
        side, size, offset, first = resolution + 1, sizes[level], offsets[level], level * width
        r = np.float32(resolution)
        for p in range(count):
            x, u, mx = _cell(places[p, 0], resolution)
            y, v, my = _cell(places[p, 1], resolution)
            z, w, mz = _cell(places[p, 2], resolution)
            for corner in range(8):
                a, b, c = corner >> 2, (corner >> 1) & 1, corner & 1
                row = offset + _row(x + a, y + b, z + c, side, size, dense[level])
                wx, wy, wz = u if a else one - u, v if b else one - v, w if c else one - w
                weight = wx * wy * wz
                if steep:
                    sx = (r if a else -r) * mx * wy * wz
                    sy = (r if b else -r) * my * wx * wz
                    sz = (r if c else -r) * mz * wx * wy
                    for f in range(width):
                        by_table[row, f] += (
                            weight * by_features[p, first + f]
                            + sx * by_slopes[p, 0, first + f]
                            + sy * by_slopes[p, 1, first + f]
                            + sz * by_slopes[p, 2, first + f]
                        )
                else:
                    for f in range(width):
                        by_table[row, f] += weight * by_features[p, first + f]
