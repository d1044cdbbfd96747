"""Pictures with straight alpha from disk, as premultiplied uint8 at the size wanted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avatars.captures.lens import undistorted
from avatars.picture_files import open_picture
from shared.errors import BadCapture
from shared.npz import read_npy

MAX_MASK_BYTES = 1 << 28


def read_premultiplied(
    path: Path,
    stored: tuple[int, int],
    size: tuple[int, int] | None = None,
    *,
    mask: Path | None = None,
    also_mask: Path | None = None,
    must_be_masked: bool = False,
    mask_threshold: int | None = None,
    lens: tuple[NDArray[np.float64], tuple[float, ...]] | None = None,
) -> NDArray[np.uint8]:
    """Premultiplied RGBA [H, W, 4] uint8 of a picture whose size must be `stored` (width, height) px.

    mask: a file of the same size whose brightness becomes alpha. Without one an image without alpha counts as covered
    everywhere, or is refused when must_be_masked. also_mask: a second mask, the brighter of both counts.
    mask_threshold: make the mask hard, 255 above it and 0 elsewhere; 0 for masks of labels, where all but 0 is person.
    lens: K [3, 3] px and OpenCV's five coefficients of a lens to be undone first. Resizing is an area filter on
    premultiplied values, so no colour bleeds in from transparent pixels. Raises BadCapture.
    """
    straight = _pixels(path, stored, "RGBA", must_be_masked and mask is None)
    if mask is not None:
        alpha = read_mask(mask, stored)
        if also_mask is not None:
            alpha = np.maximum(alpha, read_mask(also_mask, stored))
        if mask_threshold == 0:  # labels: made hard before anything blends them
            alpha, mask_threshold = np.uint8(255) * (alpha > 0), 127
        straight = np.concatenate((straight[..., :3], alpha[..., None]), -1)
    if lens is not None:
        straight = undistorted(straight, *lens)
    if mask_threshold is not None:
        straight = np.concatenate((straight[..., :3], np.uint8(255) * (straight[..., 3:] > mask_threshold)), -1)
    premultiplied = premultiply(straight)
    if size is None or tuple(size) == tuple(stored):
        return premultiplied
    return area_resize(premultiplied, size)


def read_mask(path: Path, stored: tuple[int, int]) -> NDArray[np.uint8]:
    """A mask [H, W] uint8, 255 where the person is: a one-channel picture, or an .npy of truth values or 0..1.

    stored: its (width, height) px. Raises BadCapture.
    """
    if path.suffix.lower() != ".npy":
        return _pixels(path, stored, "L", False)
    try:
        content = path.read_bytes() if path.stat().st_size <= MAX_MASK_BYTES else b""
    except OSError as error:
        raise BadCapture(f"mask {path.name} cannot be read", found=error.strerror or str(error)) from error
    array = np.squeeze(read_npy(content, f"mask {path.name}", BadCapture))
    if array.shape != stored[::-1] or array.dtype.kind not in "biuf":
        raise BadCapture(
            f"mask {path.parent.name}/{path.name} does not fit its picture",
            found=f"{list(array.shape)} {array.dtype}",
            expected=f"{[stored[1], stored[0]]} numbers",
        )
    full = 255.0 if array.dtype.kind in "iu" and array.max(initial=0) > 1 else 1.0
    return (np.clip(np.nan_to_num(array.astype(np.float32)) / full, 0, 1) * 255 + 0.5).astype(np.uint8)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in px of a picture, from its header alone. Raises BadCapture."""
    with _opened(path) as image:
        return image.size


def has_alpha(path: Path) -> bool:
    """Whether a picture brings an alpha channel (or a transparent colour), from its header alone. Raises BadCapture."""
    with _opened(path) as image:
        return "A" in image.getbands() or "transparency" in image.info


def check_size(path: Path, found: tuple[int, int], stored: tuple[int, int]) -> None:
    """Refuse a picture of another size than `stored` (width, height) px, and say so if they are swapped."""
    if tuple(found) == tuple(stored):
        return
    swapped = found[::-1] == tuple(stored) and found[0] != found[1]
    raise BadCapture(
        f"image {path.parent.name}/{path.name} has "
        + ("width and height the other way round" if swapped else "the wrong size"),
        found=f"{found[0]}x{found[1]}",
        expected=f"{stored[0]}x{stored[1]}",
        do="Swap width and height in the file that names the size, or copy the right pictures" if swapped else "",
    )


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    with open_picture(path, f"image {path.name}", BadCapture, do="Copy the capture again") as image:
        yield image


def _pixels(path: Path, stored: tuple[int, int], mode: str, must_have_alpha: bool) -> NDArray[np.uint8]:
    with _opened(path) as image:
        check_size(path, image.size, stored)
        if must_have_alpha and "A" not in image.getbands() and "transparency" not in image.info:
            raise BadCapture(
                f"image {path.parent.name}/{path.name} has no mask",
                found=f"a {image.mode} picture",
                expected="an alpha channel (RGBA) that is 0 outside the person",
                do="Mask the pictures first; without, the room would become part of the head",
            )
        return np.asarray(image.convert(mode))


def premultiply(straight: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Straight-alpha RGBA [H, W, 4] uint8 with the colours times alpha, rounded to nearest."""
    alpha = straight[..., 3:].astype(np.uint16)
    colours = (straight[..., :3] * alpha + 127) // 255
    return np.concatenate((colours.astype(np.uint8), straight[..., 3:]), -1)


def area_resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Each output pixel of `size` (width, height) is the mean of the input area it covers; [H, W, C] uint8."""
    height, width, channels = image.shape
    factor = width // size[0]
    if (size[0] * factor, size[1] * factor) == (width, height) and factor in (1, 2, 4, 8):
        # Whole blocks of pixels: the same numbers (sums of so few bytes are exact in both), ten times as fast.
        half = image.reshape(size[1], factor, width * channels).sum(1, dtype=np.uint16)
        total = half.reshape(size[1], size[0], factor, channels).sum(2, dtype=np.uint16)
        return ((total + factor * factor // 2) // (factor * factor)).astype(np.uint8)
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
