"""The compiled kernel of `cpu_roots`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from avatars.rendering.jit import helper, kernel

LONGEST = np.float32(0.2)
TINY = np.float32(1e-12)
FLATTEST = np.float32(1e-4)


@helper
def _blend(rows: Any, low: Any, per_m: Any, shape: Any, x: Any, y: Any, z: Any, out: Any) -> None:
    """out [12]: the volume's rows, trilinear at a place; beyond it the nearest place in it."""
    zero, one = np.float32(0), np.float32(1)
    u = min(max((x - low[0]) * per_m[0], zero), np.float32(shape[0] - 1))
    v = min(max((y - low[1]) * per_m[1], zero), np.float32(shape[1] - 1))
    w = min(max((z - low[2]) * per_m[2], zero), np.float32(shape[2] - 1))
    i, j, k = min(int(u), shape[0] - 2), min(int(v), shape[1] - 2), min(int(w), shape[2] - 2)
    u, v, w = u - np.float32(i), v - np.float32(j), w - np.float32(k)
    first = (k * shape[1] + j) * shape[0] + i
    for c in range(12):
        out[c] = zero
    for corner in range(8):
        a, b, d = corner & 1, (corner >> 1) & 1, corner >> 2
        share = (u if a else one - u) * (v if b else one - v) * (w if d else one - w)
        row = first + (d * shape[1] + b) * shape[0] + a
        for c in range(12):
            out[c] += share * rows[row, c]


@kernel
def blend(worker: int, workers: int, places: Any, rows: Any, low: Any, per_m: Any, shape: Any, found: Any) -> None:
    """found [P, 12]: blended transforms at places [P, 3]."""
    count = len(places)
    for p in range(count * worker // workers, count * (worker + 1) // workers):
        _blend(rows, low, per_m, shape, places[p, 0], places[p, 1], places[p, 2], found[p])


@kernel
def broyden(
    worker: int, workers: int, places: Any, starts: Any, inverse: Any, rows: Any, low: Any, per_m: Any, shape: Any,
    iterations: int, converged: Any, found: Any, off: Any,
) -> None:  # fmt: skip
    """found [P, K, 3] and off [P, K] m: Broyden's method from K starts (rows of `inverse` [N, 3, 4]) for places."""
    count, each = starts.shape
    t, back = np.empty(12, np.float32), np.empty((3, 3), np.float32)
    x, s, e, ne, ch = (
        np.empty(3, np.float32), np.empty(3, np.float32), np.empty(3, np.float32), np.empty(3, np.float32),
        np.empty(3, np.float32),
    )  # fmt: skip
    for p in range(count * worker // workers, count * (worker + 1) // workers):
        for k in range(each):
            m = inverse[starts[p, k]]
            for r in range(3):
                x[r] = m[r, 0] * places[p, 0] + m[r, 1] * places[p, 1] + m[r, 2] * places[p, 2] + m[r, 3]
            _blend(rows, low, per_m, shape, x[0], x[1], x[2], t)
            for r in range(3):
                e[r] = t[4 * r] * x[0] + t[4 * r + 1] * x[1] + t[4 * r + 2] * x[2] + t[4 * r + 3] - places[p, r]
            ca, cb, cc = t[5] * t[10] - t[6] * t[9], t[6] * t[8] - t[4] * t[10], t[4] * t[9] - t[5] * t[8]
            volume = t[0] * ca + t[1] * cb + t[2] * cc
            if abs(volume) > FLATTEST:
                back[0, 0], back[1, 0], back[2, 0] = ca / volume, cb / volume, cc / volume
                back[0, 1] = (t[2] * t[9] - t[1] * t[10]) / volume
                back[1, 1] = (t[0] * t[10] - t[2] * t[8]) / volume
                back[2, 1] = (t[1] * t[8] - t[0] * t[9]) / volume
                back[0, 2] = (t[1] * t[6] - t[2] * t[5]) / volume
                back[1, 2] = (t[2] * t[4] - t[0] * t[6]) / volume
                back[2, 2] = (t[0] * t[5] - t[1] * t[4]) / volume
            else:
                for r in range(3):
                    for c in range(3):
                        back[r, c] = t[4 * c + r]
            error = math.sqrt(e[0] * e[0] + e[1] * e[1] + e[2] * e[2])
            found[p, k, 0], found[p, k, 1], found[p, k, 2], off[p, k] = x[0], x[1], x[2], error
            for _ in range(iterations):
                if off[p, k] < converged:
                    break
                for r in range(3):
                    s[r] = -(back[r, 0] * e[0] + back[r, 1] * e[1] + back[r, 2] * e[2])
                length = math.sqrt(s[0] * s[0] + s[1] * s[1] + s[2] * s[2])
                if length > LONGEST:
                    for r in range(3):
                        s[r] *= LONGEST / length
                for r in range(3):
                    x[r] += s[r]
                _blend(rows, low, per_m, shape, x[0], x[1], x[2], t)
                for r in range(3):
                    ne[r] = t[4 * r] * x[0] + t[4 * r + 1] * x[1] + t[4 * r + 2] * x[2] + t[4 * r + 3] - places[p, r]
                    e[r] = ne[r] - e[r]
                for r in range(3):
                    ch[r] = back[r, 0] * e[0] + back[r, 1] * e[1] + back[r, 2] * e[2]
                divisor = s[0] * ch[0] + s[1] * ch[1] + s[2] * ch[2]
                if abs(divisor) < TINY:
                    divisor = TINY
                ax = s[0] * back[0, 0] + s[1] * back[1, 0] + s[2] * back[2, 0]
                ay = s[0] * back[0, 1] + s[1] * back[1, 1] + s[2] * back[2, 1]
                az = s[0] * back[0, 2] + s[1] * back[1, 2] + s[2] * back[2, 2]
                for r in range(3):
                    factor = (s[r] - ch[r]) / divisor
                    back[r, 0] += factor * ax
                    back[r, 1] += factor * ay
                    back[r, 2] += factor * az
                    e[r] = ne[r]
                error = math.sqrt(e[0] * e[0] + e[1] * e[1] + e[2] * e[2])
                if error < off[p, k]:
                    found[p, k, 0], found[p, k, 1], found[p, k, 2], off[p, k] = x[0], x[1], x[2], error
