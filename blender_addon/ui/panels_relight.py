"""Sidebar panel: Relight."""

from __future__ import annotations

from typing import Any

import bpy

from .._shared import errors
from ..services import world_read
from .drawing import wrapped
from .parts import sidebar_part


class EFFIGY_PT_relight(sidebar_part("relight"), bpy.types.Panel):
    """The light avatars stand in"""

    def draw_part(self, context: Any) -> None:
        """Draw what shines on the avatars."""
        layout, scene = self.layout, context.scene
        layout.prop(scene.effigy, "light")
        layout.operator_menu_enum("effigy.studio_light", "light", icon="WORLD")
        try:
            world = world_read.read_world(scene.world, world_read.MapCache(load=False))
        except errors.EffigyError as error:
            wrapped(layout, context, str(error), icon="ERROR")
            return
        if world.problem:
            wrapped(layout, context, world.problem, icon="ERROR")
        elif scene.effigy.light == "CAPTURED" or world.light is None:
            wrapped(layout, context, "Avatars keep the light they were captured in")
        elif scene.effigy.light == "AUTO" and not world.light.is_image:
            wrapped(layout, context, "The World has no image: avatars keep the light they were captured in")
        else:
            wrapped(layout, context, "The World lights the avatars; its rotation and strength can be keyed")
            self._draw_nodes(layout, scene.world)
        wrapped(layout, context, "Coming: light from lamps, and avatars with materials of their own")

    def _draw_nodes(self, layout: Any, world: Any) -> None:
        column = layout.column()
        column.use_property_split = True
        for node in world.node_tree.nodes if world.node_tree else ():
            if node.type == "MAPPING" and not node.inputs["Rotation"].is_linked:
                column.prop(node.inputs["Rotation"], "default_value", index=2, text="Rotation")
            if node.type == "TEX_ENVIRONMENT":
                column.template_ID(node, "image", open="image.open")
            if node.type == "BACKGROUND" and node.inputs["Color"].is_linked and not node.inputs["Strength"].is_linked:
                column.prop(node.inputs["Strength"], "default_value", text="Strength")


CLASSES = (EFFIGY_PT_relight,)
