"""Seeded value noise in three dimensions: the same point gives the same value on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def value_noise(points_m: ArrayLike, frequency_per_m: float, seed: int = 0) -> NDArray[np.float32]:
    """Smoothly interpolated lattice noise in 0..1 at points [..., 3]."""
    scaled = np.asarray(points_m, np.float32) * np.float32(frequency_per_m)
    cell = np.floor(scaled).astype(np.int64)
    t = (scaled - cell).astype(np.float32)
    t = t * t * (3 - 2 * t)
    total = np.zeros(scaled.shape[:-1], np.float32)
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(np.array(corner, bool), t, 1 - t), axis=-1)
        total += weight * _lattice(cell + np.array(corner), seed)
    return total


def fractal_noise(points_m: ArrayLike, frequency_per_m: float, octaves: int, seed: int = 0) -> NDArray[np.float32]:
    """Octaves of `value_noise`, halving in strength and doubling in frequency, normalised to 0..1."""
    total = sum(0.5**k * value_noise(points_m, frequency_per_m * 2**k, seed + k) for k in range(octaves))
    return np.asarray(total / sum(0.5**k for k in range(octaves)), np.float32)


def smoothstep(low: float, high: float, value: ArrayLike) -> NDArray[np.float64]:
    """0 below `low`, 1 above `high`, a smooth ramp between (`low` may exceed `high`)."""
    t = np.clip((np.asarray(value, np.float64) - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _lattice(cell: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
    x, y, z = (cell[..., k].astype(np.uint32) for k in range(3))
    mixed = (x * np.uint32(73856093)) ^ (y * np.uint32(19349663)) ^ (z * np.uint32(83492791))
    mixed ^= np.uint32((seed * 2654435761) & 0xFFFFFFFF)
    mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(1274126177)
    mixed ^= mixed >> np.uint32(16)
    return (mixed & np.uint32(0xFFFFFF)).astype(np.float32) / np.float32(0xFFFFFF)
