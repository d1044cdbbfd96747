"""Operators: log and retry. (No `from __future__ import annotations`: Blender reads the properties.)"""

from typing import Any

import bpy
from bpy.props import StringProperty

from ..logic.faults import GUARDS
from ..services import log_text


class EFFIGY_OT_retry(bpy.types.Operator):
    """Try again what stopped after failing several times"""

    bl_idname = "effigy.retry"
    bl_label = "Retry"

    name: StringProperty(options={"SKIP_SAVE"})

    def execute(self, context: Any) -> set[str]:
        """Let it be called again."""
        GUARDS.retry(self.name)
        return {"FINISHED"}


class EFFIGY_OT_show_log(bpy.types.Operator):
    """Write what went wrong into a text block and show it"""

    bl_idname = "effigy.show_log"
    bl_label = "Show Log"

    def execute(self, context: Any) -> set[str]:
        """Write and show it."""
        text = log_text.write(log_text.as_lines(GUARDS.log.newest()))
        return log_text_shown(self, context, text)


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


CLASSES = (EFFIGY_OT_retry, EFFIGY_OT_show_log)
