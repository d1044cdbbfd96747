"""Pictures in panels: previews of avatars and jobs, curves and sheets as icons.

Blender shows a picture of one's own in a panel only as an icon of a preview collection. One collection holds them all;
it is made when the first is shown, and a name keeps its newest version only.
"""

from __future__ import annotations

from typing import Any

import bpy.utils.previews
import numpy as np
from numpy.typing import NDArray

MAX_KEPT = 300


class Pictures:
    """Icons by name and version; one instance per registered add-on."""

    def __init__(self) -> None:
        self._collection: Any = None
        self._versions: dict[str, str] = {}

    def icon(self, name: str, version: Any, image: NDArray[np.uint8] | None) -> int:
        """Icon of `image` [H, W, 3 or 4] uint8 sRGB, row 0 at the top, straight alpha; 0 where there is none.

        The same version of a name is the same picture and is not looked at again.
        """
        if image is None or not image.size:
            return 0
        if self._collection is None:
            self._collection = bpy.utils.previews.new()
        key = f"{name}/{version}"
        if self._versions.get(name) != key:
            self._drop(name)
            entry = self._collection.new(key)
            entry.image_size = (image.shape[1], image.shape[0])
            rgba = np.ones((*image.shape[:2], 4), np.float32)
            rgba[..., : image.shape[2]] = upright(image)
            entry.image_pixels_float.foreach_set(rgba.reshape(-1))
            entry.icon_size = (32, 32)
            entry.icon_pixels_float.foreach_set(small(rgba, 32).reshape(-1))
            self._versions[name] = key
            while len(self._versions) > MAX_KEPT:
                self._drop(next(iter(self._versions)))
        return int(self._collection[key].icon_id)

    def clear(self) -> None:
        """Give the pictures back."""
        self._versions.clear()
        if self._collection is not None:
            bpy.utils.previews.remove(self._collection)
            self._collection = None

    def _drop(self, name: str) -> None:
        old = self._versions.pop(name, None)
        if old is not None and old in self._collection:
            del self._collection[old]


def folded(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A row of pictures, such as a check's sheet, cut in two or three and stacked: panels show icons as squares."""
    height, width = image.shape[:2]
    parts = 1 if width < 3 * height else 2 if width < 8 * height else 3
    share = width // parts
    return np.concatenate([image[:, part * share : (part + 1) * share] for part in range(parts)])


def upright(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The image as Blender wants it: floats from 0 to 1, bottom row first."""
    return image[::-1].astype(np.float32) / 255


def small(rgba: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
    """[size, size, 4] of a picture [H, W, 4], by taking pixels; outside a picture that is not square it is clear."""
    height, width = rgba.shape[:2]
    longest = max(height, width)
    at = ((np.arange(size_px) + 0.5) * longest / size_px).astype(int)
    rows, columns = at - (longest - height) // 2, at - (longest - width) // 2
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None]
    picked = rgba[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)]
    return np.where(inside[..., None], picked, 0).astype(np.float32)


PICTURES = Pictures()


def register() -> None:
    """Nothing to set up: pictures are made when they are first shown."""


def unregister() -> None:
    """Give the pictures back."""
    PICTURES.clear()
