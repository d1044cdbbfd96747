"""The compiled CPU kernels of `trilinear` and of `deformation`'s fixed-point steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from avatars.relit_field.cpu_roots_kernels import FLATTEST, _blend
from avatars.rendering.jit import helper, kernel


@helper
def _cell(place: Any, low: Any, per_m: Any, nodes: int) -> tuple[int, Any, Any]:
    """Node below along one axis, how far towards the next, and 1 where moving on changes anything."""
    wanted = (place - low) * per_m
    held = min(max(wanted, np.float32(0)), np.float32(nodes - 1))
    cell = min(int(held), nodes - 2)
    return cell, held - np.float32(cell), np.float32(1) if held == wanted else np.float32(0)


@kernel
def forward(
    worker: int, workers: int, table: Any, places: Any, offset: Any, low: Any, per_m: Any, shape: Any, found: Any,
    slopes: Any,
) -> None:  # fmt: skip
    """found [P, C] and, unless it is empty, slopes [P, 3, C] of a table [N, C] at places [P, 3]; offset [P] or [0]."""
    count, width = found.shape
    steep, moved = slopes.shape[1] == 3, len(offset) > 0
    one = np.float32(1)
    nx, ny = shape[0], shape[1]
    for p in range(count * worker // workers, count * (worker + 1) // workers):
        i, u, mx = _cell(places[p, 0], low[0], per_m[0], nx)
        j, v, my = _cell(places[p, 1], low[1], per_m[1], ny)
        k, w, mz = _cell(places[p, 2], low[2], per_m[2], shape[2])
        first = (k * ny + j) * nx + i
        if moved:
            first += offset[p]
        for c in range(width):
            found[p, c] = 0
        for corner in range(8):
            a, b, d = corner & 1, (corner >> 1) & 1, corner >> 2
            wx, wy, wz = u if a else one - u, v if b else one - v, w if d else one - w
            row = first + (d * ny + b) * nx + a
            share = wx * wy * wz
            for c in range(width):
                found[p, c] += share * table[row, c]
            if steep:
                sx = (per_m[0] if a else -per_m[0]) * mx * wy * wz
                sy = (per_m[1] if b else -per_m[1]) * my * wx * wz
                sz = (per_m[2] if d else -per_m[2]) * mz * wx * wy
                for c in range(width):
                    value = table[row, c]
                    slopes[p, 0, c] += sx * value
                    slopes[p, 1, c] += sy * value
                    slopes[p, 2, c] += sz * value


@kernel
def backward(
    worker: int, workers: int, by_found: Any, places: Any, offset: Any, low: Any, per_m: Any, shape: Any, by_table: Any
) -> None:
    """by_table [N, C] += what by_found [P, C] asks for. A worker has columns of its own: equal bits for any number."""
    count, width = by_found.shape
    moved = len(offset) > 0
    one = np.float32(1)
    nx, ny = shape[0], shape[1]
    begun, ended = width * worker // workers, width * (worker + 1) // workers
    for p in range(count):
        some = False
        for c in range(begun, ended):
            some = some or by_found[p, c] != 0
        if not some:
            continue
        i, u, _ = _cell(places[p, 0], low[0], per_m[0], nx)
        j, v, _ = _cell(places[p, 1], low[1], per_m[1], ny)
        k, w, _ = _cell(places[p, 2], low[2], per_m[2], shape[2])
        first = (k * ny + j) * nx + i
        if moved:
            first += offset[p]
        for corner in range(8):
            a, b, d = corner & 1, (corner >> 1) & 1, corner >> 2
            share = (u if a else one - u) * (v if b else one - v) * (w if d else one - w)
            row = first + (d * ny + b) * nx + a
            for c in range(begun, ended):
                by_table[row, c] += share * by_found[p, c]


@kernel
def settle(
    worker: int, workers: int, rows: Any, wanted: Any, offset: Any, low: Any, per_m: Any, shape: Any, iterations: int,
    place: Any, before: Any,
) -> None:  # fmt: skip
    """Fixed-point steps of place [P, K, 3], in place, towards posed places wanted [P, 3]; before: one step earlier."""
    count, each = place.shape[0], place.shape[1]
    t, nodes = np.empty(12, np.float32), shape[0] * shape[1] * shape[2]
    for p in range(count * worker // workers, count * (worker + 1) // workers):
        table = rows[offset[p] : offset[p] + nodes]
        for n in range(each):
            for _ in range(iterations):
                x, y, z = place[p, n, 0], place[p, n, 1], place[p, n, 2]
                _blend(table, low, per_m, shape, x, y, z, t)
                a, b, c = wanted[p, 0] - t[3], wanted[p, 1] - t[7], wanted[p, 2] - t[11]
                before[p, n, 0], before[p, n, 1], before[p, n, 2] = x, y, z
                ca, cb, cc = t[5] * t[10] - t[6] * t[9], t[6] * t[8] - t[4] * t[10], t[4] * t[9] - t[5] * t[8]
                volume = t[0] * ca + t[1] * cb + t[2] * cc
                if abs(volume) > FLATTEST:
                    part = np.float32(1) / volume
                    da, db = t[2] * t[9] - t[1] * t[10], t[0] * t[10] - t[2] * t[8]
                    dc = t[1] * t[8] - t[0] * t[9]
                    ea, eb = t[1] * t[6] - t[2] * t[5], t[2] * t[4] - t[0] * t[6]
                    ec = t[0] * t[5] - t[1] * t[4]
                    place[p, n, 0] = (ca * a + da * b + ea * c) * part
                    place[p, n, 1] = (cb * a + db * b + eb * c) * part
                    place[p, n, 2] = (cc * a + dc * b + ec * c) * part
                else:
                    place[p, n, 0] = t[0] * a + t[4] * b + t[8] * c
                    place[p, n, 1] = t[1] * a + t[5] * b + t[9] * c
                    place[p, n, 2] = t[2] * a + t[6] * b + t[10] * c
