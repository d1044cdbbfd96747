"""Operators: videos to captures, faces followed live. (No `from __future__ import annotations`: Blender reads the
properties.)"""

import os
import uuid
from typing import Any

import bpy
from bpy.props import EnumProperty, FloatProperty, IntProperty, StringProperty

from .._shared import errors, messages, track_messages
from ..logic.settings import is_local
from ..services import tracking
from ..services.connection import CONNECTION
from ..services.performing import PERFORMING
from ..services.preferences import settings
from ..services.rig_info import avatar_of
from .asking import AskingOperator


class _Tracks(AskingOperator):
    """Operators that need a backend with a tracker; a script without a window is told by the backend."""

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs a tracker that is ready."""
        reason = "" if bpy.app.background else tracking.why_not(CONNECTION.state)
        if reason:
            cls.poll_message_set(reason)
        return not reason


class EFFIGY_OT_track_video(_Tracks, bpy.types.Operator):
    """Make a capture of an ordinary video of a person, to train an avatar from"""

    bl_idname = "effigy.track_video"
    bl_label = "Track Video"

    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: StringProperty(default="*.mp4;*.mov;*.mkv;*.webm;*.avi;*.m4v;*.mpg;*.mpeg", options={"HIDDEN"})
    whole: EnumProperty(
        name="Shows",
        items=(
            ("HEAD", "Head", "A face that talks and turns, close"),
            ("BODY", "Body", "A whole person who turns or walks, from head to feet"),
        ),
        default="HEAD",
    )
    height_m: FloatProperty(
        name="Height (m)",
        description="How tall the person is, which a video does not tell; 0 where it is not known",
        default=0,
        min=0,
        max=2.8,
    )
    focal_mm: FloatProperty(
        name="Lens (mm)",
        description="Of a 36 mm wide picture (26: a phone's main camera); 0 for what the file says, or a guess",
        default=0,
        min=0,
        max=500,
    )
    step: IntProperty(name="Every", description="Only every so manieth picture", default=1, min=1, max=100)
    size_px: IntProperty(name="Size (px)", description="Longest side of the pictures stored", default=512, min=64)
    output: StringProperty(
        name="Folder", description="Of the capture; empty puts it beside the video", subtype="DIR_PATH"
    )

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Choose the file; of one that was dropped, ask for the rest."""
        if self.filepath:
            return context.window_manager.invoke_props_dialog(self, width=320)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def draw(self, context: Any) -> None:
        """The form, with the file's name above it where it was dropped."""
        self.layout.use_property_split = True
        self.layout.label(text=os.path.basename(self.filepath), icon="FILE_MOVIE")
        self.layout.prop(self, "whole", expand=True)
        for name in (*(("height_m",) if self.whole == "BODY" else ()), "focal_mm", "step", "size_px", "output"):
            self.layout.prop(self, name)

    def message(self, context: Any) -> Any:
        """The errand. Raises BadCapture."""
        video = os.path.normpath(bpy.path.abspath(self.filepath)) if self.filepath else ""
        if not video or (is_local(settings(context.scene).address) and not os.path.exists(video)):
            raise errors.BadCapture("There is no such video", found=video or "no name", do="Choose one")
        output = os.path.normpath(bpy.path.abspath(self.output)) if self.output else ""
        output = output or f"{os.path.splitext(video)[0]}_capture"
        body = self.whole == "BODY"
        return track_messages.StartTrack(
            uuid.uuid4().hex,
            video,
            output,
            self.focal_mm,
            self.step,
            self.size_px,
            context.scene.effigy.training.name,
            body=body,
            height_m=self.height_m if body else 0.0,
        )

    def answered(self, context: Any, reply: Any) -> None:
        """The panel shows how it goes."""
        context.window_manager.effigy_panels.track_job = reply.job_id
        tracking.watch()


class EFFIGY_OT_make_tracker(AskingOperator, bpy.types.Operator):
    """Install the face tracker into an environment of its own (MediaPipe, Apache-2.0; loads about 100 MB, once)"""

    bl_idname = "effigy.make_tracker"
    bl_label = "Install Face Tracker"

    def message(self, context: Any) -> Any:
        """The errand."""
        return track_messages.StartTrack(uuid.uuid4().hex, "", "")

    def answered(self, context: Any, reply: Any) -> None:
        """The panel shows how it goes."""
        context.window_manager.effigy_panels.track_job = reply.job_id


