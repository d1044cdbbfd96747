"""Small pieces all panels draw with."""

from __future__ import annotations

import textwrap
from typing import Any

from .._shared import messages, shared_module

PIXELS_PER_LETTER = 7.0
STATE_ICONS = {
    "queued": "TIME",
    "running": "PLAY",
    "paused": "PAUSE",
    "done": "CHECKMARK",
    "failed": "ERROR",
    "cancelled": "X",
}


def waits_for_room(job: messages.JobInfo) -> bool:
    """Whether it runs, but its disk is full."""
    return job.state == "running" and job.message.startswith(messages.NO_ROOM)


def held_by_another(job: messages.JobInfo) -> bool:
    """Whether another process holds it, so that what we ask of it would be refused."""
    return bool(job.owner) and shared_module("machine").whoami() not in job.owner


def job_title(row: Any, job: messages.JobInfo) -> None:
    """Its name, how it stands, and its place where it waits for its turn."""
    place = f", no. {job.place}" if job.place else ""
    if waits_for_room(job):
        row.label(text=f"{job.name}: waits for room", icon="DISK_DRIVE")
    else:
        row.label(text=f"{job.name}: {job.state}{place}", icon=STATE_ICONS.get(job.state, "QUESTION"))


def wrapped(layout: Any, context: Any, text: str, icon: str = "NONE", indent: int = 0) -> None:
    """A sentence over as many lines as the sidebar's width needs. indent: px that something else takes beside it."""
    scale = context.preferences.system.ui_scale or 1.0  # 0 where there is no window
    width = context.region.width if context.region is not None else 300
    letters = max(18, int((width - (50 + indent) * scale) / (PIXELS_PER_LETTER * scale)))
    column = layout.column(align=True)
    column.scale_y = 0.8
    for index, line in enumerate(textwrap.wrap(text, letters)):
        column.label(text=line, icon=icon if index == 0 else ("BLANK1" if icon != "NONE" else "NONE"))


def no_backend(layout: Any, context: Any, state: Any, capability: str, what: str) -> bool:
    """Say why a part that needs the backend cannot be used now, and return whether that is so.

    capability: one of the backend's; what: the part in words, such as 'Editing by text'.
    """
    if state is None or state.status == "lost":
        wrapped(layout, context, "Connect to a backend first (Backend, above)", icon="UNLINKED")
    elif not state.connected:
        wrapped(layout, context, "Looking for the backend", icon="SORTTIME")
    elif not state.can(capability):
        wrapped(layout, context, f"{what} is not in this version of the backend yet", icon="INFO")
    else:
        return False
    return True


def counted(count: int, what: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{count} {what}" + ("" if count == 1 else "s")


def duration(seconds: float) -> str:
    """`2 min 05 s` for a number of seconds."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def numbers(values: dict[str, float]) -> str:
    """`psnr 31.2, ssim 0.957` for a few named numbers."""
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def held_out(metrics: dict[str, float]) -> str:
    """How well an avatar shows frames it was not trained on: `PSNR 31.2 dB, SSIM 0.957`, with what is known of it."""
    forms = {"psnr_db": "PSNR {:.1f} dB", "ssim": "SSIM {:.3f}", "flip": "FLIP {:.3f}"}
    return ", ".join(form.format(metrics[name]) for name, form in forms.items() if name in metrics) or "not measured"
