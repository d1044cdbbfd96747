"""Ground truth beside a picture: the path tracer's passes as 8-bit files of the capture format."""

from __future__ import annotations

import os
from pathlib import Path

import bpy
import numpy as np
from numpy.typing import NDArray

from .._shared import errors
from .exr_passes import read_passes, write_passes_here
from .scene import write_webp

MAPS = ("albedo", "normal", "roughness", "metallic")
QUALITY = {"albedo": 88, "normal": 97, "roughness": 85, "metallic": 85}


def truth_files(stem: str) -> dict[str, str]:
    """Map -> file within the capture's folder of the picture with this name."""
    return {name: f"truth/{stem}_{name}.webp" for name in MAPS}


def render_with_truth(scene: bpy.types.Scene, picture: Path, folder: Path, stem: str) -> None:
    """Render once; write the picture and its maps under `folder`, the picture last. Raises EnvironmentFailed."""
    (folder / "truth").mkdir(exist_ok=True)
    passes, partial = folder / "truth" / "passes.partial", picture.with_suffix(".partial")
    write_passes_here(scene)
    scene.render.filepath = str(passes)
    bpy.ops.render.render(write_still=True, scene=scene.name)
    write_webp(scene)
    bpy.data.images["Render Result"].save_render(str(partial), scene=scene)
    if not partial.is_file() or not passes.is_file():
        raise errors.EnvironmentFailed(
            f"Blender did not write {picture.name}", do="Check free space and permissions of the folder"
        )
    maps = encoded_maps(read_passes(passes))
    for name, file in truth_files(stem).items():
        _save(folder / file, maps[name], QUALITY[name])
    passes.unlink()
    os.replace(partial, picture)


def encoded_maps(passes: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Maps [H, W, 4] in 0..1, straight, alpha the coverage.

    Albedo sRGB-encoded; normals in world axes, -1..1 as 0..1, grey where a surface has none (hair); others grey.
    """
    shares = passes["surface.B"]  # the pass is (roughness, metallic, 1) times coverage
    covered = np.maximum(shares, 1e-6)
    albedo, normal = (np.stack([passes[f"{name}.{c}"] / covered for c in "RGB"], -1) for name in ("albedo", "normal"))
    albedo = np.clip(albedo, 0, 1)
    encoded = np.where(albedo <= 0.0031308, 12.92 * albedo, 1.055 * albedo ** (1 / 2.4) - 0.055)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    normal = np.where(length > 0.5, normal / np.maximum(length, 1e-6), 0.0) * 0.5 + 0.5
    rough, metal = (np.repeat((passes[f"surface.{c}"] / covered)[..., None], 3, -1) for c in "RG")
    maps = {"albedo": encoded, "normal": normal, "roughness": rough, "metallic": metal}
    alpha = np.clip(shares, 0, 1)[..., None]
    return {
        name: np.concatenate([np.where(alpha > 0, np.clip(values, 0, 1), 0.0), alpha], -1).astype(np.float32)
        for name, values in maps.items()
    }


def _save(path: Path, values: NDArray[np.float32], quality: int) -> None:
    height, width = values.shape[:2]
    image = bpy.data.images.new(path.stem, width, height, alpha=True)
    try:
        image.colorspace_settings.name, image.alpha_mode = "Non-Color", "CHANNEL_PACKED"
        image.pixels.foreach_set(np.ascontiguousarray(values[::-1]).ravel())
        image.file_format = "WEBP"
        image.save(filepath=str(path), quality=quality)
    finally:
        bpy.data.images.remove(image)