class EFFIGY_OT_follow_live(_Tracks, bpy.types.Operator):
    """Follow the face in a camera or a video: look at it calmly for three seconds, then talk"""

    bl_idname = "effigy.follow_live"
    bl_label = "Start"

    def message(self, context: Any) -> Any:
        """A live training, or poses for the selected avatar. Raises EffigyError."""
        live, key = context.scene.effigy_live, uuid.uuid4().hex
        source = live.source.strip()
        if not source.isdecimal():
            source = os.path.normpath(bpy.path.abspath(source)) if source else ""
            if not source or (is_local(settings(context.scene).address) and not os.path.isfile(source)):
                raise errors.BadCapture(
                    "There is no such source", found=source or "nothing", expected="a camera's number, or a video file"
                )
        if live.purpose == "TRAIN":
            name = context.scene.effigy.training.name.strip()
            if not name:
                raise errors.BadConfig("The new avatar has no name", do="Give it one")
            return messages.StartOnline(key, name, "track", source)
        avatar = avatar_of(context.object)
        if avatar is None:
            raise errors.BadAvatar("No avatar is selected", do="Select the one that is to act")
        if not is_local(settings(context.scene).address):
            raise errors.NotAllowed(
                "Poses come from a backend on this machine only",
                do="Record with `effigy live` there, import the motion",
            )
        return track_messages.StartDrive(key, source, PERFORMING.begin(avatar), live.focal_mm)

    def answered(self, context: Any, reply: Any) -> None:
        """The panel shows how it goes."""
        if reply.kind == "online":
            context.window_manager.effigy_panels.live_job = reply.job_id
            self.report({"INFO"}, f"{reply.name} is learning: look at the camera with a calm face")
        else:
            PERFORMING.job_id = reply.job_id

    def _failed(self, error: errors.EffigyError) -> set[str]:
        PERFORMING.end()
        return super()._failed(error)


class EFFIGY_OT_stop_following(AskingOperator, bpy.types.Operator):
    """Follow the face no more; what is being recorded is keyed first"""

    bl_idname = "effigy.stop_following"
    bl_label = "Stop"
    bl_options = {"UNDO"}

    def message(self, context: Any) -> Any:
        """End the job."""
        job_id = PERFORMING.job_id
        if PERFORMING.recording:
            _key(self, context)
        PERFORMING.end()
        return messages.ChangeJob(job_id, "cancel")

    def answered(self, context: Any, reply: Any) -> None:
        """Nothing more to tell."""


class EFFIGY_OT_record_live(bpy.types.Operator):
    """Record the performance from the current frame on; again, to stop and key it on the avatar"""

    bl_idname = "effigy.record_live"
    bl_label = "Record Keys"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs a face that is followed."""
        if PERFORMING.performer is None:
            cls.poll_message_set("Start following a face first")
        return PERFORMING.performer is not None

    def execute(self, context: Any) -> set[str]:
        """Begin, or end and key."""
        if PERFORMING.recording:
            return _key(self, context)
        PERFORMING.record(context.scene.frame_current)
        return {"CANCELLED"}  # nothing has changed yet: the one undo step is that of the keys


def _key(operator: Any, context: Any) -> set[str]:
    """Key what was recorded; one undo step."""
    live = context.scene.effigy_live
    try:
        count = PERFORMING.keyed(context.scene, live.soften_s, live.tolerance)
    except errors.EffigyError as error:
        operator.report({"ERROR"}, str(error))
        return {"CANCELLED"}
    if not count:
        operator.report({"WARNING"}, "Nothing was recorded: no pose came meanwhile")
        return {"CANCELLED"}
    operator.report({"INFO"}, f"{count} frames recorded from frame {PERFORMING.start_frame} on")
    return {"FINISHED"}


CLASSES = (
    EFFIGY_OT_track_video,
    EFFIGY_OT_make_tracker,
    EFFIGY_OT_follow_live,
    EFFIGY_OT_stop_following,
    EFFIGY_OT_record_live,
)
