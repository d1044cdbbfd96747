"""From a frame of the backend to the flat buffers Blender's render passes take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

FAR_AWAY_M = 1e10
"""Depth Blender's own engines write where nothing is; Z Combine and defocus nodes rely on it."""

BLENDER_PASSES: dict[str, tuple[str, int, str, str]] = {
    "depth": ("Depth", 1, "Z", "VALUE"),
    "mask": ("Mask", 1, "X", "VALUE"),
    "normal": ("Normal", 3, "XYZ", "VECTOR"),
    "id": ("Avatar ID", 1, "X", "VALUE"),
    "albedo": ("Albedo", 3, "RGB", "COLOR"),
    "roughness": ("Roughness", 1, "X", "VALUE"),
    "metallic": ("Metallic", 1, "X", "VALUE"),
    "occlusion": ("Occlusion", 1, "X", "VALUE"),
    "diffuse": ("Diffuse", 3, "RGB", "COLOR"),
    "specular": ("Specular", 3, "RGB", "COLOR"),
}
"""Pass of a frame -> (name in Blender, channels, channel letters, kind); combined is Blender's own first pass."""

SURFACE_PASSES = ("albedo", "roughness", "metallic", "occlusion", "diffuse", "specular")
"""What avatars are made of and how light falls on it; a view layer has a switch `use_pass_NAME` for each."""


def over(combined: NDArray[Any], background: Float32 | None) -> Float32:
    """Premultiplied linear RGBA [H, W, 4] over an opaque background [H, W, 3]; None leaves it as it is."""
    picture = np.array(combined, dtype=np.float32)
    if background is not None:
        picture[..., :3] += (1 - picture[..., 3:]) * background
        picture[..., 3] = 1.0
    return picture


def buffers(passes: Mapping[str, NDArray[Any]], background: Float32 | None) -> dict[str, Float32]:
    """Blender's pass name -> flat float32, row 0 at the bottom, ready for `rect.foreach_set`."""
    flat = {"Combined": flattened(over(passes["combined"], background))}
    for name, (blender_name, *_) in BLENDER_PASSES.items():
        if name in passes:
            image = np.asarray(passes[name], dtype=np.float32)
            flat[blender_name] = flattened(np.where(image > 0, image, FAR_AWAY_M) if name == "depth" else image)
    return flat


def flattened(image: NDArray[Any]) -> Float32:
    """[H, W, C] with row 0 at the top -> flat contiguous float32 with row 0 at the bottom."""
    return np.ascontiguousarray(image[::-1], dtype=np.float32).reshape(-1)
