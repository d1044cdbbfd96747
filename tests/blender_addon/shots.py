"""A small scene to render, and reading rendered pictures back."""

from __future__ import annotations

import struct
from pathlib import Path

import bpy
import numpy as np

SIZE = 64


def set_up(bpy_module=bpy, size: int = SIZE, avatar_id: str = "tiny") -> None:
    """An avatar of the connected backend, a camera in front of its face, small pictures."""
    from blender_addon.services import animation

    bpy_module.ops.effigy.add_avatar(avatar_id=avatar_id)
    scene = bpy_module.context.scene
    scene.render.engine = "EFFIGY"
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.resolution_percentage = 100
    scene.frame_start, scene.frame_end = 1, 3
    scene.view_settings.view_transform = "Standard"
    animation.add_camera_path(bpy_module.context, bpy_module.context.object, 1, 3)
    scene.frame_set(2)


def read_picture(path: Path) -> np.ndarray:
    """[H, W, 4] of a picture file as Blender reads it, row 0 at the top."""
    image = bpy.data.images.load(str(path))
    pixels = np.array(image.pixels[:]).reshape(image.size[1], image.size[0], 4)[::-1]
    bpy.data.images.remove(image)
    return pixels


def render_exr(path: Path, *, single: bool = False) -> dict[str, np.ndarray] | np.ndarray:
    """Render the current frame to a multilayer EXR; pass name -> [H, W, C], row 0 at the top.

    single: what the compositor makes, as one picture.
    """
    scene = bpy.context.scene
    settings = scene.render.image_settings
    if hasattr(settings, "media_type"):
        settings.media_type = "IMAGE" if single else "MULTI_LAYER_IMAGE"
    settings.file_format = "OPEN_EXR" if single else "OPEN_EXR_MULTILAYER"
    settings.color_depth, settings.exr_codec = "32", "NONE"
    if single:
        settings.color_mode = "RGBA"
    if hasattr(settings, "use_exr_interleave"):
        settings.use_exr_interleave = True  # one part, as before Blender 5
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    if single:
        return read_picture(path)
    first = f"{bpy.context.view_layer.name}."
    return {name.removeprefix(first): image for name, image in read_exr(path).items()}


def read_exr(path: Path) -> dict[str, np.ndarray]:
    """`LAYER.PASS` -> image of an uncompressed float32 scanline EXR; Blender's Python has no module to ask.

    Layout: OpenEXR's "File Layout" page: header attributes, one offset per line, then y, size and the channels' rows.
    """
    data = path.read_bytes()
    assert struct.unpack_from("<II", data) == (20000630, 2 | 0x400 * (data[5] >> 2 & 1)), "a plain scanline file"
    place, header = 8, {}
    while data[place]:
        name, place = _text(data, place)
        _, place = _text(data, place)
        (size,) = struct.unpack_from("<i", data, place)
        header[name] = data[place + 4 : place + 4 + size]
        place += 4 + size
    assert header["compression"] == b"\0"
    x0, y0, x1, y1 = struct.unpack("<4i", header["dataWindow"])
    width, height = x1 - x0 + 1, y1 - y0 + 1
    names, inside = [], 0
    while header["channels"][inside]:
        name, inside = _text(header["channels"], inside)
        assert struct.unpack_from("<i", header["channels"], inside) == (2,), "float32"
        names.append(name)
        inside += 16
    channels = np.empty((len(names), height, width), np.float32)
    for offset in struct.unpack_from(f"<{height}Q", data, place + 1):
        (y,) = struct.unpack_from("<i", data, offset)
        row = np.frombuffer(data, "<f4", len(names) * width, offset + 8)
        channels[:, y - y0] = row.reshape(len(names), width)
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, channel in zip(names, channels, strict=True):
        layer, _, letter = name.rpartition(".")
        found.setdefault(layer, {})[letter] = channel
    return {
        layer: np.stack([parts[c] for c in sorted(parts, key="RGBXYZVA".index)], -1) for layer, parts in found.items()
    }


def _text(data: bytes, place: int) -> tuple[str, int]:
    end = data.index(b"\0", place)
    return data[place:end].decode(), end + 1
