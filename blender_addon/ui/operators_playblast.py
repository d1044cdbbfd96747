"""The playblast operator. (No `from __future__ import annotations`: Blender evaluates the properties.)"""

import time
from pathlib import Path
from typing import Any

import bpy
from bpy.props import EnumProperty, StringProperty

from .._shared import errors
from ..viewport import playblast

STEP_S = 0.02


class EFFIGY_OT_playblast(bpy.types.Operator):
    """Render the animation as the 3D view shows it, with the avatars (Blender's own viewport render leaves them out)"""

    bl_idname = "effigy.playblast"
    bl_label = "Playblast"

    look: EnumProperty(
        name="Look through",
        items=[
            ("CAMERA", "Camera", "The scene's camera, at its output size"),
            ("VIEW", "View", "This 3D view as it is, at its size"),
        ],
    )
    kind: EnumProperty(
        name="Write",
        items=[("MP4", "Video", "An H.264 video"), ("PNG", "Pictures", "One PNG a frame")],
    )
    filepath: StringProperty(
        name="To",
        description="Without an ending; empty writes beside the .blend file, or to Blender's temporary folder",
        subtype="FILE_PATH",
    )

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs a window with a 3D view."""
        return not bpy.app.background and context.space_data is not None and context.space_data.type == "VIEW_3D"

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Go on between events; Esc stops."""
        try:
            self._begin(context)
        except errors.EffigyError as error:
            return self._failed(error)
        manager = context.window_manager
        self._timer = manager.event_timer_add(STEP_S, window=context.window)
        manager.progress_begin(0, self._run.total)
        manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: Any, event: Any) -> set[str]:
        """One step a timer event."""
        if event.type == "ESC":
            self._steps.close()
            self._end(context)
            self.report({"INFO"}, f"Stopped after {self._run.done} frames; they are in {self._run.place}")
            return {"CANCELLED"}
        if event.type != "TIMER":
            return {"RUNNING_MODAL"}
        try:
            next(self._steps)
        except StopIteration:
            self._end(context)
            return self._finish()
        except errors.EffigyError as error:
            self._end(context)
            return self._failed(error)
        context.window_manager.progress_update(self._run.done)
        context.workspace.status_text_set(f"Playblast {self._run.done} / {self._run.total} (Esc stops)")
        return {"RUNNING_MODAL"}

    def execute(self, context: Any) -> set[str]:
        """From a script: to the end at once."""
        try:
            self._begin(context)
            for _ in self._steps:
                time.sleep(STEP_S / 4)
        except errors.EffigyError as error:
            return self._failed(error)
        return self._finish()

    def cancel(self, context: Any) -> None:
        """Blender ends the operator."""
        self._steps.close()
        self._end(context)

    def _begin(self, context: Any) -> None:
        path = bpy.path.abspath(
            self.filepath or ("//playblast" if bpy.data.filepath else f"{bpy.app.tempdir}playblast")
        )
        self._path = Path(path)
        place = self._path if self.kind == "PNG" else self._path.with_name(f"{self._path.name}_frames")
        self._run = playblast.Playblast(context, place, through_camera=self.look == "CAMERA")
        self._steps = self._run.steps()

    def _end(self, context: Any) -> None:
        context.window_manager.event_timer_remove(self._timer)
        context.window_manager.progress_end()
        context.workspace.status_text_set(None)

    def _finish(self) -> set[str]:
        try:
            written = self._run.place
            if self.kind == "MP4":
                written = playblast.to_video(self._run, self._path.with_suffix(".mp4"))
        except errors.EffigyError as error:
            return self._failed(error)
        self.report({"INFO"}, f"Playblast of {self._run.done} frames: {written}")
        return {"FINISHED"}

    def _failed(self, error: errors.EffigyError) -> set[str]:
        self.report({"ERROR"}, str(error))
        return {"CANCELLED"}


CLASSES = (EFFIGY_OT_playblast,)
