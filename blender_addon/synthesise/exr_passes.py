"""Read back the passes Blender wrote to a multilayer EXR: one part, uncompressed, 32-bit floats, nothing else."""

from __future__ import annotations

import struct
from pathlib import Path

import bpy
import numpy as np
from numpy.typing import NDArray

from .._shared import errors


def write_passes_here(scene: bpy.types.Scene) -> None:
    """Let the scene's next render be saved in the one form `read_passes` knows."""
    settings = scene.render.image_settings
    if hasattr(settings, "media_type"):
        settings.media_type = "MULTI_LAYER_IMAGE"
    settings.file_format, settings.color_depth, settings.exr_codec = "OPEN_EXR_MULTILAYER", "32", "NONE"
    if hasattr(settings, "use_exr_interleave"):  # earlier versions know nothing else
        settings.use_exr_interleave = True


def read_passes(path: Path) -> dict[str, NDArray[np.float32]]:
    """Channels by name without the layer, like "albedo.R": [H, W] each, row 0 at the top. Raises EnvironmentFailed."""
    content = path.read_bytes()
    magic, version = struct.unpack_from("<II", content)
    if magic != 20000630 or version & 0x1200:
        raise errors.EnvironmentFailed("Blender wrote its passes in an unknown form", found=f"{magic} {version:#x}")
    at, header = 8, {}
    while content[at]:
        name, at = _word(content, at)
        _, at = _word(content, at)
        (size,) = struct.unpack_from("<i", content, at)
        header[name] = content[at + 4 : at + 4 + size]
        at += 4 + size
    names, place = [], 0
    channels = header["channels"]
    while channels[place]:
        name, place = _word(channels, place)
        (kind,) = struct.unpack_from("<i", channels, place)
        place += 16
        if kind != 2:
            raise errors.EnvironmentFailed(f"pass {name} is not of 32-bit floats", found=str(kind))
        names.append(name)
    if header["compression"] != b"\0":
        raise errors.EnvironmentFailed("Blender compressed its passes", found=str(header["compression"]))
    left, top, right, bottom = struct.unpack("<4i", header["dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    rows = np.frombuffer(content, np.uint8, offset=at + 1 + 8 * height)  # behind the header and the table of rows
    rows = rows[: height * (8 + 4 * width * len(names))].reshape(height, -1)
    order = np.argsort(np.ascontiguousarray(rows[:, :4]).view("<i4")[:, 0])
    values = np.ascontiguousarray(rows[order, 8:]).view("<f4").reshape(height, len(names), width)
    return {name.partition(".")[2]: values[:, index] for index, name in enumerate(names)}


def _word(content: bytes, at: int) -> tuple[str, int]:
    end = content.index(b"\0", at)
    return content[at:end].decode(), end + 1
