"""Sidebar panel: Backend."""

from __future__ import annotations

import textwrap
from typing import Any

import bpy

from ..logic.faults import GUARDS
from ..logic.link import LinkState
from ..logic.remedies import remedy_for
from ..logic.report import memory_text
from ..services.backend import BACKEND
from ..services.connection import CONNECTION
from ..services.preferences import preferences, settings
from .drawing import counted, duration, wrapped
from .parts import sidebar_part

NOTICE_LETTERS = 260


class EFFIGY_PT_backend(sidebar_part("backend"), bpy.types.Panel):
    """Where the backend is and how it is"""

    def draw_part(self, context: Any) -> None:
        """Draw messages, address, buttons and state."""
        state = CONNECTION.state
        self._draw_notice(context)
        self._draw_address(context, state)
        self._draw_buttons(context, state)
        self._draw_state(context, state)
        row = self.layout.row(align=True)
        row.operator("effigy.backend_log", text="Log", icon="TEXT")
        row.operator("effigy.copy_report", text="Copy Report", icon="COPYDOWN")

    def _draw_notice(self, context: Any) -> None:
        for name, problem in GUARDS.stopped().items():
            box = self.layout.box()
            wrapped(box, context, f"{name} stopped: {problem}", icon="ERROR")
            box.operator("effigy.retry", icon="FILE_REFRESH").name = name
        notice = GUARDS.log.notice
        if notice is not None:
            box = self.layout.box()
            row = box.row()
            told = textwrap.shorten(
                f"{notice.where}: {notice.sentence}", NOTICE_LETTERS, placeholder=" …"
            )  # all: Details
            wrapped(row.column(), context, told, icon="ERROR", indent=60)
            row.operator("effigy.dismiss", text="", icon="X", emboss=False)
            row = box.row(align=True)
            _draw_remedy(row, notice.sentence)
            row.operator("effigy.show_log", text="Details", icon="TEXT")

    def _draw_address(self, context: Any, state: LinkState | None) -> None:
        column, stored = self.layout.column(align=True), preferences()
        row = column.row(align=True)
        row.prop(context.scene.effigy, "address", text="", placeholder=settings(context.scene).address)
        row.operator("effigy.preferences", text="", icon="PREFERENCES")
        if stored is not None and (state is None or not state.connected or stored.key):
            row = column.row(align=True)
            row.label(text="Key")
            row.prop(stored, "key", text="")

    def _draw_buttons(self, context: Any, state: LinkState | None) -> None:
        row = self.layout.row(align=True)
        if state is None or state.address != settings(context.scene).address:  # another one has been typed
            row.operator("effigy.connect", icon="LINKED")
        else:
            row.operator("effigy.disconnect", icon="UNLINKED")
            row.operator("effigy.connect", text="", icon="FILE_REFRESH")
        if BACKEND.process is not None and BACKEND.process.running:
            row.operator("effigy.stop_backend", icon="SNAP_FACE")
        elif state is None or not state.connected:
            row.operator("effigy.start_backend", icon="PLAY")

    def _draw_state(self, context: Any, state: LinkState | None) -> None:
        layout = self.layout
        if state is None:
            layout.label(text="Not connected", icon="RADIOBUT_OFF")
        elif state.connected and state.welcome is not None:
            column, health = layout.column(align=True), state.health
            column.label(text=f"Connected to {state.address.partition('://')[2]}", icon="RADIOBUT_ON")
            device = health.device if health is not None else state.welcome.device
            wrapped(
                column, context, f"{device} ({health.rasteriser if health else state.welcome.rasteriser})", "BLANK1"
            )
            if health is not None and health.memory_total_bytes:
                used = health.memory_used_bytes / health.memory_total_bytes
                text = memory_text(health.memory_used_bytes, health.memory_total_bytes)
                column.progress(factor=min(1.0, used), text=f"Memory {text}")
            grid = layout.column(align=True)
            _row(grid, "Latency", f"{state.latency_ms:.1f} ms")
            if health is not None:
                waiting = (counted(health.renders_waiting, "picture"), counted(health.jobs_waiting, "job"))
                _row(grid, "Waiting", ", ".join(waiting))
                _row(grid, "Running", counted(health.jobs_running, "job"))
                _row(grid, "Up for", duration(health.up_s))
            _row(grid, "Version", state.welcome.version)
        elif state.status == "connecting":
            layout.label(text=f"Looking for {state.address.partition('://')[2]}", icon="SORTTIME")
        else:
            wrapped(layout, context, state.problem, icon="ERROR")
            ended = BACKEND.process is not None and not BACKEND.process.running
            words = BACKEND.process.last_line().removeprefix("effigy: ") if ended else ""
            if words:
                wrapped(layout, context, f"The one started here ended: {words}", icon="BLANK1")
            _draw_remedy(layout, words or state.problem, besides="effigy.start_backend")


def _draw_remedy(layout: Any, sentence: str, besides: str = "") -> None:
    """A button where something can be done about it. besides: an operator whose button is there already."""
    remedy = remedy_for(sentence)
    if remedy is not None and remedy.operator != besides:
        layout.operator(remedy.operator, text=remedy.label, icon="MODIFIER")


def _row(layout: Any, name: str, value: str) -> None:
    split = layout.split(factor=0.35)
    split.label(text=name)
    split.label(text=value)


CLASSES = (EFFIGY_PT_backend,)
