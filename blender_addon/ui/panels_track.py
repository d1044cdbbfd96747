"""Parts of Capture & Train: a video that becomes a capture, and a face that is followed live."""

from __future__ import annotations

from typing import Any

from ..logic.link import UNFINISHED, LinkState
from ..services.performing import PERFORMING
from ..services.pictures import PICTURES, folded
from ..services.rig_info import avatar_of
from ..services.tracking import job_of, why_not
from .drawing import wrapped

ICONS = {"ok": "CHECKMARK", "doubtful": "QUESTION", "bad": "ERROR"}
MOST_DOUBTS = 5


def draw_track(layout: Any, context: Any, state: LinkState | None) -> None:
    """The button that tracks a video, and how the newest one goes."""
    reason = why_not(state)
    row = layout.row()
    row.enabled = not reason
    row.operator("effigy.track_video", icon="FILE_MOVIE")
    job = job_of(state, context.window_manager.effigy_panels.track_job)
    if reason:
        wrapped(layout, context, reason, icon="INFO")
        if state is not None and state.can("track") and not (job is not None and job.state in UNFINISHED):
            layout.operator("effigy.make_tracker", icon="IMPORT")
    if job is not None and state is not None:
        _draw_job(layout.box(), context, state, job)


def _draw_job(box: Any, context: Any, state: LinkState, job: Any) -> None:
    row = box.row(align=True)
    row.label(text=job.name, icon="ERROR" if job.state == "failed" else "FILE_MOVIE")
    for action, icon, states in (
        ("resume", "PLAY", ("failed", "cancelled") if job.capture else ()),
        ("cancel", "X", UNFINISHED),
        ("remove", "TRASH", ("done", "failed", "cancelled")),
    ):
        if job.state in states:
            button = row.operator("effigy.change_job", text="", icon=icon)
            button.job_id, button.action = job.job_id, action
    if job.report_folder:
        row.operator("effigy.open_folder", text="", icon="FILE_FOLDER").folder = job.report_folder
    if job.state in UNFINISHED and job.steps:
        box.progress(
            factor=min(1.0, job.step / job.steps), text=f"{job.message or 'Tracking'}: {job.step} / {job.steps}"
        )
    else:
        wrapped(box, context, job.message or job.state.capitalize())
    preview = state.previews.get(job.job_id)
    if preview is not None:
        box.template_icon(PICTURES.icon(f"job {job.job_id}", preview.step, folded(preview.image)), scale=9)
    doubts = [finding for finding in job.findings if finding.state != "ok"]
    for finding in doubts[:MOST_DOUBTS]:
        wrapped(box, context, f"{finding.name.capitalize()}: {finding.found}", icon=ICONS[finding.state])
    if len(doubts) > MOST_DOUBTS:
        box.label(text=f"and {len(doubts) - MOST_DOUBTS} more, in the report")


def draw_live(layout: Any, context: Any, state: LinkState | None) -> None:
    """Source, purpose, start and stop; while it drives, the record button."""
    live, reason = context.scene.effigy_live, why_not(state)
    box = layout.box()
    box.label(text="Live", icon="CAMERA_DATA")
    running = PERFORMING.performer is not None
    column = box.column()
    column.use_property_split = True
    column.enabled = not reason and not running
    column.prop(live, "source")
    row = column.row()
    row.use_property_split = False  # beside a label the two would be cut off in a sidebar of usual width
    row.prop(live, "purpose", expand=True)
    column.prop(live, "focal_mm")
    if reason:
        wrapped(box, context, reason, icon="INFO")
        return
    if not running:
        if live.purpose == "DRIVE" and avatar_of(context.object) is None:
            wrapped(box, context, "Select the avatar that is to act", icon="INFO")
        elif live.purpose == "TRAIN" and not context.scene.effigy.training.name.strip():
            wrapped(box, context, "Name the new avatar above", icon="INFO")
        box.operator("effigy.follow_live", icon="PLAY")
        return
    job = job_of(state, PERFORMING.job_id)
    over = job is not None and job.state not in UNFINISHED
    told = job.message or job.state.capitalize() if job is not None else "Starting"
    wrapped(
        box, context, f"{PERFORMING.avatar_name}: {told}", icon="ERROR" if over and job.state == "failed" else "NONE"
    )
    column = box.column()
    column.use_property_split = True
    column.prop(live, "soften_s")
    column.prop(live, "tolerance")
    row = box.row(align=True)
    recording = PERFORMING.recording
    row.operator(
        "effigy.record_live",
        text="Stop Recording" if recording else "Record Keys",
        icon="SNAP_FACE" if recording else "REC",
    )
    row.operator("effigy.stop_following", icon="X")
