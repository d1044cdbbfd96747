"""The sidebar's frame: which parts there are, in which order, and which are open at first (the N panel, tab Effigy).

A part is `class EFFIGY_PT_library(sidebar_part("library"), bpy.types.Panel)` with a method `draw_part(context)`.
A fault in it is written to the log and told in one line; after some in a row the part stops until the user retries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..logic.faults import GUARDS
from .drawing import wrapped


@dataclass(frozen=True)
class Part:
    """A collapsible part of the sidebar. opened: whether it is open in a new file."""

    label: str
    opened: bool


PARTS = {
    "backend": Part("Backend", True),
    "library": Part("Library", True),
    "train": Part("Capture & Train", False),
    "animate": Part("Animate", True),
    "edit": Part("Edit", False),
    "relight": Part("Relight", False),
    "camera": Part("Camera", False),
    "render": Part("Render", False),
    "export": Part("Export", False),
}
"""In the order they are shown in."""


class Guarded:
    """A panel whose `draw_part` may fail without Blender noticing."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Effigy"

    def draw(self, context: Any) -> None:
        """Draw the part, or say in one line why not."""
        guard = GUARDS[type(self).__name__]
        guard.run(self.draw_part, context)
        if guard.problem:
            column = self.layout.column()
            wrapped(column, context, f"This part failed: {guard.problem}", icon="ERROR")
            row = column.row(align=True)
            if guard.stopped:
                row.operator("effigy.retry", icon="FILE_REFRESH").name = guard.name
            row.operator("effigy.show_log", icon="TEXT")

    def draw_part(self, context: Any) -> None:
        """Draw what the part is for."""
        raise NotImplementedError


def sidebar_part(name: str) -> type[Guarded]:
    """Base class of the panel of one of the PARTS."""
    part = PARTS[name]
    options = set() if part.opened else {"DEFAULT_CLOSED"}
    order = list(PARTS).index(name)
    return type(f"Part_{name}", (Guarded,), {"bl_label": part.label, "bl_order": order, "bl_options": options})


def sidebar_child(parent_id: str, label: str, *, order: int = 0, opened: bool = False) -> type[Guarded]:
    """Base class of a panel inside another. parent_id: bl_idname of that, which is registered before it."""
    values = {"bl_parent_id": parent_id, "bl_label": label, "bl_order": order}
    values["bl_options"] = set() if opened else {"DEFAULT_CLOSED"}
    return type(f"Part_in_{parent_id}", (Guarded,), values)
