"""A capture folder that was picked is recognised and checked by itself, as soon as a backend is there to do it.

The question goes out and its answer comes in by the panels' link; Blender's main thread only looks from time to time.
"""

from __future__ import annotations

import uuid
from typing import Any

import bpy

from .._shared import desk_messages, errors, messages
from ..logic.faults import GUARDS
from ..logic.link import Ticket
from .connection import CONNECTION, redraw_sidebars
from .training import chosen_capture

TICK_S, NO_BACKEND_S = 0.2, 1.0
PICTURES = 8
UNFINISHED = ("queued", "running")


class AutoCheck:
    """The folder that waits to be asked about, and the question that is under way."""

    def __init__(self) -> None:
        self.wanted = ""
        self._asked = ""
        self._ticket: Ticket | None = None

    def picked(self, scene: Any) -> None:
        """A folder was chosen in the Capture & Train part, or typed there. The newest counts."""
        training = scene.effigy.training
        self.wanted = chosen_capture(training) if training.source == "FOLDER" else ""
        if self.wanted and not bpy.app.background and not bpy.app.timers.is_registered(_tick):
            bpy.app.timers.register(_tick, first_interval=TICK_S)

    def tick(self) -> float | None:
        """Ask, or take the answer; the seconds until the next look, None once there is nothing to wait for."""
        if self._ticket is not None:
            if self._ticket.done:
                self._take()
            return TICK_S
        if not self.wanted:
            return None
        state = CONNECTION.state
        if state is None or not state.can("check"):
            return NO_BACKEND_S
        self._give_up_earlier(state)
        self._asked, self.wanted = self.wanted, ""
        self._ticket = CONNECTION.ask(desk_messages.StartCheck(uuid.uuid4().hex, self._asked, PICTURES))
        return TICK_S

    def stop(self) -> None:
        """Forget both."""
        self.wanted, self._ticket = "", None
        if bpy.app.timers.is_registered(_tick):
            bpy.app.timers.unregister(_tick)

    def _take(self) -> None:
        ticket, self._ticket = self._ticket, None
        try:
            reply = ticket.result()
        except errors.EffigyError as error:
            GUARDS.log.add("Check Capture", error)
            return
        window = bpy.context.window_manager.effigy_panels
        window.check_job, window.check_of = reply.job_id, self._asked
        redraw_sidebars()

    @staticmethod
    def _give_up_earlier(state: Any) -> None:
        """A check of another folder that still runs is in nobody's interest any more."""
        earlier = bpy.context.window_manager.effigy_panels.check_job
        if any(job.job_id == earlier and job.state in UNFINISHED for job in state.jobs):
            CONNECTION.ask(messages.ChangeJob(earlier, "cancel"))


AUTO_CHECK = AutoCheck()


def _tick() -> float | None:
    return GUARDS["capture check"].run(AUTO_CHECK.tick)  # type: ignore[no-any-return]


def register() -> None:
    """Nothing to set up: the timer runs while a folder waits."""


def unregister() -> None:
    """Take the timer away."""
    AUTO_CHECK.stop()
