"""Sidebar panel: Edit."""

from __future__ import annotations

from typing import Any

import bpy

from .drawing import wrapped
from .parts import sidebar_part


class EFFIGY_PT_edit(sidebar_part("edit"), bpy.types.Panel):
    """Editing avatars by text"""

    def draw_part(self, context: Any) -> None:
        """Say what is coming."""
        wrapped(self.layout, context, "Coming: change an avatar by describing the change in words")


CLASSES = (EFFIGY_PT_edit,)
