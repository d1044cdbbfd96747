"""Sidebar panel: Camera."""

from __future__ import annotations

from typing import Any

import bpy

from .parts import sidebar_part


class EFFIGY_PT_camera(sidebar_part("camera"), bpy.types.Panel):
    """Cameras around the selected avatar"""

    def draw_part(self, context: Any) -> None:
        """Draw the ways to film it."""
        self.layout.operator("effigy.add_camera_path", icon="CAMERA_DATA")


CLASSES = (EFFIGY_PT_camera,)
