"""Sidebar panel: Animate. Its inner parts are in `panels_face`, `panels_rig` and `panels_motion`."""

from __future__ import annotations

from typing import Any

import bpy

from ..services import rig_override
from ..services.connection import CONNECTION
from ..services.rig_info import avatar_of
from .drawing import wrapped
from .parts import sidebar_part


class EFFIGY_PT_animate(sidebar_part("animate"), bpy.types.Panel):
    """Pose and key the selected avatar"""

    def draw_part(self, context: Any) -> None:
        """Draw what every avatar has."""
        layout = self.layout
        avatar = avatar_of(context.object)
        if avatar is None:
            layout.label(text="Select an avatar")
            return
        layout.label(text=avatar.data.effigy.avatar_name or avatar.name, icon="OUTLINER_OB_ARMATURE")
        known = CONNECTION.state.avatars if CONNECTION.state is not None else ()
        if any(a.avatar_id == avatar.data.effigy.avatar_id and a.digest != avatar.data.effigy.digest for a in known):
            wrapped(layout, context, "The backend has another version of this avatar", icon="ERROR")
            layout.operator("effigy.relink", icon="FILE_REFRESH")
        if rig_override.expressions_are_locked(avatar):
            wrapped(layout, context, "Its expressions still belong to the linked file", icon="LOCKED")
            layout.operator("effigy.unlock_expressions", icon="UNLOCKED")
        row = layout.row(align=True)
        row.operator("effigy.captured_pose")
        row.operator("effigy.rest_pose")
        row = layout.row(align=True)
        for what, text in (("ALL", "Key All"), ("POSE", "Key Pose"), ("FACE", "Key Face")):
            row.operator("effigy.key", text=text, icon="KEY_HLT" if what == "ALL" else "NONE").what = what


CLASSES = (EFFIGY_PT_animate,)
