"""Pictures for a viewport, packed into two float32 a pixel that hold exact integers below 2^24.

    x = red + 256 green + 65536 blue      8 bits each: straight display-encoded sRGB, not premultiplied
    y = alpha + 256 depth                 8 bits of cover, 16 bits of logarithmic depth between near and far

Blender uploads float textures only; these go from the wire to the graphics card without a conversion and come out of
the shader bit for bit. Where nothing is, both are 0. This numpy version is the reference of the torch one
(avatars.rendering.packed) and of the shader (blender_addon.viewport.shaders). Light above 1 is cut.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

DEPTH_STEPS = 65535


def pack(combined: NDArray[Any], depth: NDArray[Any], near_m: float, far_m: float) -> Float32:
    """[H, W, 2] of premultiplied linear RGBA [H, W, 4] and depth [H, W, 1] m, 0 where nothing is."""
    alpha = np.clip(combined[..., 3].astype(np.float64), 0, 1)
    straight = combined[..., :3] / np.maximum(alpha, 1e-6)[..., None]
    colour = np.rint(255 * _encoded(np.clip(straight, 0, 1)))
    cover = np.rint(255 * alpha)
    z = np.maximum(depth[..., 0].astype(np.float64), 1e-9)
    steps = np.rint(np.clip(np.log(z / near_m) / np.log(far_m / near_m), 0, 1) * DEPTH_STEPS)
    values = np.stack([colour @ np.array([1.0, 256.0, 65536.0]), cover + 256 * steps], axis=-1)
    there = (cover > 0) & (depth[..., 0] > 0)
    return np.where(there[..., None], values, 0).astype(np.float32)


def unpack(packed: Float32, near_m: float, far_m: float) -> tuple[Float32, Float32]:
    """Premultiplied linear RGBA [H, W, 4] and depth [H, W, 1] m, 0 where nothing is."""
    x, y = packed[..., 0].astype(np.uint32), packed[..., 1].astype(np.uint32)
    encoded = np.stack([x & 255, (x >> 8) & 255, x >> 16], axis=-1) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    alpha = (y & 255)[..., None] / 255
    depth = near_m * np.exp(np.log(far_m / near_m) * (y >> 8) / DEPTH_STEPS)
    depth = np.where(alpha > 0, depth[..., None], 0)
    return np.concatenate([linear * alpha, alpha], axis=-1).astype(np.float32), depth.astype(np.float32)


def _encoded(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
