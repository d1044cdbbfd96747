"""Sidebar panel: Capture & Train."""

from __future__ import annotations

from typing import Any

import bpy

from .._shared import messages
from ..logic.link import UNFINISHED
from ..services.connection import CONNECTION
from ..services.synthesis import SYNTHESIS
from .drawing import THUMBNAILS, duration, numbers, wrapped
from .parts import sidebar_part

SHOWN_JOBS = 6
STATE_ICONS = {
    "queued": "TIME",
    "running": "PLAY",
    "paused": "PAUSE",
    "done": "CHECKMARK",
    "failed": "ERROR",
    "cancelled": "X",
}


class EFFIGY_PT_train(sidebar_part("train"), bpy.types.Panel):
    """Train avatars and watch them learn"""

    def draw_part(self, context: Any) -> None:
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


CLASSES = (EFFIGY_PT_train,)
