"""Operators: synthesise a capture. (No `from __future__ import annotations`: Blender reads the properties.)"""

from pathlib import Path
from typing import Any

import bpy
from bpy.props import EnumProperty, IntProperty, StringProperty

from .._shared import errors
from ..services.connection import redraw_sidebars
from ..services.synthesis import SYNTHESIS

TICK_S = 0.25


class EFFIGY_OT_synthesise_capture(bpy.types.Operator):
    """Render a synthetic talking head from many cameras with Cycles, as a capture to train an avatar from.

    It runs in a second Blender; Esc or the panel's button stops it, and the same settings go on from there
    """

    bl_idname = "effigy.synthesise_capture"
    bl_label = "Synthesise Capture"

    folder: StringProperty(name="Folder", description="A new or empty folder for the capture", subtype="DIR_PATH")
    name: StringProperty(name="Name", default="my_capture")
    preset: EnumProperty(name="Person", items=[("man", "Man", ""), ("woman", "Woman", "")])
    frames: IntProperty(name="Frames", description="Instants of the performance", default=60, min=1, max=10000)
    cameras: IntProperty(name="Cameras", default=8, min=1, max=64)
    size_px: IntProperty(name="Size", description="Side of the pictures in pixels", default=384, min=16, max=4096)
    samples: IntProperty(name="Samples", description="Cycles samples per pixel", default=16, min=1, max=4096)
    strands: IntProperty(name="Hairs", default=12000, min=100, max=200000)

    _timer: Any = None

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Ask for the settings."""
        return context.window_manager.invoke_props_dialog(self, width=360)

    def execute(self, context: Any) -> set[str]:
        """Start it, and follow it as a modal operator or, without a window, wait for it."""
        try:
            if not self.folder.strip():
                raise errors.BadConfig("No folder was chosen for the capture", do="Choose a new or empty one")
            options = [f"--name={self.name}", f"--preset={self.preset}", f"--views-per-frame={min(4, self.cameras)}"]
            for setting in ("frames", "cameras", "size_px", "samples", "strands"):
                options.append(f"--{setting.replace('_', '-')}={getattr(self, setting)}")
            child = SYNTHESIS.start(Path(bpy.path.abspath(self.folder)), options)
        except errors.EffigyError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if bpy.app.background or context.window is None:
            child.wait()
            return self._ended(context)
        self._timer = context.window_manager.event_timer_add(TICK_S, window=context.window)
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: Any, event: Any) -> set[str]:
        """Show progress; Esc stops."""
        child = SYNTHESIS.child
        if child is None:
            self._stop_watching(context)
            return {"CANCELLED"}
        if event.type == "ESC":
            child.cancel()
        if event.type in {"ESC", "TIMER"}:
            state = child.state
            context.workspace.status_text_set(f"Effigy: picture {state.done} of {state.total} (Esc stops)")
            redraw_sidebars()
        if child.running:
            return {"PASS_THROUGH"}
        self._stop_watching(context)
        return self._ended(context)

    def cancel(self, context: Any) -> None:
        """Blender ends the operator, for example because a file is opened; the synthesis goes on."""
        self._stop_watching(context)

    def _stop_watching(self, context: Any) -> None:
        if self._timer is not None:
            context.window_manager.event_timer_remove(self._timer)
            self._timer = None
        context.workspace.status_text_set(None)

    def _ended(self, context: Any) -> set[str]:
        state = SYNTHESIS.child.state
        if state.status != "done":
            self.report({"INFO" if state.status == "cancelled" else "ERROR"}, state.message)
            return {"CANCELLED"}
        training = context.scene.effigy.training
        training.source, training.folder = "FOLDER", str(SYNTHESIS.child.folder)
        self.report({"INFO"}, state.message)
        return {"FINISHED"}


class EFFIGY_OT_stop_synthesis(bpy.types.Operator):
    """Stop the synthesis; the pictures made so far are kept"""

    bl_idname = "effigy.stop_synthesis"
    bl_label = "Stop"

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs one that runs."""
        return SYNTHESIS.child is not None and SYNTHESIS.child.running

    def execute(self, context: Any) -> set[str]:
        """Stop it."""
        SYNTHESIS.child.cancel()
        return {"FINISHED"}


CLASSES = (EFFIGY_OT_synthesise_capture, EFFIGY_OT_stop_synthesis)
