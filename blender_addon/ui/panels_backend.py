"""Sidebar panels: Backend, Library, Train."""

from __future__ import annotations

from typing import Any

import bpy

from .._shared import messages
from ..logic.link import UNFINISHED
from ..services.backend import BACKEND
from ..services.connection import CONNECTION
from ..services.preferences import settings
from ..services.synthesis import SYNTHESIS
from .drawing import THUMBNAILS, duration, held_out, numbers, wrapped

SHOWN_JOBS = 6
STATE_ICONS = {
    "queued": "TIME",
    "running": "PLAY",
    "paused": "PAUSE",
    "done": "CHECKMARK",
    "failed": "ERROR",
    "cancelled": "X",
}


class Sidebar:
    """Where all of Effigy's panels are: the 3D view's sidebar, tab Effigy."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Effigy"


class EFFIGY_PT_backend(Sidebar, bpy.types.Panel):
    """Where the backend is and how it is"""

    bl_label = "Backend"

    def draw(self, context: Any) -> None:
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


class EFFIGY_PT_library(Sidebar, bpy.types.Panel):
    """Avatars the backend has"""

    bl_label = "Library"

    def draw(self, context: Any) -> None:
        """Draw one box per avatar."""
        layout, state = self.layout, CONNECTION.state
        layout.operator("effigy.refresh", icon="FILE_REFRESH")
        if state is None or state.status != "connected":
            layout.label(text="Connect to see avatars")
            return
        if not state.avatars:
            layout.label(text="No avatars yet: train one below")
        for avatar in state.avatars:
            box = layout.box()
            row = box.row()
            row.label(text=avatar.name or avatar.avatar_id, icon="ERROR" if avatar.problem else "OUTLINER_OB_ARMATURE")
            button = row.row()
            button.enabled = not avatar.problem
            button.operator("effigy.add_avatar", icon="ADD").avatar_id = avatar.avatar_id
            if avatar.problem:
                wrapped(box, context, avatar.problem)
            elif avatar.metrics:
                wrapped(box, context, held_out(avatar.metrics))


class EFFIGY_PT_train(Sidebar, bpy.types.Panel):
    """Train avatars and watch them learn"""

    bl_label = "Train"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Any) -> None:
        """Draw the form for a new training and the newest jobs."""
        layout, state = self.layout, CONNECTION.state
        training = context.scene.effigy.training
        column = layout.column()
        column.use_property_split = True
        column.prop(training, "source")
        if training.source == "EMBEDDED":
            column.prop(training, "capture")
        else:
            column.prop(training, "folder")
        column.prop(training, "preset")
        if state is not None and state.presets is not None:
            about = state.presets.presets.get(training.preset)
            wrapped(layout, context, about or f"The backend has no preset {training.preset!r}")
        column.prop(training, "name")
        row = layout.row(align=True)
        row.operator("effigy.start_training", icon="PLAY")
        row.operator("effigy.start_live", icon="REC")
        self._draw_synthesis(context)
        if state is not None:
            for job in state.jobs[:SHOWN_JOBS]:
                self._draw_job(context, job, state.previews.get(job.job_id))

    def _draw_synthesis(self, context: Any) -> None:
        child = SYNTHESIS.child
        if child is None or not child.running:
            self.layout.operator("effigy.synthesise_capture", icon="OUTLINER_OB_CAMERA")
        if child is not None:
            box = self.layout.box()
            if child.running:
                row = box.row()
                total = max(1, child.state.total)
                row.progress(factor=child.state.done / total, text=f"Capture: {child.state.done} / {total}")
                row.operator("effigy.stop_synthesis", text="", icon="X")
            wrapped(box, context, child.state.message, icon="ERROR" if child.state.status == "failed" else "NONE")

    def _draw_job(self, context: Any, job: messages.JobInfo, preview: messages.JobPreview | None) -> None:
        box = self.layout.box()
        row = box.row()
        live = job.kind == "online"
        row.label(text=f"{job.name}: {job.state}", icon=STATE_ICONS.get(job.state, "QUESTION"))
        for action, icon, states in (
            ("pause", "PAUSE", ("queued", "running")),
            ("resume", "PLAY", ("paused", "failed")),
            ("save", "FILE_TICK", ("running", "paused") if live else ()),
            ("stop", "SNAP_FACE", ("running", "paused") if live else ()),
            ("cancel", "X", UNFINISHED),
        ):
            if job.state in states and not (live and job.state == "failed"):
                button = row.operator("effigy.change_job", text="", icon=icon)
                button.job_id, button.action = job.job_id, action
        if live and job.avatar_id:
            row.operator("effigy.add_avatar", text="", icon="ADD").avatar_id = job.avatar_id
        if job.report_folder:
            row.operator("effigy.open_folder", text="", icon="FILE_FOLDER").folder = job.report_folder
        if job.state in UNFINISHED and job.steps:
            eta = f", {duration(job.eta_s)} left" if job.state == "running" and job.eta_s else ""
            box.progress(factor=min(1.0, job.step / job.steps), text=f"{job.step} / {job.steps}{eta}")
        if job.losses and job.state in UNFINISHED:
            wrapped(box, context, f"{numbers(job.losses)}; {job.images_per_s:.1f} images/s")
        if job.message and job.message.lower() != job.state:
            wrapped(box, context, job.message)
        if preview is not None and job.state in UNFINISHED:
            box.template_icon(THUMBNAILS.icon(preview), scale=8)


CLASSES = (EFFIGY_PT_backend, EFFIGY_PT_library, EFFIGY_PT_train)
