"""Operators: connection, library and training jobs. (No `from __future__ import annotations`: Blender reads these.)"""

import os
import uuid
from typing import Any

import bpy
import numpy as np
from bpy.props import EnumProperty, FloatProperty, StringProperty

from .._shared import errors, messages
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
        avatar.data.update_tag()


class EFFIGY_OT_start_training(AskingOperator, bpy.types.Operator):
    """Train an avatar from the chosen capture; it goes on when Blender closes"""

    bl_idname = "effigy.start_training"
    bl_label = "Start Training"

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs a connected backend."""
        state = CONNECTION.state
        return bpy.app.background or (state is not None and state.status == "connected")

    def message(self, context: Any) -> Any:
        """The job as the panel describes it."""
        training = context.scene.effigy.training
        capture = training.capture
        if training.source == "FOLDER":
            capture = bpy.path.abspath(training.folder)
            if not capture or not os.path.isdir(capture):
                raise errors.BadCapture("The capture folder does not exist", found=capture or "none", do="Choose one")
        if not training.name.strip():
            raise errors.BadConfig("The new avatar has no name", do="Give it one")
        return messages.StartTraining(uuid.uuid4().hex, training.name.strip(), capture, training.preset)

    def answered(self, context: Any, reply: Any) -> None:
        """Tell that it began."""
        self.report({"INFO"}, f"Training {reply.name} is {reply.state}")


class EFFIGY_OT_start_live(AskingOperator, bpy.types.Operator):
    """Train a head while its frames arrive; it can be added to the scene and rendered from its first frames on"""

    bl_idname = "effigy.start_live"
    bl_label = "Learn Live"

    source: EnumProperty(
        name="Frames",
        items=(
            ("CAPTURE", "The chosen capture, played back", "Show the capture's images one after the other"),
            ("LISTEN", "A tracker", "Wait for a program on this machine that pushes tracked frames"),
        ),
    )
    address: StringProperty(name="Address", default="tcp://127.0.0.1:47620", description="Where the tracker pushes to")
    fps: FloatProperty(name="Frames per Second", default=25.0, min=0.1, max=240.0, description="Of the playback")

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs a connected backend."""
        return EFFIGY_OT_start_training.poll(context)

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Ask where frames come from."""
        return context.window_manager.invoke_props_dialog(self)

    def message(self, context: Any) -> Any:
        """The live training as the panel and the dialog describe it."""
        asked = EFFIGY_OT_start_training.message(self, context)
        listens = self.source == "LISTEN"
        source, location = ("listen", self.address) if listens else ("capture", asked.capture)
        return messages.StartOnline(asked.key, asked.name, source, location, video_fps=self.fps)

    def answered(self, context: Any, reply: Any) -> None:
        """Tell that it began."""
        self.report({"INFO"}, f"{reply.name} is learning")


class EFFIGY_OT_change_job(AskingOperator, bpy.types.Operator):
    """Pause, resume or cancel this training, whose checkpoint is kept; end or save one that learns live"""

    bl_idname = "effigy.change_job"
    bl_label = "Change Job"

    job_id: StringProperty(options={"SKIP_SAVE"})
    action: StringProperty(options={"SKIP_SAVE"})

    def message(self, context: Any) -> Any:
        """The change."""
        return messages.ChangeJob(self.job_id, self.action)

    def answered(self, context: Any, reply: Any) -> None:
        """Tell the new state."""
        self.report({"INFO"}, f"{reply.name}: asked to {self.action}, now {reply.state}")


class EFFIGY_OT_open_folder(bpy.types.Operator):
    """Open the folder in the system's file browser"""

    bl_idname = "effigy.open_folder"
    bl_label = "Open Folder"

    folder: StringProperty(options={"SKIP_SAVE"})

    def execute(self, context: Any) -> set[str]:
        """Open it, where it is on this machine."""
        if not os.path.isdir(self.folder):
            self.report({"ERROR"}, f"The folder {self.folder} is not on this machine; the backend keeps it")
            return {"CANCELLED"}
        bpy.ops.wm.path_open(filepath=self.folder)
        return {"FINISHED"}


CLASSES = (
    EFFIGY_OT_connect,
    EFFIGY_OT_disconnect,
    EFFIGY_OT_start_backend,
    EFFIGY_OT_stop_backend,
    EFFIGY_OT_preferences,
    EFFIGY_OT_refresh,
    EFFIGY_OT_add_avatar,
    EFFIGY_OT_relink,
    EFFIGY_OT_start_training,
    EFFIGY_OT_start_live,
    EFFIGY_OT_change_job,
    EFFIGY_OT_open_folder,
)
