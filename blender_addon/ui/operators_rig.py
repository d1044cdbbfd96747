"""Operators: the rig's controls and the face. (No `from __future__ import annotations`: Blender reads these.)"""

from typing import Any

import bpy
from bpy.props import EnumProperty, StringProperty

from .._shared import errors
from ..logic import visemes
from ..logic.expression_groups import group_of
from ..services import pose_write, rig_ik, rig_override
from ..services.rig_info import avatar_of, rig_of
from .on_avatar import OnAvatar

VISEME_GROUP = "Visemes"


class EFFIGY_OT_add_ik(OnAvatar, bpy.types.Operator):
    """Add controls that pull hands and feet by inverse kinematics; bones stay keyable with their influence at 0"""

    bl_idname = "effigy.add_ik"
    bl_label = "Add IK Controls"

    def execute(self, context: Any) -> set[str]:
        """Add them where the limbs are now."""
        try:
            count = rig_ik.add_controls(context, avatar_of(context.object))
        except errors.EffigyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"Controls for {count} limbs" if count else "All limbs have controls already")
        return {"FINISHED"}


class EFFIGY_OT_remove_ik(OnAvatar, bpy.types.Operator):
    """Remove the controls; the limbs keep the pose of this frame (bake the action first to keep all frames)"""

    bl_idname = "effigy.remove_ik"
    bl_label = "Remove IK Controls"

    def execute(self, context: Any) -> set[str]:
        """Remove them."""
        rig_ik.remove_controls(context, avatar_of(context.object))
        return {"FINISHED"}


class EFFIGY_OT_unlock_expressions(OnAvatar, bpy.types.Operator):
    """Override the linked proxy's mesh as well, so that this file can set and key the expressions"""

    bl_idname = "effigy.unlock_expressions"
    bl_label = "Make Expressions Editable"

    def execute(self, context: Any) -> set[str]:
        """Override it."""
        rig_override.unlock_expressions(avatar_of(context.object))
        return {"FINISHED"}


class EFFIGY_OT_face(OnAvatar, bpy.types.Operator):
    """Reset or key expressions of the selected avatar"""

    bl_idname = "effigy.face"
    bl_label = "Face"

    action: EnumProperty(
        items=[
            ("RESET", "Reset", "Set the expressions to neutral"),
            ("KEY", "Key", "Key the expressions at this frame"),
        ]
    )
    group: StringProperty(name="Group", description="One region of the face, 'Visemes', or empty for everything")

    @classmethod
    def description(cls, context: Any, properties: Any) -> str:
        """The tooltip."""
        what = properties.group or "all expressions and visemes"
        return f"Set {what} to neutral" if properties.action == "RESET" else f"Key {what} at the current frame"

    def execute(self, context: Any) -> set[str]:
        """Reset or key them."""
        avatar = avatar_of(context.object)
        names = self._names(rig_of(avatar).expression_names)
        if self.action == "RESET":
            pose_write.set_expressions(avatar, dict.fromkeys(names, 0.0), others=None)
        else:
            pose_write.key_expressions(avatar, context.scene.frame_current, names)
        return {"FINISHED"}

    def _names(self, expression_names: tuple[str, ...]) -> tuple[str, ...]:
        spoken = tuple(visemes.VISEMES) if visemes.speaks(expression_names) else ()
        if self.group == VISEME_GROUP:
            return spoken
        if self.group:
            return tuple(name for name in expression_names if group_of(name) == self.group)
        return expression_names + spoken


CLASSES = (EFFIGY_OT_add_ik, EFFIGY_OT_remove_ik, EFFIGY_OT_unlock_expressions, EFFIGY_OT_face)
