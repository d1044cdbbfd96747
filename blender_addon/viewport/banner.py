"""A line at the bottom of a 3D view that says what is wrong with the avatars in it."""

from __future__ import annotations

from typing import Any

import blf
import gpu
from gpu_extras.batch import batch_for_shader

FONT = 0
SIZE_PX = 12
PADDING_PX = 8
LINES = 3
BACK = (0.13, 0.09, 0.02, 0.85)
FRONT = (1.0, 0.78, 0.35, 1.0)


def draw(context: Any, text: str) -> None:
    """Draw the text over the region, wrapped to its free width, at most LINES lines."""
    unit = context.preferences.system.ui_scale
    blf.size(FONT, SIZE_PX * unit)
    padding = PADDING_PX * unit
    left, right = free_width(context)
    lines = wrap(text, right - left - 4 * padding, lambda part: blf.dimensions(FONT, part)[0])[:LINES]
    height = SIZE_PX * unit * 1.5
    width = max(blf.dimensions(FONT, line)[0] for line in lines) + 2 * padding
    x, y = left + padding, 3 * padding
    _box(x, y, width, len(lines) * height + padding)
    blf.color(FONT, *FRONT)
    for row, line in enumerate(reversed(lines)):
        blf.position(FONT, x + padding, y + padding + row * height, 0)
        blf.draw(FONT, line)


def free_width(context: Any) -> tuple[float, float]:
    """Left and right edge, in px, of what toolbar and sidebar leave free."""
    left, right = 0.0, float(context.region.width)
    for region in context.area.regions:
        if region.width > 1 and context.preferences.system.use_region_overlap:
            if region.type == "TOOLS":
                left = float(region.width)
            elif region.type == "UI":
                right = context.region.width - float(region.width)
    return left, right


def wrap(text: str, width: float, measure: Any) -> list[str]:
    """Lines of whole words no wider than `width` where that can be. measure(text) -> its width."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and measure(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines or [""]


def _box(x: float, y: float, width: float, height: float) -> None:
    shader = gpu.shader.from_builtin("UNIFORM_COLOR")
    corners = ((x, y), (x + width, y), (x, y + height), (x + width, y + height))
    batch = batch_for_shader(shader, "TRIS", {"pos": corners}, indices=((0, 1, 2), (1, 3, 2)))
    gpu.state.blend_set("ALPHA")
    shader.bind()
    shader.uniform_float("color", BACK)
    batch.draw(shader)
    gpu.state.blend_set("NONE")
