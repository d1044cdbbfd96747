"""Operators: log and retry. (No `from __future__ import annotations`: Blender reads the properties.)"""

from typing import Any

import bpy
from bpy.props import StringProperty

from .._shared import desk_messages
from ..logic.faults import GUARDS
from ..logic.report import without_secrets
from ..services import log_text, report
from ..services.backend import BACKEND
from ..services.connection import CONNECTION
from ..services.preferences import settings
from .asking import AskingOperator


class EFFIGY_OT_retry(bpy.types.Operator):
    """Try again what stopped after failing several times"""

    bl_idname = "effigy.retry"
    bl_label = "Retry"

    name: StringProperty(options={"SKIP_SAVE"})

    def execute(self, context: Any) -> set[str]:
        """Let it be called again."""
        GUARDS.retry(self.name)
        CONNECTION.watch()
        return {"FINISHED"}


class EFFIGY_OT_show_log(bpy.types.Operator):
    """Write what went wrong into a text block and show it"""

    bl_idname = "effigy.show_log"
    bl_label = "Show Log"

    def execute(self, context: Any) -> set[str]:
        """Write and show it."""
        text = log_text.write(log_text.as_lines(GUARDS.log.newest()))
        return log_text_shown(self, context, text)


class EFFIGY_OT_backend_log(AskingOperator, bpy.types.Operator):
    """Write the end of the backend's log into a text block and show it"""

    bl_idname = "effigy.backend_log"
    bl_label = "Backend Log"

    job_id: StringProperty(options={"SKIP_SAVE"})

    def execute(self, context: Any) -> set[str]:
        """Ask for it, or read what a backend wrote that was started from here and does not answer."""
        state = CONNECTION.state
        if (state is None or not state.connected) and BACKEND.process is not None:
            return self._show(context, BACKEND.process.whole_log())
        return super().execute(context)

    def message(self, context: Any) -> Any:
        """The question."""
        return desk_messages.GetLog(self.job_id)

    def answered(self, context: Any, reply: Any) -> None:
        """Show it."""
        self._show(context, reply.text)

    def _show(self, context: Any, content: str) -> set[str]:
        content = without_secrets(content, [settings(context.scene).key])
        return log_text_shown(self, context, log_text.write(content, "Effigy Backend Log"))


class EFFIGY_OT_copy_report(bpy.types.Operator):
    """Copy a report to paste into an issue: versions, the backend's state and what went wrong last, without secrets"""

    bl_idname = "effigy.copy_report"
    bl_label = "Copy Report"

    def execute(self, context: Any) -> set[str]:
        """Put it on the clipboard and into a text block."""
        content = report.text(context.scene)
        log_text.write(content, "Effigy Report")
        context.window_manager.clipboard = content
        self.report({"INFO"}, "The report is on the clipboard and in the text 'Effigy Report'")
        return {"FINISHED"}


class EFFIGY_OT_dismiss(bpy.types.Operator):
    """Hide this message; the log keeps it"""

    bl_idname = "effigy.dismiss"
    bl_label = "Dismiss"

    def execute(self, context: Any) -> set[str]:
        """Hide it."""
        GUARDS.log.dismiss()
        return {"FINISHED"}


def log_text_shown(operator: Any, context: Any, text: Any) -> set[str]:
    """Show a text block in the open text editor, else in a window of its own; without a window report its name."""
    if bpy.app.background or context.window is None:
        operator.report({"INFO"}, f"Written to the text {text.name!r}")
        return {"FINISHED"}
    area = next((area for area in context.screen.areas if area.type == "TEXT_EDITOR"), None)
    if area is None:
        bpy.ops.wm.window_new()
        area = context.window_manager.windows[-1].screen.areas[0]
        area.type = "TEXT_EDITOR"
    area.spaces.active.text = text
    area.spaces.active.show_word_wrap = True
    return {"FINISHED"}


CLASSES = (EFFIGY_OT_retry, EFFIGY_OT_show_log, EFFIGY_OT_backend_log, EFFIGY_OT_copy_report, EFFIGY_OT_dismiss)
