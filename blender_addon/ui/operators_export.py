"""Operators: export. (No `from __future__ import annotations`: Blender reads the properties.)"""

import uuid
from pathlib import Path
from typing import Any

import bpy
from bpy.props import StringProperty

from .._shared import desk_messages, errors
from ..services import exporting
from ..services.rig_info import avatar_of
from .asking import AskingOperator
from .on_avatar import OnAvatar


class EFFIGY_OT_export(OnAvatar, AskingOperator, bpy.types.Operator):
    """Write the selected avatar as the panel says; the backend does it as a job, meshes are written by Blender"""

    bl_idname = "effigy.export"
    bl_label = "Export"
    bl_options = {"REGISTER"}

    filepath: StringProperty(name="To", subtype="FILE_PATH", options={"SKIP_SAVE", "HIDDEN"})

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Ask for the place where the panel names none."""
        if not context.scene.effigy_export.path.strip():
            context.window_manager.fileselect_add(self)
            return {"RUNNING_MODAL"}
        return self.execute(context)

    def execute(self, context: Any) -> set[str]:
        """Have it written."""
        form, avatar = context.scene.effigy_export.form, avatar_of(context.object)
        if form not in exporting.MESH_ENDINGS:
            return super().execute(context)
        path = exporting.export_mesh(context, avatar, form, self._place(context))
        self.report({"INFO"}, f"Written to {path}")
        return {"FINISHED"}

    def message(self, context: Any) -> Any:
        """The errand, with the poses of the frames."""
        asked, avatar, scene = context.scene.effigy_export, avatar_of(context.object), context.scene
        poses, sequence = exporting.no_poses(), False
        if asked.form in {"ply", "spz", "gaussian-avatars"} and asked.frames != "REST":
            sequence = asked.frames == "SCENE"
            frames = [scene.frame_current]
            if sequence:
                frames = list(range(scene.frame_start, scene.frame_end + 1, max(1, scene.frame_step)))
            manager = context.window_manager
            manager.progress_begin(0, len(frames))
            try:
                poses = exporting.read_poses(context, avatar, frames, manager.progress_update)
            finally:
                manager.progress_end()
        return desk_messages.StartExport(
            uuid.uuid4().hex,
            avatar.data.effigy.avatar_id,
            avatar.data.effigy.digest,
            asked.form,
            str(self._place(context)),
            *poses,
            fps=scene.render.fps / scene.render.fps_base,
            sequence=sequence and asked.form in {"ply", "spz"},
            axes=asked.axes if asked.form == "ply" else "z-up",
        )

    def answered(self, context: Any, reply: Any) -> None:
        """Tell where to look."""
        self.report({"INFO"}, f"{reply.name}: see the jobs in Capture & Train")

    def _place(self, context: Any) -> Path:
        text = self.filepath.strip() or context.scene.effigy_export.path.strip()
        if not text:
            raise errors.BadConfig("No place to export to was chosen", do="Fill in To")
        return Path(bpy.path.abspath(text))


CLASSES = (EFFIGY_OT_export,)
