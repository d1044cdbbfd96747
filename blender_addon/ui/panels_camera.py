"""Sidebar panel: Camera."""

from __future__ import annotations

from typing import Any

import bpy

from ..services.rig_info import avatar_of
from .drawing import wrapped
from .parts import sidebar_part


class EFFIGY_PT_camera(sidebar_part("camera"), bpy.types.Panel):
    """Cameras around the selected avatar, and camera paths from and to files"""

    def draw_part(self, context: Any) -> None:
        """Draw the ways to film it."""
        layout, scene = self.layout, context.scene
        layout.prop(scene, "camera", text="")
        if scene.camera is not None and scene.camera.type == "CAMERA" and scene.camera.data.type == "PERSP":
            layout.prop(scene.camera.data, "lens")
        if avatar_of(context.object) is None:
            wrapped(layout, context, "Select an avatar to place a camera around it")
        else:
            row = layout.row(align=True)
            row.label(text="Fit:")
            for part, text in (("WHOLE", "Whole"), ("UPPER", "Upper"), ("HEAD", "Head")):
                row.operator("effigy.fit_camera", text=text).part = part
            column = layout.column(align=True)
            for kind, text, icon in (
                ("ARC", "Add Arc", "FCURVE"),
                ("ORBIT", "Add Orbit", "CURVE_BEZCIRCLE"),
                ("TURNTABLE", "Add Turntable", "FILE_REFRESH"),
            ):
                column.operator("effigy.add_camera_path", text=text, icon=icon).kind = kind
        row = layout.row(align=True)
        row.operator("effigy.import_cameras", text="Import…", icon="IMPORT")
        row.operator("effigy.export_cameras", text="Export…", icon="EXPORT")


CLASSES = (EFFIGY_PT_camera,)
