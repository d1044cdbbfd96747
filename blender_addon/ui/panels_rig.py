"""Inside Animate: what the selected avatar's rig shows, its IK controls, and its proxy in other engines' renders."""

from __future__ import annotations

from typing import Any

import bpy

from ..services import rig_ik, rig_shapes
from ..services.rig_info import avatar_of
from .panels_face import OfAvatar
from .parts import sidebar_child


class EFFIGY_PT_rig(OfAvatar, sidebar_child("EFFIGY_PT_animate", "Rig", order=3), bpy.types.Panel):
    """Bones, controls and proxy of the selected avatar"""

    def draw_part(self, context: Any) -> None:
        """Draw them."""
        layout, avatar = self.layout, avatar_of(context.object)
        shown = [c for c in avatar.data.collections if c.name in rig_shapes.ALL_COLLECTIONS[:-1]]
        if shown:
            grid = layout.grid_flow(columns=3, align=True)
            for collection in shown:
                grid.prop(collection, "is_visible", text=collection.name, toggle=True)
        column = layout.column(align=True)
        for limb in rig_ik.controlled(avatar):
            constraint = rig_ik.constraint_of(avatar, limb)
            if constraint is not None:
                column.prop(constraint, "influence", text=f"{limb.label} IK", slider=True)
        if rig_ik.limbs_of(avatar):
            row = layout.row(align=True)
            row.operator("effigy.add_ik", icon="CON_KINEMATIC")
            row.operator("effigy.remove_ik", text="", icon="X")
        layout.prop(avatar.effigy, "proxy_role", text="Proxy")


CLASSES = (EFFIGY_PT_rig,)
