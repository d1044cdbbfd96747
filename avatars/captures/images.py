"""Pictures with straight alpha from disk, as premultiplied uint8 at the size wanted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.errors import BadCapture


def read_premultiplied(path: Path, stored: tuple[int, int], size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Premultiplied RGBA [H, W, 4] uint8 of a picture whose size must be `stored` (width, height) px.

    An image without alpha counts as covered everywhere. Resizing is an area filter on premultiplied values, so no
    colour bleeds in from transparent pixels. Raises BadCapture.
    """
    try:
        with Image.open(path) as image:
            if image.size != tuple(stored):
                raise BadCapture(
                    f"image {path.name} has the wrong size",
                    found=f"{image.size[0]}x{image.size[1]}",
                    expected=f"{stored[0]}x{stored[1]}",
                )
            straight = np.asarray(image.convert("RGBA"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadCapture(f"image {path.name} cannot be read", found=str(error), do="Copy the capture again") from error
    premultiplied = premultiply(straight)
    if size is None or tuple(size) == tuple(stored):
        return premultiplied
    return area_resize(premultiplied, size)


def premultiply(straight: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Straight-alpha RGBA [H, W, 4] uint8 with the colours times alpha, rounded to nearest."""
    alpha = straight[..., 3:].astype(np.uint16)
    colours = (straight[..., :3] * alpha + 127) // 255
    return np.concatenate((colours.astype(np.uint8), straight[..., 3:]), -1)


def area_resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Each output pixel of `size` (width, height) is the mean of the input area it covers; [H, W, C] uint8."""
    height, width, channels = image.shape
    rows, columns = _coverage(height, size[1]), _coverage(width, size[0])
    half = (rows @ image.reshape(height, -1).astype(np.float32)).reshape(size[1], width, channels)
    full = columns @ half
    return np.clip(full + 0.5, 0, 255).astype(np.uint8)


def _coverage(old: int, new: int) -> NDArray[np.float32]:
    """[new, old] share of each input pixel in each output pixel, rows summing to 1."""
    edges = np.arange(new + 1) * (old / new)
    pixels = np.arange(old)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    overlap = np.clip(overlap, 0, None)
    return (overlap / overlap.sum(1, keepdims=True)).astype(np.float32)
