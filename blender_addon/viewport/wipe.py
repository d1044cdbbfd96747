"""Before and after in one 3D view: the left part shows an avatar as one version, the right part as another.

Two pictures of the same moment, drawn by the same handler, each cut to its side. Moving the line asks for nothing new.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import blf
import gpu
from gpu_extras.batch import batch_for_shader

from .contents import Actor, Content

LINE_PX, TEXT_PX, MARGIN_PX = 2.0, 13.0, 10
WORDS = ("Before", "After")
Columns = tuple[int, int]


@dataclass(frozen=True)
class Wipe:
    """What is compared. armature: name of the avatar's object; before, after: ids of versions; at: the line, 0 to 1."""

    armature: str
    before: str
    after: str
    at: float

    def column(self, width_px: int) -> int:
        """Where the line is in a view of that width."""
        return round(min(max(self.at, 0.0), 1.0) * width_px)


def wanted(context: Any) -> Wipe | None:
    """The comparison the Edit part asks for, None where there is none."""
    window = context.window_manager.effigy_panels
    if not window.wipe:
        return None
    return Wipe(window.wipe_armature, window.wipe_before, window.wipe_after, window.wipe_at)


def concerns(wipe: Wipe | None, seen: list[Actor]) -> bool:
    """Whether the avatar that is compared is among those of a view."""
    return wipe is not None and any(actor.state.key[0] == wipe.armature for actor in seen)


def as_version(seen: list[Actor], armature: str, avatar_id: str) -> list[Actor]:
    """The same actors, the compared one as another version of itself."""
    return [
        replace(
            actor,
            state=replace(actor.state, avatar_id=avatar_id, digest=""),
            stamp=hash((actor.stamp, avatar_id)),
        )
        if actor.state.key[0] == armature and actor.state.avatar_id != avatar_id
        else actor
        for actor in seen
    ]


def side(content: Content, seen: list[Actor], armature: str, avatar_id: str) -> tuple[Content, list[Actor]]:
    """The content of a view, and what is seen of it, with the compared avatar as one version."""
    actors = as_version(list(content.actors), armature, avatar_id)
    return replace(content, actors=tuple(actors)), [actors[content.actors.index(actor)] for actor in seen]


@contextmanager
def only(columns: Columns | None, height_px: int) -> Iterator[None]:
    """Draw into these columns of the region alone; everywhere for None."""
    if columns is None:
        yield
        return
    x, y, _, _ = gpu.state.viewport_get()
    gpu.state.scissor_test_set(True)
    gpu.state.scissor_set(x + columns[0], y, max(0, columns[1] - columns[0]), height_px)
    try:
        yield
    finally:
        gpu.state.scissor_test_set(False)


def draw_line(context: Any, wipe: Wipe) -> None:
    """The line between the two, and a word on each side (POST_PIXEL)."""
    width, height = context.region.width, context.region.height
    x = wipe.column(width)
    scale = context.preferences.system.ui_scale or 1.0
    shader = gpu.shader.from_builtin("UNIFORM_COLOR")
    half = max(1.0, LINE_PX * scale / 2)
    corners = ((x - half, 0), (x + half, 0), (x + half, height), (x - half, height))
    gpu.state.blend_set("ALPHA")
    shader.uniform_float("color", (1.0, 1.0, 1.0, 0.85))
    batch_for_shader(shader, "TRIS", {"pos": corners}, indices=((0, 1, 2), (0, 2, 3))).draw(shader)
    blf.size(0, TEXT_PX * scale)
    blf.color(0, 1.0, 1.0, 1.0, 1.0)
    blf.enable(0, blf.SHADOW)
    blf.shadow(0, 3, 0.0, 0.0, 0.0, 1.0)
    for word, left in zip(WORDS, (True, False), strict=True):
        long = blf.dimensions(0, word)[0]
        blf.position(0, x - long - MARGIN_PX * scale if left else x + MARGIN_PX * scale, MARGIN_PX * scale, 0)
        blf.draw(0, word)
    blf.disable(0, blf.SHADOW)
    gpu.state.blend_set("NONE")
