"""Operators: posing, keying and rendering. (No `from __future__ import annotations`: Blender reads these.)"""

from typing import Any

import bpy
from bpy.props import EnumProperty, IntProperty

from ..services import animation, pose_write
from ..services.rig_info import avatar_of
from .on_avatar import OnAvatar


class EFFIGY_OT_rest_pose(OnAvatar, bpy.types.Operator):
    """Set all joints to the template's rest pose"""

    bl_idname = "effigy.rest_pose"
    bl_label = "Rest Pose"

    def execute(self, context: Any) -> set[str]:
        """Set it."""
        pose_write.reset_pose(avatar_of(context.object))
        return {"FINISHED"}


class EFFIGY_OT_captured_pose(OnAvatar, bpy.types.Operator):
    """Set all joints to the pose the avatar was captured in, and its face to neutral"""

    bl_idname = "effigy.captured_pose"
    bl_label = "Captured Pose"

    def execute(self, context: Any) -> set[str]:
        """Set it."""
        avatar = avatar_of(context.object)
        pose_write.set_captured_pose(avatar)
        pose_write.set_expressions(avatar, {})
        return {"FINISHED"}


class EFFIGY_OT_key(OnAvatar, bpy.types.Operator):
    """Key the avatar at the current frame"""

    bl_idname = "effigy.key"
    bl_label = "Key"

    what: EnumProperty(
        items=[
            ("ALL", "All", "Bones and expressions"),
            ("FACE", "Expressions", "Expressions"),
            ("POSE", "Pose", "Bones"),
        ]
    )

    def execute(self, context: Any) -> set[str]:
        """Insert the keys."""
        avatar, frame = avatar_of(context.object), context.scene.frame_current
        if self.what in {"ALL", "POSE"}:
            pose_write.key_pose(avatar, frame)
        if self.what in {"ALL", "FACE"}:
            pose_write.key_expressions(avatar, frame)
        return {"FINISHED"}


class EFFIGY_OT_demo_animation(OnAvatar, bpy.types.Operator):
    """Key an example performance from the current frame on: speech, blinks, a smile, turns of the head"""

    bl_idname = "effigy.demo_animation"
    bl_label = "Demo Talking Animation"

    frames: IntProperty(name="Frames", default=96, min=2, max=10000)

    def execute(self, context: Any) -> set[str]:
        """Key it, with a progress cursor."""
        manager, scene = context.window_manager, context.scene
        manager.progress_begin(0, self.frames)
        try:
            start = scene.frame_current
            animation.key_performance(avatar_of(context.object), scene, start, self.frames, manager.progress_update)
        finally:
            manager.progress_end()
        scene.frame_end = max(scene.frame_end, start + self.frames - 1)
        scene.frame_set(start)
        return {"FINISHED"}


class EFFIGY_OT_use_engine(bpy.types.Operator):
    """Render this scene with Effigy"""

    bl_idname = "effigy.use_engine"
    bl_label = "Use the Effigy Engine"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: Any) -> set[str]:
        """Switch the engine and show trained colours as they were photographed."""
        context.scene.render.engine = "EFFIGY"
        # AgX and Filmic would grade colours that were learnt from finished pictures a second time.
        context.scene.view_settings.view_transform = "Standard"
        return {"FINISHED"}


CLASSES = (
    EFFIGY_OT_rest_pose,
    EFFIGY_OT_captured_pose,
    EFFIGY_OT_key,
    EFFIGY_OT_demo_animation,
    EFFIGY_OT_use_engine,
)
