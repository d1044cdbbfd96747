"""Sidebar panel: Library."""

from __future__ import annotations

from typing import Any

import bpy

from ..services.connection import CONNECTION
from .drawing import held_out, wrapped
from .parts import sidebar_part


class EFFIGY_PT_library(sidebar_part("library"), bpy.types.Panel):
    """Avatars the backend has"""

    def draw_part(self, context: Any) -> None:
        """Draw one box per avatar."""
        layout, state = self.layout, CONNECTION.state
        layout.operator("effigy.refresh", icon="FILE_REFRESH")
        if state is None or state.status != "connected":
            layout.label(text="Connect to see avatars")
            return
        if not state.avatars:
            layout.label(text="No avatars yet: train one below")
        for avatar in state.avatars:
            box = layout.box()
            row = box.row()
            row.label(text=avatar.name or avatar.avatar_id, icon="ERROR" if avatar.problem else "OUTLINER_OB_ARMATURE")
            button = row.row()
            button.enabled = not avatar.problem
            button.operator("effigy.add_avatar", icon="ADD").avatar_id = avatar.avatar_id
            if avatar.problem:
                wrapped(box, context, avatar.problem)
            elif avatar.metrics:
                wrapped(box, context, held_out(avatar.metrics))


CLASSES = (EFFIGY_PT_library,)
