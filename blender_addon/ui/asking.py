"""Operators that ask the backend something and act on the answer, without blocking Blender's window."""

from __future__ import annotations

from typing import Any

import bpy

from .._shared import errors
from ..logic.faults import GUARDS
from ..services.connection import CONNECTION

POLL_S = 0.05


class AskingOperator:
    """Base of operators with a question: `message` says what to ask, `answered` what to do with the reply.

    With a window the question waits on the network thread while Blender goes on; Esc gives it up. In a script without a
    window it blocks. Every failure becomes a report of one sentence.
    """

    ask_timeout_s = 30.0
    _ticket: Any = None
    _timer: Any = None

    def message(self, context: Any) -> Any:
        """The message to send. May raise EffigyError."""
        raise NotImplementedError

    def answered(self, context: Any, reply: Any) -> None:
        """Act on the reply. May raise EffigyError."""
        raise NotImplementedError

    def execute(self, context: Any) -> set[str]:
        """Ask, and either wait as a modal operator or, without a window, block."""
        try:
            question = self.message(context)
            if bpy.app.background or context.window is None:
                self.answered(context, CONNECTION.ask_and_wait(question, self.ask_timeout_s))
                return {"FINISHED"}
        except errors.EffigyError as error:
            return self._failed(error)
        self._ticket = CONNECTION.ask(question, self.ask_timeout_s)
        self._timer = context.window_manager.event_timer_add(POLL_S, window=context.window)
        context.window_manager.modal_handler_add(self)
        context.workspace.status_text_set("Effigy: waiting for the backend (Esc gives up)")
        return {"RUNNING_MODAL"}

    def modal(self, context: Any, event: Any) -> set[str]:
        """Wait for the ticket."""
        if event.type == "ESC":
            self._ticket.cancel()
            self._end(context)
            self.report({"INFO"}, "Given up")
            return {"CANCELLED"}
        if event.type != "TIMER" or not self._ticket.done:
            return {"PASS_THROUGH"}
        self._end(context)
        try:
            self.answered(context, self._ticket.result())
        except errors.EffigyError as error:
            return self._failed(error)
        return {"FINISHED"}

    def cancel(self, context: Any) -> None:
        """Blender ends the operator, for example because a file is opened; or its dialog was closed, nothing asked."""
        if self._ticket is not None:
            self._ticket.cancel()
            self._end(context)

    def _end(self, context: Any) -> None:
        context.window_manager.event_timer_remove(self._timer)
        context.workspace.status_text_set(None)

    def _failed(self, error: errors.EffigyError) -> set[str]:
        GUARDS.log.add(self.bl_label, error)
        self.report({"ERROR"}, str(error))
        return {"CANCELLED"}
