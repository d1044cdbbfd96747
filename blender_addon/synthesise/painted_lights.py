"""Lights computed here, nobody else's: a room with windows, noon under a clear sky, coloured lamps at night."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from .noise import smoothstep
from .surface import Array

SHAPE = (64, 128)
Colour = tuple[float, float, float]


def _directions() -> tuple[Array, Array]:
    """Azimuth and elevation [H, W] rad of the pixels, as in shared.types.Environment."""
    rows, columns = np.meshgrid(
        (np.arange(SHAPE[0]) + 0.5) / SHAPE[0], (np.arange(SHAPE[1]) + 0.5) / SHAPE[1], indexing="ij"
    )
    return (0.5 - columns) * 2 * np.pi, (0.5 - rows) * np.pi


def _away(at_deg: tuple[float, float]) -> Array:
    """Angle [H, W] rad of each pixel from (azimuth, elevation)."""
    azimuth, elevation = _directions()
    there, up = np.radians(at_deg)
    cosine = np.sin(elevation) * np.sin(up) + np.cos(elevation) * np.cos(up) * np.cos(azimuth - there)
    return np.asarray(np.arccos(np.clip(cosine, -1, 1)))


def _disc(at_deg: tuple[float, float], radius_deg: float, soft_deg: float) -> Array:
    return np.asarray(smoothstep(np.radians(radius_deg + soft_deg), np.radians(radius_deg), _away(at_deg)))[..., None]


def _window(azimuth_deg: float, width_deg: float, low_deg: float, high_deg: float, soft_deg: float = 3.0) -> Array:
    azimuth, elevation = (np.degrees(part) for part in _directions())
    aside = np.abs((azimuth - azimuth_deg + 180) % 360 - 180)
    across = smoothstep(width_deg / 2 + soft_deg, width_deg / 2, aside)
    along = smoothstep(low_deg - soft_deg, low_deg, elevation) * smoothstep(high_deg + soft_deg, high_deg, elevation)
    return np.asarray(across * along)[..., None]


def _upwards(below: Colour, level: Colour, above: Colour) -> Array:
    """[H, W, 3] from straight down over the horizon to straight up."""
    height = np.sin(_directions()[1])[..., None]
    up, down = np.clip(height, 0, 1) ** 0.6, smoothstep(0.02, -0.05, height)
    sky = np.array(level) * (1 - up) + np.array(above) * up
    return np.asarray(sky * (1 - down) + np.array(below) * down)


def _room() -> Array:
    walls = _upwards((0.10, 0.075, 0.05), (0.26, 0.24, 0.21), (0.36, 0.34, 0.31))
    day, lamp = np.array([5.2, 5.8, 6.6]), np.array([15.0, 11.5, 8.0])
    windows = _window(-62, 52, -4, 48) + 0.45 * _window(158, 30, 0, 40)
    return walls + windows * day + (_disc((20, 68), 7, 3) + _disc((-160, 62), 6, 3)) * lamp


def _noon() -> Array:
    sky = _upwards((0.15, 0.13, 0.105), (0.50, 0.56, 0.64), (0.09, 0.19, 0.44))
    sun = np.exp(-0.5 * (_away((-52, 42)) / np.radians(1.8)) ** 2)[..., None]
    return sky + 950.0 * sun * np.array([1.0, 0.93, 0.80])


def _neon() -> Array:
    night = _upwards((0.020, 0.016, 0.030), (0.05, 0.035, 0.085), (0.025, 0.03, 0.07))
    pink = _window(-30, 46, -25, 40, 10) * np.array([3.4, 0.35, 1.9])
    teal = _window(-155, 60, -30, 45, 12) * np.array([0.15, 2.3, 2.6])
    return night + pink + teal + _disc((75, 12), 16, 8) * np.array([3.2, 1.5, 0.25])


PAINTED: Mapping[str, Callable[[], Array]] = {"room": _room, "noon": _noon, "neon": _neon}
BRIGHTEST_WHITE = {"room": 1.3, "noon": 1.35, "neon": 1.1}
"""Radiance of a white matt surface turned to where it is lit best: pictures of 8 bits hold little above 1."""


def painted_radiance(name: str) -> NDArray[np.float32]:
    """[64, 128, 3] linear radiance of a light in `PAINTED`, latitude-longitude as in shared.types.Environment."""
    radiance = PAINTED[name]()
    azimuth, elevation = _directions()
    towards = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], axis=-1
    ).reshape(-1, 3)
    weighted = (radiance * np.cos(elevation)[..., None]).reshape(-1, 3) * (np.pi / SHAPE[0]) * (2 * np.pi / SHAPE[1])
    normals = towards[:: SHAPE[1] // 16]
    lit = np.maximum(normals @ towards.T, 0) @ weighted / np.pi
    return (radiance * (BRIGHTEST_WHITE[name] / lit.mean(axis=1).max())).astype(np.float32)


def radiance_file(radiance: NDArray[np.float32]) -> bytes:
    """A Radiance picture (.hdr, flat RGBE; Ward 1991) of [H, W, 3] linear radiance."""
    height, width = radiance.shape[:2]
    brightest = np.maximum(radiance.max(axis=-1), 1e-32)
    mantissa, exponent = np.frexp(brightest)
    scale = mantissa * 256.0 / brightest
    values = np.concatenate([radiance * scale[..., None], exponent[..., None] + 128.0], axis=-1)
    pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    pixels[..., 0] = np.where((pixels[..., 0] == 2) & (pixels[..., 1] == 2), 3, pixels[..., 0])  # would say "coded"
    head = f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {height} +X {width}\n"
    return head.encode() + pixels.tobytes()
