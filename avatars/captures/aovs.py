"""Ground truth beside a picture: albedo, normals, roughness and metallic from 8-bit files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatars.captures.images import area_resize, read_premultiplied
from shared.errors import BadCapture

AOVS = ("albedo", "normal", "roughness", "metallic")
OPENCV_FROM_OPENGL = np.array((1.0, -1.0, -1.0))


def read_aov(
    path: Path,
    name: str,
    stored: tuple[int, int],
    size: tuple[int, int] | None,
    world_from_camera: NDArray[np.float64] | None,
    opengl: bool,
) -> NDArray[np.float32]:
    """One map as numbers: 'albedo' [H, W, 3] linear, 'normal' [H, W, 3] unit in world axes, others [H, W, 1].

    stored: the file's (width, height) px; size: wanted. world_from_camera: [3, 3], None for normals in world axes;
    opengl: their camera axes are OpenGL's. A file may have alpha, the coverage. Resizing averages, so
    normals at edges are made unit again. Raises BadCapture.
    """
    if name not in AOVS:
        raise BadCapture(f"unknown ground truth {name!r}", expected=", ".join(AOVS))
    pixels = read_premultiplied(path, stored)
    if size is not None and tuple(size) != tuple(stored):
        pixels = area_resize(pixels, size)
    values = pixels[..., :3].astype(np.float32) / np.maximum(pixels[..., 3:], 1)  # straight again; 0 where nothing is
    if name == "albedo":
        return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4).astype(np.float32)
    if name in ("roughness", "metallic"):
        return values[..., :1]
    return unit_normals(values, world_from_camera, opengl)


def unit_normals(
    encoded: NDArray[np.float32], world_from_camera: NDArray[np.float64] | None, opengl: bool
) -> NDArray[np.float32]:
    """Unit normals [H, W, 3] in world axes of an image 0..1 that codes -1..1; where it codes nothing, 0."""
    normals = encoded.astype(np.float64) * 2 - 1
    if world_from_camera is not None:
        normals = (normals * OPENCV_FROM_OPENGL if opengl else normals) @ world_from_camera.T
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    return np.where(length > 0.3, normals / np.maximum(length, 1e-6), 0.0).astype(np.float32)
