"""Sidebar panel: Animate."""

from __future__ import annotations

from typing import Any

import bpy

from ..services.connection import CONNECTION
from ..services.rig_info import avatar_of, proxy_of
from .drawing import wrapped
from .parts import sidebar_part


class EFFIGY_UL_expressions(bpy.types.UIList):
    """Sliders of an avatar's expressions, with a filter by name"""

    def draw_item(
        self, context: Any, layout: Any, data: Any, item: Any, icon: Any, active_data: Any, active_property: Any
    ) -> None:
        """Draw one slider."""
        layout.prop(item, "value", text=item.name, slider=True)

    def filter_items(self, context: Any, data: Any, property_name: str) -> tuple[list[int], list[int]]:
        """The names that match, without the neutral shape the others start from."""
        keys = getattr(data, property_name)
        shown = self.bitflag_filter_item
        flags = bpy.types.UI_UL_list.filter_items_by_name(self.filter_name, shown, keys, "name")
        flags = flags or [shown] * len(keys)
        flags[keys.find(data.reference_key.name)] &= ~shown
        return flags, []


class EFFIGY_PT_animate(sidebar_part("animate"), bpy.types.Panel):
    """Pose and key the selected avatar"""

    def draw_part(self, context: Any) -> None:
        """Draw the selected avatar's controls."""
        layout = self.layout
        avatar = avatar_of(context.object)
        if avatar is None:
            layout.label(text="Select an avatar")
            return
        layout.label(text=avatar.data.effigy.avatar_name or avatar.name, icon="OUTLINER_OB_ARMATURE")
        known = CONNECTION.state.avatars if CONNECTION.state is not None else ()
        if any(a.avatar_id == avatar.data.effigy.avatar_id and a.digest != avatar.data.effigy.digest for a in known):
            wrapped(layout, context, "The backend has another version of this avatar", icon="ERROR")
            layout.operator("effigy.relink", icon="FILE_REFRESH")
        row = layout.row(align=True)
        row.operator("effigy.captured_pose")
        row.operator("effigy.rest_pose")
        row = layout.row(align=True)
        for what, text in (("ALL", "Key All"), ("POSE", "Key Pose"), ("FACE", "Key Face")):
            row.operator("effigy.key", text=text, icon="KEY_HLT" if what == "ALL" else "NONE").what = what
        proxy = proxy_of(avatar)
        if proxy is None or proxy.data.shape_keys is None:
            wrapped(layout, context, "Its proxy mesh was deleted, and the expressions with it", icon="ERROR")
        else:
            layout.label(text="Expressions")
            keys = proxy.data.shape_keys
            layout.template_list(
                EFFIGY_UL_expressions.__name__, "", keys, "key_blocks", proxy, "active_shape_key_index", rows=8
            )
        layout.operator("effigy.demo_animation", icon="PLAY")


CLASSES = (
    EFFIGY_UL_expressions,
    EFFIGY_PT_animate,
)
