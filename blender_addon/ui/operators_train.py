"""Operators: checking captures, training. (No `from __future__ import annotations`: Blender reads the properties.)"""

import os
import uuid
from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty

from .._shared import desk_messages, errors, messages
from ..logic.settings import is_local
from ..services.connection import CONNECTION
from ..services.preferences import settings
from ..services.training import checked_capture, chosen_capture
from .asking import AskingOperator


class _Connected(AskingOperator):
    """Operators that need a backend that answers."""

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs a connected backend; a script without a window makes the connection itself."""
        state = CONNECTION.state
        if bpy.app.background or (state is not None and state.connected):
            return True
        cls.poll_message_set("Connect to a backend first")
        return False

    def capture(self, context: Any) -> str:
        """The chosen capture. Raises BadCapture."""
        return checked_capture(context.scene.effigy.training, is_local(settings(context.scene).address))


class EFFIGY_OT_check_capture(_Connected, bpy.types.Operator):
    """Recognise the capture and lay the template over some of its pictures, to see whether it is fit to train on"""

    bl_idname = "effigy.check_capture"
    bl_label = "Check Capture"

    frames: IntProperty(name="Pictures", description="How many are looked at", default=8, min=2, max=64)
    fix: BoolProperty(name="Fix", description="Write the reading that fits into the folder", options={"SKIP_SAVE"})

    @classmethod
    def description(cls, context: Any, properties: Any) -> str:
        """The button's own tooltip."""
        fixing = "Write the reading that fits into the folder's effigy.json, and check it again"
        return fixing if properties.fix else cls.__doc__

    def message(self, context: Any) -> Any:
        """The errand."""
        return desk_messages.StartCheck(uuid.uuid4().hex, self.capture(context), self.frames, self.fix)

    def answered(self, context: Any, reply: Any) -> None:
        """The panel shows it beside the capture."""
        window = context.window_manager.effigy_panels
        window.check_job, window.check_of = reply.job_id, chosen_capture(context.scene.effigy.training)


class EFFIGY_OT_start_training(_Connected, bpy.types.Operator):
    """Train an avatar from the chosen capture; it goes on when Blender closes"""

    bl_idname = "effigy.start_training"
    bl_label = "Start Training"

    def message(self, context: Any) -> Any:
        """The job as the panel describes it."""
        training = context.scene.effigy.training
        capture = self.capture(context)
        if not training.name.strip():
            raise errors.BadConfig("The new avatar has no name", do="Give it one")
        name = training.name.strip()
        return messages.StartTraining(uuid.uuid4().hex, name, capture, training.preset, gpus=training.gpus)

    def answered(self, context: Any, reply: Any) -> None:
        """Tell that it began."""
        self.report({"INFO"}, f"Training {reply.name} is {reply.state}")


class EFFIGY_OT_start_live(_Connected, bpy.types.Operator):
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

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Ask where frames come from."""
        return context.window_manager.invoke_props_dialog(self, width=320)

    def message(self, context: Any) -> Any:
        """The live training as the panel and the dialog describe it."""
        name = context.scene.effigy.training.name.strip()
        if not name:
            raise errors.BadConfig("The new avatar has no name", do="Give it one")
        listens = self.source == "LISTEN"
        source, location = ("listen", self.address) if listens else ("capture", self.capture(context))
        return messages.StartOnline(uuid.uuid4().hex, name, source, location, video_fps=self.fps)

    def answered(self, context: Any, reply: Any) -> None:
        """Tell that it began."""
        self.report({"INFO"}, f"{reply.name} is learning")


ACTIONS = {
    "take": "Make this job yours: whoever holds it now can only look on",
    "pause": "Pause it; its checkpoint is kept",
    "resume": "Go on from its checkpoint",
    "cancel": "End it; the checkpoint of a training is kept",
    "up": "Begin it earlier",
    "down": "Begin it later",
    "remove": "Take it off this list; its folder goes to the backend's trash",
    "save": "Put what it has learned so far into the library, and go on",
    "stop": "End it here; what it has learned becomes an avatar of the library",
}


class EFFIGY_OT_change_job(AskingOperator, bpy.types.Operator):
    """Pause, resume, cancel or remove this job"""

    bl_idname = "effigy.change_job"
    bl_label = "Change Job"

    job_id: StringProperty(options={"SKIP_SAVE"})
    action: StringProperty(options={"SKIP_SAVE"})

    @classmethod
    def description(cls, context: Any, properties: Any) -> str:
        """The button's own tooltip."""
        return ACTIONS.get(properties.action, cls.__doc__)

    def message(self, context: Any) -> Any:
        """The change."""
        return messages.ChangeJob(self.job_id, self.action)

    def answered(self, context: Any, reply: Any) -> None:
        """Tell the new state."""
        self.report({"INFO"}, f"{reply.name}: asked to {self.action}, now {reply.state}")


MENDING = {
    "resume": "Go on from the job's checkpoint",
    "again": "Train the same avatar from the same capture with this preset, as a new job",
    "form": "Put what this job was asked into the form above, to be changed and trained again",
    "check": "Put this job's capture into the form above and check it",
}


class EFFIGY_OT_mend_job(_Connected, bpy.types.Operator):
    """Try what may help this training"""

    bl_idname = "effigy.mend_job"
    bl_label = "Mend Training"

    job_id: StringProperty(options={"SKIP_SAVE"})
    action: StringProperty(options={"SKIP_SAVE"})
    preset: StringProperty(options={"SKIP_SAVE"})

    @classmethod
    def description(cls, context: Any, properties: Any) -> str:
        """The button's own tooltip."""
        return MENDING.get(properties.action, cls.__doc__)

    def execute(self, context: Any) -> set[str]:
        """Fill the form, where that is all; else ask the backend."""
        if self.action != "form":
            return super().execute(context)
        self._fill(context, self._job())
        return {"FINISHED"}

    def message(self, context: Any) -> Any:
        """What is asked."""
        if self.action == "resume":
            return messages.ChangeJob(self.job_id, "resume")
        job = self._job()
        self._fill(context, job)
        if self.action == "check":
            return desk_messages.StartCheck(uuid.uuid4().hex, self.capture(context))
        gpus = context.scene.effigy.training.gpus
        return messages.StartTraining(uuid.uuid4().hex, job.name, job.capture, self.preset, gpus=gpus)

    def answered(self, context: Any, reply: Any) -> None:
        """Tell what happens now."""
        if self.action == "check":
            window = context.window_manager.effigy_panels
            window.check_job, window.check_of = reply.job_id, chosen_capture(context.scene.effigy.training)
        else:
            self.report({"INFO"}, f"Training {reply.name} is {reply.state}")

    def _job(self) -> messages.JobInfo:
        state = CONNECTION.state
        found = next((job for job in state.jobs if job.job_id == self.job_id), None) if state is not None else None
        if found is None:
            raise errors.NotFound("The job is listed no more", do="Start a new training")
        return found

    def _fill(self, context: Any, job: messages.JobInfo) -> None:
        training = context.scene.effigy.training
        known = CONNECTION.state.presets.captures if CONNECTION.state.presets is not None else {}
        if job.capture in known:
            training.source, training.capture = "EMBEDDED", job.capture
        else:
            training.source, training.folder = "FOLDER", job.capture
        training.name, training.preset = job.name, self.preset or job.preset


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
    EFFIGY_OT_check_capture,
    EFFIGY_OT_start_training,
    EFFIGY_OT_start_live,
    EFFIGY_OT_change_job,
    EFFIGY_OT_mend_job,
    EFFIGY_OT_open_folder,
)
