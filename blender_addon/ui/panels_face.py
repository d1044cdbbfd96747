"""Inside Animate: sliders of the selected avatar's expressions by region of the face, and of its visemes."""

from __future__ import annotations

from typing import Any

import bpy

from ..logic import visemes
from ..logic.expression_groups import OTHERS, Row, rows_by_group
from ..services.rig_info import avatar_of, proxy_of, rig_of
from .drawing import wrapped
from .operators_rig import VISEME_GROUP
from .parts import sidebar_child

OPEN_AT_FIRST = ("Brows", "Eyes", "Mouth")


class OfAvatar:
    """Inner parts that need an avatar."""

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Hidden without one: the part around them says to select one."""
        return avatar_of(context.object) is not None


class EFFIGY_PT_face(
    OfAvatar, sidebar_child("EFFIGY_PT_animate", "Expressions", order=5, opened=True), bpy.types.Panel
):
    """The face of the selected avatar"""

    def draw_part(self, context: Any) -> None:
        """Draw search field, buttons and the groups."""
        layout, avatar = self.layout, avatar_of(context.object)
        proxy = proxy_of(avatar)
        if proxy is None or proxy.data.shape_keys is None:
            wrapped(layout, context, "Its proxy mesh was deleted, and the expressions with it", icon="ERROR")
            return
        state = context.window_manager.effigy
        row = layout.row(align=True)
        row.prop(state, "expression_filter", text="", icon="VIEWZOOM")
        _buttons(row, "")
        blocks = proxy.data.shape_keys.key_blocks
        groups = rows_by_group(rig_of(avatar).expression_names, state.expression_filter)
        if not groups:
            wrapped(layout, context, "No expression has that in its name")
        for group, rows in groups.items():
            if state.expression_filter:
                body = layout.column(align=True)
            else:
                header, body = layout.panel(
                    f"effigy_face_{group}", default_closed=group not in (*OPEN_AT_FIRST, OTHERS)
                )
                header.label(text=group)
                _buttons(header.row(align=True), group)
            if body is not None:
                column = body.column(align=True)
                for line in rows:
                    _sliders(column, blocks, line)


class EFFIGY_PT_visemes(OfAvatar, sidebar_child("EFFIGY_PT_animate", "Visemes", order=4), bpy.types.Panel):
    """The fifteen standard mouth shapes of speech"""

    def draw_part(self, context: Any) -> None:
        """Draw a slider for each, with a word that has its sound."""
        layout, avatar = self.layout, avatar_of(context.object)
        proxy = proxy_of(avatar)
        if not visemes.speaks(rig_of(avatar).expression_names):
            wrapped(layout, context, "This avatar's expressions have no names to make visemes of")
            return
        if proxy is None or proxy.data.shape_keys is None or "viseme_aa" not in proxy.data.shape_keys.key_blocks:
            wrapped(layout, context, "This avatar was added without visemes: add it again to have them")
            return
        row = layout.row(align=True)
        row.label(text="Added to the expressions")
        _buttons(row, VISEME_GROUP)
        column = layout.column(align=True)
        for name, words in visemes.EXAMPLES.items():
            block = proxy.data.shape_keys.key_blocks.get(name)
            if block is not None:
                split = column.split(factor=0.3, align=True)
                split.label(text=name.removeprefix("viseme_"))
                split.prop(block, "value", text=words, slider=True)


def _buttons(row: Any, group: str) -> None:
    """Reset and key, for a group or for everything."""
    for action, icon in (("RESET", "LOOP_BACK"), ("KEY", "KEY_HLT")):
        properties = row.operator("effigy.face", text="", icon=icon)
        properties.action, properties.group = action, group


def _sliders(column: Any, blocks: Any, line: Row) -> None:
    split = column.split(factor=0.42, align=True)
    split.label(text=line.label)
    row = split.row(align=True)
    for name, side in zip(line.names, ("L", "R") if len(line.names) == 2 else ("",), strict=True):
        if name in blocks:
            row.prop(blocks[name], "value", text=side, slider=True)


CLASSES = (EFFIGY_PT_face, EFFIGY_PT_visemes)
