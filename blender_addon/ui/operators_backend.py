"""Operators: connection, avatars in the scene. (No `from __future__ import annotations`: Blender reads these.)"""

from typing import Any

import bpy
import numpy as np
from bpy.props import StringProperty

from .._shared import errors, messages
from ..logic.settings import free_address
from ..services import rig_build
from ..services.backend import BACKEND
from ..services.connection import CONNECTION
from ..services.preferences import ADDON_NAME, settings
from ..services.rig_info import avatar_of, rig_of
from .asking import AskingOperator


class EFFIGY_OT_connect(bpy.types.Operator):
    """Look for the backend at its address"""

    bl_idname = "effigy.connect"
    bl_label = "Connect"

    def execute(self, context: Any) -> set[str]:
        """Make a new link."""
        CONNECTION.connect(settings(context.scene))
        return {"FINISHED"}


class EFFIGY_OT_disconnect(bpy.types.Operator):
    """Close the connection; the backend goes on"""

    bl_idname = "effigy.disconnect"
    bl_label = "Disconnect"

    def execute(self, context: Any) -> set[str]:
        """Close the link."""
        CONNECTION.disconnect()
        return {"FINISHED"}


class EFFIGY_OT_start_backend(bpy.types.Operator):
    """Start a backend on this machine and connect to it"""

    bl_idname = "effigy.start_backend"
    bl_label = "Start"

    def execute(self, context: Any) -> set[str]:
        """Start the process."""
        wanted = settings(context.scene)
        try:
            BACKEND.start(wanted)
        except errors.EffigyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        CONNECTION.connect(wanted)
        return {"FINISHED"}


class EFFIGY_OT_start_at_free_port(bpy.types.Operator):
    """Start a backend of this scene's own at a port that is free, and connect to it"""

    bl_idname = "effigy.start_at_free_port"
    bl_label = "Start at a Free Port"

    def execute(self, context: Any) -> set[str]:
        """Choose the port, remember it in the scene, and start."""
        context.scene.effigy.address = free_address()
        return bpy.ops.effigy.start_backend()


class EFFIGY_OT_network_preferences(bpy.types.Operator):
    """Open Blender's preferences where it may be allowed to go online"""

    bl_idname = "effigy.network_preferences"
    bl_label = "Network Preferences"

    def execute(self, context: Any) -> set[str]:
        """Show them."""
        return bpy.ops.screen.userpref_show(section="SYSTEM")


class EFFIGY_OT_stop_backend(bpy.types.Operator):
    """Stop the backend that was started from here; a training goes on from its checkpoint when it is started again"""

    bl_idname = "effigy.stop_backend"
    bl_label = "Stop"

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Only a backend of our own can be stopped."""
        return BACKEND.process is not None and BACKEND.process.running

    def execute(self, context: Any) -> set[str]:
        """Stop the process."""
        BACKEND.stop()
        return {"FINISHED"}


class EFFIGY_OT_preferences(bpy.types.Operator):
    """Open the add-on's preferences"""

    bl_idname = "effigy.preferences"
    bl_label = "Preferences"

    def execute(self, context: Any) -> set[str]:
        """Show them."""
        if context.preferences.addons.get(ADDON_NAME) is None:
            self.report({"WARNING"}, "The add-on runs from source and has no stored preferences")
            return {"CANCELLED"}
        bpy.ops.preferences.addon_show(module=ADDON_NAME)
        return {"FINISHED"}


class EFFIGY_OT_refresh(bpy.types.Operator):
    """Read the backend's avatars, jobs and presets again"""

    bl_idname = "effigy.refresh"
    bl_label = "Refresh"

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs a link."""
        return CONNECTION.link is not None

    def execute(self, context: Any) -> set[str]:
        """Ask the thread to list anew."""
        CONNECTION.link.refresh()
        return {"FINISHED"}


class EFFIGY_OT_add_avatar(AskingOperator, bpy.types.Operator):
    """Add this avatar to the scene: an armature to animate, with a light mesh that stands for it"""

    bl_idname = "effigy.add_avatar"
    bl_label = "Add to Scene"
    bl_options = {"REGISTER", "UNDO"}

    avatar_id: StringProperty(name="Avatar", options={"SKIP_SAVE"})

    def message(self, context: Any) -> Any:
        """Ask for rig and proxy."""
        if not self.avatar_id:
            raise errors.NotFound("No avatar was chosen", do="Choose one in the Library panel")
        return messages.GetAvatar(self.avatar_id)

    def answered(self, context: Any, reply: Any) -> None:
        """Build them."""
        rig_object = rig_build.add_avatar(context, reply)
        rig_object.location = context.scene.cursor.location
        self.report({"INFO"}, f"Added {reply.summary.name}")


class EFFIGY_OT_relink(AskingOperator, bpy.types.Operator):
    """Render the selected avatar from the version the backend has now, keeping its animation"""

    bl_idname = "effigy.relink"
    bl_label = "Use the Backend's Version"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs an avatar."""
        return avatar_of(context.object) is not None

    def message(self, context: Any) -> Any:
        """Ask for its rig."""
        return messages.GetAvatar(avatar_of(context.object).data.effigy.avatar_id)

    def answered(self, context: Any, reply: Any) -> None:
        """Take it over where its rig is the one that is animated."""
        avatar = avatar_of(context.object)
        rig = rig_of(avatar)
        same = reply.rig.joint_names == rig.joint_names and reply.rig.expression_names == rig.expression_names
        if not same or np.abs(reply.rig.rest_joints - rig.rest_joints).max() > 1e-4:
            raise errors.BadAvatar(
                f"The backend's {reply.summary.name!r} has another skeleton", do="Add it to the scene as a new avatar"
            )
        avatar.data.effigy.digest = reply.summary.digest
        avatar.data.effigy.relightable = reply.summary.relightable
        avatar.data.update_tag()


CLASSES = (
    EFFIGY_OT_connect,
    EFFIGY_OT_disconnect,
    EFFIGY_OT_start_backend,
    EFFIGY_OT_start_at_free_port,
    EFFIGY_OT_network_preferences,
    EFFIGY_OT_stop_backend,
    EFFIGY_OT_preferences,
    EFFIGY_OT_refresh,
    EFFIGY_OT_add_avatar,
    EFFIGY_OT_relink,
)
