"""Sidebar panel: Backend."""

from __future__ import annotations

from typing import Any

import bpy

from ..services.backend import BACKEND
from ..services.connection import CONNECTION
from ..services.preferences import settings
from .drawing import wrapped
from .parts import sidebar_part


class EFFIGY_PT_backend(sidebar_part("backend"), bpy.types.Panel):
    """Where the backend is and how it is"""

    def draw_part(self, context: Any) -> None:
        """Draw address, state and buttons."""
        layout, state = self.layout, CONNECTION.state
        layout.prop(context.scene.effigy, "address", text="", placeholder=settings(context.scene).address)
        row = layout.row(align=True)
        if state is None:
            row.operator("effigy.connect", icon="LINKED")
        else:
            row.operator("effigy.disconnect", icon="UNLINKED")
            row.operator("effigy.connect", text="", icon="FILE_REFRESH")
        if BACKEND.process is not None and BACKEND.process.running:
            row.operator("effigy.stop_backend", icon="SNAP_FACE")
        elif state is None or state.status != "connected":
            row.operator("effigy.start_backend", icon="PLAY")
        row.operator("effigy.preferences", text="", icon="PREFERENCES")
        if state is None:
            layout.label(text="Not connected", icon="RADIOBUT_OFF")
        elif state.status == "connected" and state.welcome is not None:
            box = layout.column(align=True)
            box.label(text=f"Connected to {state.address.partition('://')[2]}", icon="RADIOBUT_ON")
            box.label(text=f"{state.welcome.device}, {state.welcome.rasteriser}", icon="BLANK1")
            box.label(text=f"version {state.welcome.version}, {state.latency_ms:.1f} ms away", icon="BLANK1")
        elif state.status == "connecting":
            layout.label(text=f"Looking for {state.address.partition('://')[2]}", icon="SORTTIME")
        else:
            wrapped(layout, context, state.problem, icon="ERROR")


CLASSES = (EFFIGY_PT_backend,)
