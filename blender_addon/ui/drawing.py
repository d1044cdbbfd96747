"""Small pieces all panels draw with."""

from __future__ import annotations

import textwrap
from typing import Any

import bpy
import bpy.utils.previews
import numpy as np

from .._shared import messages

PIXELS_PER_LETTER = 7.0


class Thumbnails:
    """Pictures of running jobs as icons. Blender's preview collection is made when the first is shown."""

    def __init__(self) -> None:
        self._collection: Any = None

    def icon(self, preview: messages.JobPreview) -> int:
        """Icon of a job's newest preview picture."""
        if self._collection is None:
            self._collection = bpy.utils.previews.new()
        name = f"{preview.job_id}/{preview.step}"
        if name not in self._collection:
            for old in [key for key in self._collection if key.startswith(f"{preview.job_id}/")]:
                del self._collection[old]
            height, width = preview.image.shape[:2]
            rgba = np.ones((height, width, 4), np.float32)
            rgba[..., :3] = preview.image[::-1].astype(np.float32) / 255
            entry = self._collection.new(name)
            entry.image_size = (width, height)
            entry.image_pixels_float.foreach_set(rgba.reshape(-1))
        return int(self._collection[name].icon_id)

    def clear(self) -> None:
        """Give the pictures back."""
        if self._collection is not None:
            bpy.utils.previews.remove(self._collection)
            self._collection = None


THUMBNAILS = Thumbnails()


def wrapped(layout: Any, context: Any, text: str, icon: str = "NONE") -> None:
    """A sentence over as many lines as the sidebar's width needs."""
    scale = context.preferences.system.ui_scale or 1.0  # 0 where there is no window
    width = context.region.width if context.region is not None else 300
    letters = max(18, int((width - 50 * scale) / (PIXELS_PER_LETTER * scale)))
    column = layout.column(align=True)
    column.scale_y = 0.8
    for index, line in enumerate(textwrap.wrap(text, letters)):
        column.label(text=line, icon=icon if index == 0 else ("BLANK1" if icon != "NONE" else "NONE"))


def duration(seconds: float) -> str:
    """`2 min 05 s` for a number of seconds."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def numbers(values: dict[str, float]) -> str:
    """`psnr 31.2, ssim 0.957` for a few named numbers."""
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def held_out(metrics: dict[str, float]) -> str:
    """How well an avatar shows frames it was not trained on: `PSNR 31.2 dB, SSIM 0.957`, with what is known of it."""
    forms = {"psnr_db": "PSNR {:.1f} dB", "ssim": "SSIM {:.3f}", "flip": "FLIP {:.3f}"}
    return ", ".join(form.format(metrics[name]) for name, form in forms.items() if name in metrics) or "not measured"


def register() -> None:
    """Nothing to set up: pictures are made when they are first shown."""


def unregister() -> None:
    """Give the pictures back."""
    THUMBNAILS.clear()
