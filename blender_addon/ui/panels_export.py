"""Sidebar panel: Export."""

from __future__ import annotations

from typing import Any

import bpy

from ..logic.link import UNFINISHED
from ..services.connection import CONNECTION
from ..services.exporting import MESH_ENDINGS
from ..services.rig_info import avatar_of
from .drawing import no_backend, wrapped
from .parts import sidebar_part

POSED = ("ply", "spz", "gaussian-avatars")
SHOWN_JOBS = 3


class EFFIGY_PT_export(sidebar_part("export"), bpy.types.Panel):
    """Files of the selected avatar for other programs"""

    def draw_part(self, context: Any) -> None:
        """Draw format, frames, place, and the newest exports."""
        layout, state, asked = self.layout, CONNECTION.state, context.scene.effigy_export
        avatar = avatar_of(context.object)
        if avatar is None:
            layout.label(text="Select an avatar")
            layout.operator("effigy.import_mesh", icon="IMPORT")
            return
        layout.label(text=avatar.data.effigy.avatar_name or avatar.name, icon="OUTLINER_OB_ARMATURE")
        self._draw_mesh(layout, context, state, avatar)
        by_blender = asked.form in MESH_ENDINGS
        column = layout.column()
        column.use_property_split = True
        column.prop(asked, "form")
        if asked.form in POSED:
            column.prop(asked, "frames")
        if asked.form == "ply":
            column.prop(asked, "axes")
        column.prop(asked, "path")
        reason = not by_blender and no_backend(layout, context, state, "export", "Exporting")
        row = layout.row()
        row.enabled = not reason and (by_blender or not avatar.data.effigy.mesh_only)
        row.operator("effigy.export", icon="EXPORT")
        if asked.form in POSED:
            wrapped(layout, context, "In the avatar's own space, in metres; the path is on the backend's machine")
        if avatar.data.effigy.mesh_only and not by_blender:
            wrapped(layout, context, "Select the avatar itself for this format: a mesh has no Gaussians")
        exports = [job for job in state.jobs if job.kind == "export"] if state is not None else []
        for job in exports[:SHOWN_JOBS]:
            box = layout.box()
            row = box.row(align=True)
            row.label(text=f"{job.name}: {job.state}")
            if job.state in UNFINISHED:
                button = row.operator("effigy.change_job", text="", icon="X")
                button.job_id, button.action = job.job_id, "cancel"
            elif job.report_folder:
                row.operator("effigy.open_folder", text="", icon="FILE_FOLDER").folder = job.report_folder
            if job.state in UNFINISHED and job.steps:
                box.progress(factor=min(1.0, job.step / job.steps), text=f"{job.step} / {job.steps}")
            elif job.message and job.message.lower() != job.state:
                wrapped(box, context, job.message)

    def _draw_mesh(self, layout: Any, context: Any, state: Any, avatar: Any) -> None:
        """The avatar as an ordinary mesh in this scene."""
        row = layout.row(align=True)
        making = row.row(align=True)
        making.enabled = state is not None and not avatar.data.effigy.mesh_only
        making.operator("effigy.mesh_to_scene", icon="OUTLINER_OB_MESH")
        row.operator("effigy.import_mesh", text="", icon="IMPORT")


CLASSES = (EFFIGY_PT_export,)
