"""Operators of the Render part. (No `from __future__ import annotations`: Blender reads these.)"""

import os
from typing import Any

import bpy

from .. import batch
from .._shared import errors
from ..logic import shot_text
from ..services import composite, frame_files, native_splats
from ..services.rig_info import avatar_of


class EFFIGY_OT_composite(bpy.types.Operator):
    """Join the avatars with this scene's Cycles or EEVEE picture by depth: one group node that can be removed"""

    bl_idname = "effigy.composite"
    bl_label = "Composite Avatars"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: Any) -> set[str]:
        """Insert it."""
        try:
            composite.add(context.scene, context.view_layer)
        except errors.EffigyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, "The compositor now adds the avatars to this scene's picture")
        return {"FINISHED"}


class EFFIGY_OT_composite_remove(bpy.types.Operator):
    """Take the avatars out of this scene's picture and lead its nodes as they were"""

    bl_idname = "effigy.composite_remove"
    bl_label = "Remove Avatars from the Composite"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: Any) -> set[str]:
        """Remove it."""
        try:
            composite.remove(context.scene)
        except errors.EffigyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class EFFIGY_OT_render_missing(bpy.types.Operator):
    """Render the frames that are not on disk, or not whole; frames that are there stay as they are"""

    bl_idname = "effigy.render_missing"
    bl_label = "Render Missing Frames"

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Pictures only."""
        if context.scene.render.is_movie_format:
            cls.poll_message_set("The output is a video; choose an image format in Output Properties")
            return False
        return True

    def execute(self, context: Any) -> set[str]:
        """Remove what is broken and have Blender render what is not there."""
        scene = context.scene
        missing = [frame for frame in batch.wanted_frames(scene) if not frame_files.is_done(scene, frame)]
        if not missing:
            self.report({"INFO"}, "No frame is missing")
            return {"FINISHED"}
        if bpy.app.background:
            problems = batch.render_frames(scene, missing)
            if problems:
                self.report({"ERROR"}, next(filter(None, problems.values())))
                return {"CANCELLED"}
            return {"FINISHED"}
        for frame in missing:
            for path in frame_files.frame_paths(scene, frame):
                path.unlink(missing_ok=True)
        scene.render.use_overwrite = False
        bpy.ops.render.render("INVOKE_DEFAULT", animation=True)
        self.report({"INFO"}, f"Rendering {len(missing)} frames; Overwrite is off in Output Properties")
        return {"FINISHED"}


class EFFIGY_OT_copy_batch_command(bpy.types.Operator):
    """Copy the command that renders this shot without a window, for a terminal or a farm"""

    bl_idname = "effigy.copy_batch_command"
    bl_label = "Copy Batch Command"

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs a file."""
        if not bpy.data.filepath:
            cls.poll_message_set("Save the file first: a farm opens it from disk")
            return False
        return True

    def execute(self, context: Any) -> set[str]:
        """Put it on the clipboard."""
        context.window_manager.clipboard = batch_command(context.scene)
        dirty = " The file has unsaved changes." if bpy.data.is_dirty else ""
        self.report({"INFO"}, f"Copied.{dirty}")
        return {"FINISHED"}


class EFFIGY_OT_native_splats(bpy.types.Operator):
    """Show the selected avatar as Blender's own Gaussian splats, which follow the armature (Blender 5.3 and newer)"""

    bl_idname = "effigy.native_splats"
    bl_label = "Add Native Splats"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs an avatar."""
        return avatar_of(context.object) is not None

    def execute(self, context: Any) -> set[str]:
        """Add the point cloud."""
        try:
            native_splats.add(context, avatar_of(context.object))
        except errors.EffigyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


def batch_command(scene: Any) -> str:
    """The command for this file and scene."""
    return shot_text.command(bpy.data.filepath, batch.wanted_frames(scene), windows=os.name == "nt")


CLASSES = (
    EFFIGY_OT_composite,
    EFFIGY_OT_composite_remove,
    EFFIGY_OT_render_missing,
    EFFIGY_OT_copy_batch_command,
    EFFIGY_OT_native_splats,
)
