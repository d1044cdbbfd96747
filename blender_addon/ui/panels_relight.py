"""Sidebar panel: Relight."""

from __future__ import annotations

from typing import Any

import bpy

from .._shared import errors
from ..services import scene_light, world_read
from .drawing import wrapped
from .parts import sidebar_part

ESTIMATE = "An estimate: diffuse light without shine. An avatar whose captured light is not known keeps its brightness"
NOT_LIT = "avatars keep the light they were captured in"


class EFFIGY_PT_relight(sidebar_part("relight"), bpy.types.Panel):
    """The light avatars stand in"""

    def draw_part(self, context: Any) -> None:
        """Draw what shines on the avatars, and its controls."""
        layout, scene = self.layout, context.scene
        layout.prop(scene.effigy, "light", expand=False)
        row = layout.row(align=True)
        row.operator_menu_enum("effigy.studio_light", "light", text="Blender's HDRIs", icon="WORLD")
        row.operator("effigy.open_hdri", text="", icon="FILE_FOLDER")
        choice = scene.effigy.light
        lit = self._draw_own(context) if choice == "OWN" else choice != "CAPTURED" and self._draw_world(context)
        column = layout.column()
        column.use_property_split = True
        column.enabled = bool(lit)
        column.prop(scene.effigy_relight, "exposure")
        wrapped(layout, context, ESTIMATE)

    def _draw_own(self, context: Any) -> bool:
        own = context.scene.effigy_relight
        self.layout.template_ID(own, "image", open="image.open")
        if own.image is None:
            wrapped(self.layout, context, f"Choose an HDRI; until then {NOT_LIT}", icon="INFO")
            return False
        column = self.layout.column()
        column.use_property_split = True
        column.prop(own, "rotation")
        column.prop(own, "strength")
        return True

    def _draw_world(self, context: Any) -> bool:
        scene = context.scene
        try:
            world = world_read.read_world(scene.world, world_read.MapCache(load=False))
        except errors.EffigyError as error:
            wrapped(self.layout, context, str(error), icon="ERROR")
            return False
        problem = scene_light.problem(scene, world)
        if problem:
            wrapped(self.layout, context, problem, icon="ERROR")
            return False
        if world.light is None or (scene.effigy.light == "AUTO" and not world.light.is_image):
            wrapped(self.layout, context, f"The World has no image: {NOT_LIT}", icon="INFO")
            return False
        wrapped(self.layout, context, "The World lights the avatars; its rotation and strength can be keyed")
        self._draw_nodes(scene.world)
        return True

    def _draw_nodes(self, world: Any) -> None:
        column = self.layout.column()
        column.use_property_split = True
        for node in world.node_tree.nodes if world.node_tree else ():
            if node.type == "TEX_ENVIRONMENT":
                self.layout.template_ID(node, "image", open="image.open")
        for node in world.node_tree.nodes if world.node_tree else ():
            if node.type == "MAPPING" and not node.inputs["Rotation"].is_linked:
                column.prop(node.inputs["Rotation"], "default_value", index=2, text="Rotation")
            if node.type == "BACKGROUND" and node.inputs["Color"].is_linked and not node.inputs["Strength"].is_linked:
                column.prop(node.inputs["Strength"], "default_value", text="Strength")


CLASSES = (EFFIGY_PT_relight,)
