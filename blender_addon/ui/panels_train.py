"""Sidebar panel: Capture & Train."""

from __future__ import annotations

from typing import Any

import bpy

from .._shared import messages
from ..logic import curve_image
from ..logic.link import UNFINISHED, LinkState
from ..logic.remedies import job_remedies
from ..services.connection import CONNECTION
from ..services.performing import PERFORMING
from ..services.pictures import PICTURES, folded
from ..services.synthesis import SYNTHESIS
from ..services.training import chosen_capture
from .drawing import STATE_ICONS, duration, held_by_another, job_title, numbers, waits_for_room, wrapped
from .panels_track import draw_live, draw_track
from .parts import sidebar_part

SHOWN_JOBS = 8
RESUMED_FROM = {
    "online": ("paused",),
    "train": ("paused", "failed", "cancelled"),
    "edit": ("paused", "failed", "cancelled"),
    "track": ("failed", "cancelled"),
}
FINDING_ICONS = {"ok": "CHECKMARK", "doubtful": "QUESTION", "bad": "ERROR"}


class EFFIGY_PT_train(sidebar_part("train"), bpy.types.Panel):
    """Choose a capture, check it, train an avatar from it and watch it learn"""

    def draw_part(self, context: Any) -> None:
        """Draw the form for a new training and the newest jobs."""
        layout, state = self.layout, CONNECTION.state
        self._draw_capture(context, state)
        draw_track(layout, context, state)
        self._draw_settings(context, state)
        row = layout.row(align=True)
        row.operator("effigy.start_training", text="Train", icon="PLAY")
        row.operator("effigy.start_live", icon="REC")
        draw_live(layout, context, state)
        self._draw_synthesis(context)
        for job in state.jobs[:SHOWN_JOBS] if state is not None else ():
            self._draw_job(context, state, job)
        if state is not None and len(state.jobs) > SHOWN_JOBS:
            layout.label(text=f"and {len(state.jobs) - SHOWN_JOBS} older jobs")

    def _draw_capture(self, context: Any, state: LinkState | None) -> None:
        training, window = context.scene.effigy.training, context.window_manager.effigy_panels
        column = self.layout.column()
        column.use_property_split = True
        column.prop(training, "source")
        column.prop(training, "capture" if training.source == "EMBEDDED" else "folder")
        capture = chosen_capture(training)
        if state is not None and training.source == "EMBEDDED" and state.presets is not None:
            about = state.presets.captures.get(capture)
            wrapped(self.layout, context, about or f"The backend has no capture {capture!r}")
        job = None
        if state is not None and window.check_of == capture:
            job = next((item for item in state.jobs if item.job_id == window.check_job), None)
        if job is None or job.state not in ("queued", "running"):
            self.layout.operator("effigy.check_capture", icon="VIEWZOOM")
        if job is not None:
            self._draw_check(context, state, job)

    def _draw_check(self, context: Any, state: LinkState, job: messages.JobInfo) -> None:
        box = self.layout.box()
        waits = {"queued": "Waits for its turn", "running": "Looks at some of its pictures"}
        wrapped(
            box,
            context,
            job.message or waits.get(job.state, job.state.capitalize()),
            icon=STATE_ICONS.get(job.state, "QUESTION"),
        )
        for finding in job.findings:
            if finding.state != "ok" or finding.name == "recognised":
                icon = FINDING_ICONS.get(finding.state, "QUESTION")
                text = finding.found if finding.name == "recognised" else f"{finding.name}: {finding.found}"
                wrapped(box, context, text, icon=icon)
                if finding.do:
                    wrapped(box, context, finding.do, icon="BLANK1")
        if any(finding.name == "mendable" for finding in job.findings):
            box.operator("effigy.check_capture", text="Fix", icon="MODIFIER").fix = True
        preview = state.previews.get(job.job_id)
        if preview is not None:
            box.template_icon(PICTURES.icon(f"job {job.job_id}", preview.step, folded(preview.image)), scale=9)

    def _draw_settings(self, context: Any, state: LinkState | None) -> None:
        training = context.scene.effigy.training
        column = self.layout.column()
        column.use_property_split = True
        column.prop(training, "preset")
        if state is not None and state.presets is not None:
            method = state.presets.methods.get(training.preset)
            if method:
                wrapped(self.layout, context, f"Method: {method}")
            about = state.presets.presets.get(training.preset)
            wrapped(self.layout, context, about or f"The backend has no preset {training.preset!r}")
        column = self.layout.column()
        column.use_property_split = True
        column.prop(training, "name")
        column.prop(training, "gpus")

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

    def _draw_job(self, context: Any, state: LinkState, job: messages.JobInfo) -> None:
        if job.job_id in shown_elsewhere(context):
            return
        box = self.layout.box()
        row = box.row(align=True)
        job_title(row, job)
        held = held_by_another(job)
        self._draw_buttons(row, job, max(other.place for other in state.jobs), held=held)
        if job.state in UNFINISHED and job.steps:
            eta = f", {duration(job.eta_s)} left" if job.state == "running" and job.eta_s else ""
            box.progress(factor=min(1.0, job.step / job.steps), text=f"{job.step} / {job.steps}{eta}")
        if held:
            wrapped(box, context, f"Held by {job.owner}", icon="LOCKED")
            button = box.operator("effigy.change_job", text="Take Over")
            button.job_id, button.action = job.job_id, "take"
        if job.losses and job.state in UNFINISHED:
            wrapped(box, context, f"{numbers(job.losses)}; {job.images_per_s:.1f} images/s")
        if job.message and job.message.lower() != job.state:
            wrong = job.state == "failed" or job.stalled_s or waits_for_room(job)
            wrapped(box, context, job.message, icon="ERROR" if wrong else "NONE")
        if job.state == "failed" and job.kind == "train":
            self._draw_remedies(box, state, job)
        for finding in job.findings:
            wrapped(box, context, finding.found, icon="INFO")
        if job.state in UNFINISHED:
            self._draw_pictures(box, state, job)

    def _draw_remedies(self, box: Any, state: LinkState, job: messages.JobInfo) -> None:
        offered = state.presets.presets if state.presets is not None else {}
        row = box.row(align=True)
        for remedy in job_remedies(job.message, job.preset, offered):
            button = row.operator("effigy.mend_job", text=remedy.label, icon="MODIFIER")
            button.job_id, button.action, button.preset = job.job_id, remedy.action, remedy.preset

    def _draw_buttons(self, whole: Any, job: messages.JobInfo, last_place: int, *, held: bool) -> None:
        """held: another client holds the job, which would be refused to us."""
        row = whole.row(align=True)
        row.enabled = not held
        live, trains = job.kind == "online", job.kind in ("train", "edit", "online")
        for action, icon, states in (
            ("up", "TRIA_UP", ("queued",) if job.place > 1 else ()),
            ("down", "TRIA_DOWN", ("queued",) if 0 < job.place < last_place else ()),
            ("pause", "PAUSE", ("queued", "running") if trains else ()),
            ("resume", "PLAY", RESUMED_FROM.get(job.kind, ())),
            ("save", "FILE_TICK", ("running", "paused") if live else ()),
            ("stop", "SNAP_FACE", ("running", "paused") if live else ()),
            ("cancel", "X", UNFINISHED),
            ("remove", "TRASH", ("done", "failed", "cancelled")),
        ):
            if job.state in states:
                button = row.operator("effigy.change_job", text="", icon=icon)
                button.job_id, button.action = job.job_id, action
        row = whole
        if job.avatar_id and (live or job.state == "done"):
            row.operator("effigy.add_avatar", text="", icon="ADD").avatar_id = job.avatar_id
        if job.report_folder:
            row.operator("effigy.open_folder", text="", icon="FILE_FOLDER").folder = job.report_folder
        if job.state == "failed" and trains:
            row.operator("effigy.backend_log", text="", icon="TEXT").job_id = job.job_id

    def _draw_pictures(self, box: Any, state: LinkState, job: messages.JobInfo) -> None:
        """The newest preview, and how the numbers went."""
        preview, curve = state.previews.get(job.job_id), state.curves.get(job.job_id)
        if preview is not None:
            box.template_icon(PICTURES.icon(f"job {job.job_id}", preview.step, preview.image), scale=8)
        if curve is None or len(curve.steps) < 2:
            return
        picture = curve_image.curve_picture(curve.names, curve.steps, curve.values)
        version = f"{len(curve.steps)} {curve.steps[-1]}"
        icon = PICTURES.icon(f"curve {job.job_id}", version, picture)
        if icon:
            column = box.column(align=True)
            column.template_icon(icon, scale=7)
            for name, (first, last) in curve_image.ranges(curve.names, curve.values).items():
                text = (
                    f"PSNR {first:.1f} to {last:.1f} dB"
                    if name == curve_image.PSNR
                    else f"{name} {first:.4g} to {last:.4g}"
                )
                column.label(text=f"{text} (steps {curve.steps[0]} to {curve.steps[-1]})")


def shown_elsewhere(context: Any) -> tuple[str, ...]:
    """Jobs that stand beside what they are of: the check of the capture, the tracking, the face that is followed."""
    window = context.window_manager.effigy_panels
    return window.check_job, window.track_job, PERFORMING.job_id


CLASSES = (EFFIGY_PT_train,)
