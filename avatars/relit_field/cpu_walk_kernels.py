"""The compiled kernels of `cpu_walk`. The constants are those of `posed_distance`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from avatars.rendering.jit import helper, kernel

MOST_STEPS, INNER_SAMPLES = 512, 8
CAREFUL = np.float32(0.8)
ZERO, HALF, ONE, QUARTER = np.float32(0), np.float32(0.5), np.float32(1), np.float32(0.25)


@helper
def _at(values: Any, low: Any, cell: Any, x: Any, y: Any, z: Any) -> Any:
    """Trilinear distance at a place; beyond the lattice as on its side."""
    depth, height, width = values.shape
    u = min(max((x - low[0]) / cell, ZERO), np.float32(width - 1))
    v = min(max((y - low[1]) / cell, ZERO), np.float32(height - 1))
    w = min(max((z - low[2]) / cell, ZERO), np.float32(depth - 1))
    i, j, k = min(int(u), width - 2), min(int(v), height - 2), min(int(w), depth - 2)
    u, v, w = u - np.float32(i), v - np.float32(j), w - np.float32(k)
    a = (ONE - u) * values[k, j, i] + u * values[k, j, i + 1]
    b = (ONE - u) * values[k, j + 1, i] + u * values[k, j + 1, i + 1]
    c = (ONE - u) * values[k + 1, j, i] + u * values[k + 1, j, i + 1]
    d = (ONE - u) * values[k + 1, j + 1, i] + u * values[k + 1, j + 1, i + 1]
    return (ONE - w) * ((ONE - v) * a + v * b) + w * ((ONE - v) * c + v * d)


@helper
def _gone(values: Any, low: Any, cell: Any, x: Any, y: Any, z: Any, dx: Any, dy: Any, dz: Any) -> Any:
    """Beyond the lattice and going away from it."""
    depth, height, width = values.shape
    return (
        (x < low[0] and dx <= ZERO) or (x > low[0] + cell * np.float32(width - 1) and dx >= ZERO)
        or (y < low[1] and dy <= ZERO) or (y > low[1] + cell * np.float32(height - 1) and dy >= ZERO)
        or (z < low[2] and dz <= ZERO) or (z > low[2] + cell * np.float32(depth - 1) and dz >= ZERO)
    )  # fmt: skip


@helper
def _density(distance: Any, beta: Any) -> Any:
    outside = HALF * np.float32(math.exp(-abs(distance) / beta))
    return (outside if distance >= ZERO else ONE - outside) / beta


@kernel
def walk_blocked(
    worker: int, workers: int, origins: Any, directions: Any, values: Any, low: Any, cell: Any, beta: Any,
    start: Any, far: Any, span: Any, passed: Any, where: Any,
) -> None:  # fmt: skip
    """passed [N] and where [N] m of rays [N, 3]."""
    count = len(origins)
    for ray in range(count * worker // workers, count * (worker + 1) // workers):
        ox, oy, oz = origins[ray, 0], origins[ray, 1], origins[ray, 2]
        dx, dy, dz = directions[ray, 0], directions[ray, 1], directions[ray, 2]
        t, before_t, before = start, start, -ONE
        hit = False
        passed[ray], where[ray] = ONE, far
        for _ in range(MOST_STEPS):
            x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
            if t >= far or _gone(values, low, cell, x, y, z, dx, dy, dz):
                break
            distance = _at(values, low, cell, x, y, z)
            if before > ZERO and distance <= ZERO:
                where[ray] = before_t + before / max(before - distance, np.float32(1e-9)) * (t - before_t)
                hit = True
                break
            before_t, before = t, distance
            t += max(CAREFUL * abs(distance), HALF * cell)
        if hit:
            optical = ZERO
            for inner in range(INNER_SAMPLES):
                t = where[ray] + span * ((np.float32(inner) + HALF) / np.float32(INNER_SAMPLES) - QUARTER)
                near = _at(values, low, cell, ox + t * dx, oy + t * dy, oz + t * dz)
                optical += _density(near, beta) * span / np.float32(INNER_SAMPLES)
            passed[ray] = np.float32(math.exp(-optical))


@kernel
def walk_spans(
    worker: int, workers: int, origins: Any, directions: Any, near: Any, far: Any, values: Any, low: Any, cell: Any,
    reach: Any, deep: Any, begun: Any, ended: Any,
) -> None:  # fmt: skip
    """begun [N] and ended [N] m of rays [N, 3] between near [N] and far [N] m."""
    count = len(origins)
    for ray in range(count * worker // workers, count * (worker + 1) // workers):
        ox, oy, oz = origins[ray, 0], origins[ray, 1], origins[ray, 2]
        dx, dy, dz = directions[ray, 0], directions[ray, 1], directions[ray, 2]
        t, first, last = near[ray], np.float32(np.inf), np.float32(-np.inf)
        for _ in range(MOST_STEPS):
            if t >= far[ray]:
                break
            distance = _at(values, low, cell, ox + t * dx, oy + t * dy, oz + t * dz)
            if distance < reach:
                first, last = min(first, t), t
                if distance < -deep:
                    break
                t += cell
            else:
                t += max(CAREFUL * (distance - reach), HALF * cell)
        begun[ray], ended[ray] = max(first - cell, near[ray]), min(last + cell, far[ray])
