"""Operators: keys for a backend on another machine. (No `from __future__ import annotations`: Blender reads these.)"""

from pathlib import Path
from typing import Any

import bpy
from bpy.props import StringProperty

from .._shared import errors, shared_module
from ..services.connection import CONNECTION
from ..services.preferences import preferences, settings


class EFFIGY_OT_copy_own_key(bpy.types.Operator):
    """Copy this Blender's public key, which whoever runs the backend has to add there: effigy keys add NAME KEY"""

    bl_idname = "effigy.copy_own_key"
    bl_label = "Copy My Public Key"

    def execute(self, context: Any) -> set[str]:
        """Make the pair where there is none, and copy the public half."""
        public = shared_module("keys").own_pair().public
        context.window_manager.clipboard = public
        self.report({"INFO"}, f"Copied {public}")
        return {"FINISHED"}


class EFFIGY_OT_open_connection(bpy.types.Operator):
    """Take address and keys from a connection file, as 'effigy keys export' writes it on the backend's machine"""

    bl_idname = "effigy.open_connection"
    bl_label = "Open Connection File"

    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Ask for a file."""
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: Any) -> set[str]:
        """Put them into the preferences and connect."""
        stored = preferences()
        if stored is None:
            raise errors.EnvironmentFailed(
                "The add-on runs from source and has no stored preferences",
                do="Set EFFIGY_ADDRESS, EFFIGY_SERVER_KEY",
            )
        there = shared_module("keys").read_connection(Path(bpy.path.abspath(self.filepath)))
        stored.address, stored.server_key, stored.key = there.address, there.server_key, there.key
        CONNECTION.connect(settings(context.scene))
        self.report({"INFO"}, f"The backend is at {there.address}")
        return {"FINISHED"}


CLASSES = (EFFIGY_OT_copy_own_key, EFFIGY_OT_open_connection)
