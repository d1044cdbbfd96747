"""Sidebar panel: Edit."""

from __future__ import annotations

from typing import Any

import bpy

from ..services.connection import CONNECTION
from .drawing import no_backend
from .parts import sidebar_part

CAPABILITY = "edit"
"""What a backend says that can edit by text."""


class EFFIGY_PT_edit(sidebar_part("edit"), bpy.types.Panel):
    """Editing avatars by text"""

    def draw_part(self, context: Any) -> None:
        """Draw what an edit will be described by, greyed, and why it cannot be asked for yet."""
        edit = context.scene.effigy_edit
        no_backend(self.layout, context, CONNECTION.state, CAPABILITY, "Editing by text")
        column = self.layout.column()
        column.enabled = False  # this version of the add-on has nothing to ask for, whatever the backend can
        column.use_property_split = True
        for name in ("prompt", "strength", "guidance", "region", "seed"):
            column.prop(edit, name)


CLASSES = (EFFIGY_PT_edit,)
