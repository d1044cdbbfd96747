"""Inside Animate: motions from files and samples, from other armatures, and other people's performances."""

from __future__ import annotations

from typing import Any

import bpy

from .._shared import errors
from ..services import retarget, retarget_live
from ..services.connection import CONNECTION
from ..services.rig_info import avatar_of
from .drawing import wrapped
from .panels_face import OfAvatar
from .parts import sidebar_child


class EFFIGY_PT_motion(OfAvatar, sidebar_child("EFFIGY_PT_animate", "Motion", order=0, opened=True), bpy.types.Panel):
    """Bring a recorded motion onto the selected avatar"""

    def draw_part(self, context: Any) -> None:
        """Draw file import and samples."""
        layout = self.layout
        layout.operator("effigy.import_motion", text="Import Motion…", icon="IMPORT")
        layout.operator_menu_enum("effigy.sample_motion", "motion", text="Sample Motions", icon="PLAY")


class EFFIGY_PT_retarget(OfAvatar, sidebar_child("EFFIGY_PT_animate", "Retarget", order=1), bpy.types.Panel):
    """Bring another armature's motion onto the selected avatar"""

    def draw_part(self, context: Any) -> None:
        """Draw the source, what it was recognised as, and the ways to take its motion."""
        layout, avatar = self.layout, avatar_of(context.object)
        layout.prop(context.scene.effigy, "retarget_source")
        source = context.scene.effigy.retarget_source
        if source is not None:
            try:
                found = retarget.recognised(source)
            except errors.EffigyError as error:
                wrapped(layout, context, str(error), icon="ERROR")
                return
            wrapped(layout, context, f"{found.style}, {len(found.bones)} bones known", icon="CHECKMARK")
            row = layout.row(align=True)
            row.operator("effigy.retarget", text="Key Motion", icon="KEY_HLT").mode = "BAKE"
            row.operator("effigy.retarget", text="Follow Live", icon="CONSTRAINT_BONE").mode = "LIVE"
        if retarget_live.follows(avatar) is not None:
            wrapped(layout, context, f"Follows {retarget_live.follows(avatar).name}")
            layout.operator("effigy.retarget", text="Stop Following", icon="X").mode = "UNLINK"


class EFFIGY_PT_reenact(OfAvatar, sidebar_child("EFFIGY_PT_animate", "Reenact", order=2), bpy.types.Panel):
    """Another person's performance on the selected avatar"""

    def draw_part(self, context: Any) -> None:
        """Draw the capture and how much of it arrives."""
        layout, wanted = self.layout, context.scene.effigy.reenactment
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False  # they are read once, when the button is pressed
        for name in ("source", "strength", "clip", "neutral_frame", "smooth_hz", "move"):
            column.prop(wanted, name)
        if not bpy.app.background and (CONNECTION.state is None or CONNECTION.state.status != "connected"):
            wrapped(layout, context, "Connect to a backend first: it reads the capture", icon="INFO")
        elif not wanted.source:
            wrapped(layout, context, "Choose above what drives it: a capture, a FLAME track or a motion", icon="INFO")
        row = layout.row()
        row.enabled = bool(wanted.source)
        row.operator("effigy.reenact", icon="ARMATURE_DATA")


CLASSES = (EFFIGY_PT_motion, EFFIGY_PT_retarget, EFFIGY_PT_reenact)
