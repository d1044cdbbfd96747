"""Sidebar panel: Library."""

from __future__ import annotations

from typing import Any

import bpy

from .._shared import messages
from ..logic.link import LIVE, LinkState
from ..services.connection import CONNECTION
from ..services.pictures import PICTURES
from ..services.rig_info import avatar_of
from .drawing import held_out, wrapped
from .parts import sidebar_part

THUMBNAIL_SCALE = 3.4
NOT_SHOWN = ("Name", "Held-out quality")
"""Facts that stand above the others already."""


class EFFIGY_PT_library(sidebar_part("library"), bpy.types.Panel):
    """Avatars the backend has"""

    def draw_part(self, context: Any) -> None:
        """Draw one box per avatar, and the trash."""
        layout, state, window = self.layout, CONNECTION.state, context.window_manager.effigy_panels
        if state is None or not state.connected:
            layout.label(text="Connect to see avatars", icon="UNLINKED")
            return
        row = layout.row(align=True)
        row.prop(window, "library_filter", text="", icon="VIEWZOOM")
        row.operator("effigy.refresh", text="", icon="FILE_REFRESH")
        row.operator("effigy.import_avatar", text="", icon="IMPORT")
        if not state.avatars:
            wrapped(layout, context, "No avatars yet: train one (Capture & Train) or import one")
        wanted = window.library_filter.lower()
        matching = [avatar for avatar in state.avatars if wanted in (avatar.name or avatar.avatar_id).lower()]
        for avatar in matching[: window.library_shown]:
            self._draw_avatar(context, state, avatar)
        if len(matching) > window.library_shown:
            layout.operator("effigy.show_more_avatars", text=f"{len(matching) - window.library_shown} more")
        self._draw_trash(context, state)

    def _draw_avatar(self, context: Any, state: LinkState, avatar: messages.AvatarSummary) -> None:
        window, info = context.window_manager.effigy_panels, state.infos.get(avatar.avatar_id)
        selected = avatar_of(context.object)
        here = selected is not None and selected.data.effigy.avatar_id == avatar.avatar_id
        opened = window.avatar_open == avatar.avatar_id
        box = self.layout.box()
        row = box.row()
        icon = PICTURES.icon(f"avatar {avatar.avatar_id}", avatar.digest[:16], info.preview) if info else 0
        if icon:
            row.template_icon(icon, scale=THUMBNAIL_SCALE)
        column = row.column(align=True)
        head = column.row()
        mark = "ERROR" if avatar.problem else "RESTRICT_SELECT_OFF" if here else "NONE"
        head.label(text=avatar.name or avatar.avatar_id, icon=mark)
        fold = head.operator(
            "effigy.show_avatar", text="", icon="DISCLOSURE_TRI_DOWN" if opened else "INFO", emboss=False
        )
        fold.avatar_id = avatar.avatar_id
        method = avatar.method.replace("_", " ")
        column.label(text="learning" if avatar.avatar_id.startswith(LIVE) else method)
        if avatar.metrics:
            wrapped(column, context, held_out(avatar.metrics), indent=75 if icon else 10)
        button = column.row()
        button.enabled = not avatar.problem
        button.operator("effigy.add_avatar", icon="ADD").avatar_id = avatar.avatar_id
        if avatar.problem:
            wrapped(box, context, avatar.problem)
        if opened:
            self._draw_facts(context, box, avatar, dict(info.facts) if info else {})

    def _draw_facts(self, context: Any, box: Any, avatar: messages.AvatarSummary, facts: dict[str, str]) -> None:
        facts = facts or {"Licence": avatar.licence or "not stated"}
        column = box.column(align=True)
        for name, value in facts.items():
            if name not in NOT_SHOWN:
                wrapped(column, context, f"{name.removeprefix('From: ').capitalize()}: {value}")
        row = box.row(align=True)
        for operator, text, icon in (
            ("effigy.rename_avatar", "Rename", "GREASEPENCIL"),
            ("effigy.mark_asset", "Asset", "ASSET_MANAGER"),
            ("effigy.trash_avatar", "", "TRASH"),
        ):
            row.operator(operator, text=text, icon=icon).avatar_id = avatar.avatar_id

    def _draw_trash(self, context: Any, state: LinkState) -> None:
        if not state.trash:
            return
        window = context.window_manager.effigy_panels
        icon = "DISCLOSURE_TRI_DOWN" if window.trash_open else "DISCLOSURE_TRI_RIGHT"
        self.layout.prop(window, "trash_open", text=f"Trash ({len(state.trash)})", icon=icon, emboss=False)
        if not window.trash_open:
            return
        column = self.layout.column(align=True)
        for entry in state.trash[: window.library_shown]:
            row = column.row(align=True)
            row.label(text=f"{entry.name}, {entry.created[:10]}")
            row.operator("effigy.restore_avatar", text="", icon="LOOP_BACK").avatar_id = entry.avatar_id
            row.operator("effigy.purge_avatar", text="", icon="X").avatar_id = entry.avatar_id


CLASSES = (EFFIGY_PT_library,)
