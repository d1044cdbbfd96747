"""A tracked video becomes the chosen capture as soon as its tracking is done."""

from __future__ import annotations

from typing import Any

import bpy

from ..logic.faults import GUARDS
from ..logic.link import UNFINISHED, LinkState
from .connection import CONNECTION

TICK_S = 0.3


def why_not(state: LinkState | None) -> str:
    """Why nothing can be tracked now, in one sentence; empty where it can."""
    if state is None or not state.connected:
        return "Connect to a backend first"
    if not state.can("track"):
        return "This backend cannot track yet: update it"
    return state.health.tracker if state.health is not None else "Asking the backend"


def job_of(state: LinkState | None, job_id: str) -> Any | None:
    """The job as it is listed, None where it is not."""
    return next((job for job in state.jobs if job.job_id == job_id), None) if state is not None and job_id else None


def watch() -> None:
    """Look from time to time whether the tracking is done."""
    if not bpy.app.background and not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, first_interval=TICK_S)


def choose_when_done(scene: Any, job: Any) -> bool:
    """Choose the capture of a tracking that is done, which has it checked; whether there is no more to wait for."""
    if job is None or job.state in UNFINISHED:
        return False
    if job.state == "done" and job.capture:
        training = scene.effigy.training
        training.source, training.folder = "FOLDER", job.capture
        if not training.name.strip():
            training.name = job.name.removeprefix("Track ").partition(".")[0]
    return True


def _look() -> float | None:
    job = job_of(CONNECTION.state, bpy.context.window_manager.effigy_panels.track_job)
    return None if choose_when_done(bpy.context.scene, job) else TICK_S


def _tick() -> float | None:
    return GUARDS["tracking"].run(_look)  # type: ignore[no-any-return]


def register() -> None:
    """Nothing to set up: the timer runs while a video is tracked."""


def unregister() -> None:
    """Take the timer away."""
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
