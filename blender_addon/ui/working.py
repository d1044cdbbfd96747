"""Operators that work for seconds without freezing Blender's window: in small steps, with progress, stopped by Esc."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import bpy

from .._shared import errors

TICK_S = 0.01
SLICE_S = 0.05
"""How long steps may keep the window waiting between two redraws."""
Steps = Iterator[tuple[int, int]]


class WorkingOperator:
    """Base of operators whose work is a generator of (done, of) that may be closed at any time.

    With a window it runs beside Blender's events; in a script without one at once. Failures become one sentence.
    """

    doing = "working"

    def steps(self, context: Any) -> Steps:
        """The work. May raise EffigyError; everything it began must be undone where it is closed early."""
        raise NotImplementedError

    def finished(self, context: Any) -> None:
        """Tell about it."""

    def execute(self, context: Any) -> set[str]:
        """Begin; without a window also end."""
        self._steps = self.steps(context)
        if bpy.app.background or context.window is None:
            try:
                for _ in self._steps:
                    pass
            except errors.EffigyError as error:
                self.report({"ERROR"}, str(error))
                return {"CANCELLED"}
            self.finished(context)
            return {"FINISHED"}
        context.window_manager.progress_begin(0, 100)
        self._timer = context.window_manager.event_timer_add(TICK_S, window=context.window)
        context.window_manager.modal_handler_add(self)
        self._tell(context, 0)
        return {"RUNNING_MODAL"}

    def modal(self, context: Any, event: Any) -> set[str]:
        """Work a little."""
        if event.type == "ESC":
            self._steps.close()
            self._end(context)
            self.report({"INFO"}, "Stopped; nothing was changed")
            return {"CANCELLED"}
        if event.type != "TIMER":
            return {"RUNNING_MODAL"}
        until = time.monotonic() + SLICE_S
        try:
            while time.monotonic() < until:
                done, total = next(self._steps)
                self._tell(context, 100 * done // max(total, 1))
        except StopIteration:
            self._end(context)
            self.finished(context)
            return {"FINISHED"}
        except errors.EffigyError as error:
            self._end(context)
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        except BaseException:  # a fault of ours: Blender prints it, but must not be left with our timer
            self._end(context)
            raise
        return {"RUNNING_MODAL"}

    def cancel(self, context: Any) -> None:
        """Blender ends the operator, for example because a file is opened."""
        self._steps.close()
        self._end(context)

    def _tell(self, context: Any, percent: int) -> None:
        context.window_manager.progress_update(percent)
        context.workspace.status_text_set(f"Effigy: {self.doing}, {percent} % (Esc stops)")

    def _end(self, context: Any) -> None:
        context.window_manager.event_timer_remove(self._timer)
        context.window_manager.progress_end()
        context.workspace.status_text_set(None)
