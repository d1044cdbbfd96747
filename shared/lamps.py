"""Rows of `Environment.lights` and `Environment.lamps`: suns far away, and point, spot and area lamps near by.

A lamp is a small disc that always faces whom it lights, which is how Cycles treats its point lamps; an area lamp is one
of the same area whose light weakens with the angle from its axis. On its axis and far away, a surface facing a lamp at
distance d gets intensity / d² (radiance units times sr); near by intensity / (d² + radius²), since the disc fills a
growing part of the sky.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rows = NDArray[np.float32]

SUN_COLUMNS, LAMP_COLUMNS = 7, 13
IRRADIANCE = slice(3, 6)
"""Columns of a sun: direction before it, half its angle after it."""
MOST_LIGHTS = 64
"""Suns and lamps together that one picture takes: each is a channel of every Gaussian."""

BALL, CONE, PANEL = 0.0, 1.0, 2.0
KIND, POSITION, AXIS, INTENSITY, RADIUS, HALF_ANGLE, BLEND = 0, slice(1, 4), slice(4, 7), slice(7, 10), 10, 11, 12
"""Columns of a lamp: its kind; m; unit, where it points; on its axis, red, green, blue; m; rad; soft part of a cone, 0
to 1. HALF_ANGLE is half a cone's opening, or half a panel's spread (pi / 2: it shines as matt paper does)."""


def sun(direction: ArrayLike, irradiance: ArrayLike, angle_rad: float) -> Rows:
    """A sun: direction towards it [3], irradiance of a surface facing it [3], the whole angle it is wide."""
    return np.concatenate((np.ravel(direction), np.ravel(irradiance), [angle_rad / 2])).astype(np.float32)


def ball(position_m: ArrayLike, intensity: ArrayLike, radius_m: float = 0.0) -> Rows:
    """A lamp that shines the same in every direction."""
    return _lamp(BALL, position_m, (0, 0, -1), intensity, radius_m, math.pi, 0.0)


def cone(
    position_m: ArrayLike, axis: ArrayLike, intensity: ArrayLike, half_angle_rad: float, blend: float, radius_m: float
) -> Rows:
    """A spot: as `ball` in the middle of its cone, nothing outside, and between them a soft edge of share `blend`."""
    return _lamp(CONE, position_m, axis, intensity, radius_m, half_angle_rad, blend)


def panel(
    position_m: ArrayLike, axis: ArrayLike, intensity: ArrayLike, area_m2: float, half_spread_rad: float = math.pi / 2
) -> Rows:
    """An area lamp of any outline; intensity is that on its axis, its back is dark."""
    return _lamp(PANEL, position_m, axis, intensity, math.sqrt(max(area_m2, 0.0) / math.pi), half_spread_rad, 0.0)


def _lamp(
    kind: float,
    position_m: ArrayLike,
    axis: ArrayLike,
    intensity: ArrayLike,
    radius_m: float,
    half_angle_rad: float,
    blend: float,
) -> Rows:
    parts = ([kind], np.ravel(position_m), np.ravel(axis), np.ravel(intensity), [radius_m, half_angle_rad, blend])
    return np.concatenate(parts).astype(np.float32)


def no_suns() -> Rows:
    """[0, 7]"""
    return np.zeros((0, SUN_COLUMNS), np.float32)


def no_lamps() -> Rows:
    """[0, 13]"""
    return np.zeros((0, LAMP_COLUMNS), np.float32)


def stacked(rows: Sequence[Rows], columns: int) -> Rows:
    """Rows as an array [N, columns], also where there are none."""
    return np.stack(rows).astype(np.float32) if rows else np.zeros((0, columns), np.float32)
