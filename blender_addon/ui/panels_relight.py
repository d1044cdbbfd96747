"""Sidebar panel: Relight."""

from __future__ import annotations

from typing import Any

import bpy

from .._shared import errors
from ..logic.passes import SURFACE_PASSES
from ..services import world_read
from ..services.connection import CONNECTION
from ..services.rig_info import avatar_of
from .drawing import wrapped
from .parts import sidebar_child, sidebar_part

SHADED = "{} holds materials: light is shaded on it, with shine, and its own body hides lamps and sky from it"
ESTIMATE = "{} holds colours, not materials: new light on it is an estimate, matt and without shadows"
NOT_LIT = "avatars keep the light they were captured in"
OF_COLOURS = ("albedo", "diffuse")
"""Surface passes that say something of avatars without materials, too."""


class EFFIGY_PT_relight(sidebar_part("relight"), bpy.types.Panel):
    """The light avatars stand in"""

    def draw_part(self, context: Any) -> None:
        """Draw how the selected avatar takes light, what shines on the avatars, and its controls."""
        layout, scene = self.layout, context.scene
        avatar = avatar_of(context.object)
        if avatar is not None:
            holds = relightable(avatar)
            note = layout.column()
            note.enabled = holds
            text, icon = (SHADED, "MATERIAL") if holds else (ESTIMATE, "INFO")
            wrapped(note, context, text.format(avatar.name), icon=icon)
        follows = avatar is None or avatar.effigy_light.light == "SCENE"
        column = layout.column()
        column.use_property_split = True
        if avatar is not None:
            column.prop(avatar.effigy_light, "light", text="This Avatar")
        if not follows:
            self._draw_light(context, avatar.effigy_light.light, avatar.effigy_light)
            layout.separator()
            column = layout.column()
            column.use_property_split = True
        column.prop(scene.effigy, "light", text="Scene" if follows else "Other Avatars")
        if follows:
            self._draw_light(context, scene.effigy.light, scene.effigy_relight)
        layout.prop(scene.render, "film_transparent", text="Transparent Background")

    def _draw_light(self, context: Any, choice: str, own: Any) -> None:
        """The controls of one choice of light: the scene's, or an avatar's own."""
        row = self.layout.row(align=True)
        row.operator_menu_enum("effigy.studio_light", "light", text="Blender's HDRIs", icon="WORLD")
        row.operator("effigy.open_hdri", text="", icon="FILE_FOLDER")
        lit = False
        if choice != "CAPTURED":
            lit = self._draw_own(context, own) if choice == "OWN" else self._draw_world(context, choice)
        column = self.layout.column()
        column.use_property_split = True
        column.enabled = lit
        column.prop(own, "exposure")
        self._draw_lamps(context, column, choice, own, lit)

    def _draw_lamps(self, context: Any, column: Any, choice: str, own: Any, lit: bool) -> None:
        count, scene = shining(context), context.scene.effigy_relight
        row = column.row()
        row.enabled = own == scene or scene.use_lamps
        row.prop(own, "use_lamps", text=f"Scene Lights ({count})")
        if count and not lit and choice == "AUTO":
            wrapped(self.layout, context, "Choose World above to have them light the avatars", icon="LIGHT")
        if count and lit and own != scene and not scene.use_lamps:
            wrapped(self.layout, context, "The scene's lights are switched off for all avatars", icon="LIGHT")

    def _draw_own(self, context: Any, own: Any) -> bool:
        self.layout.template_ID(own, "image", open="image.open")
        if own.image is None:
            wrapped(self.layout, context, f"Choose an HDRI; until then {NOT_LIT}", icon="INFO")
            return False
        column = self.layout.column()
        column.use_property_split = True
        column.prop(own, "rotation")
        column.prop(own, "strength")
        return True

    def _draw_world(self, context: Any, choice: str) -> bool:
        scene = context.scene
        try:
            world = world_read.read_world(scene.world, world_read.MapCache(load=False))
        except errors.EffigyError as error:
            wrapped(self.layout, context, str(error), icon="ERROR")
            return False
        if world.problem:
            wrapped(self.layout, context, world.problem, icon="ERROR")
            return False
        if world.light is None or (choice == "AUTO" and not world.light.is_image):
            wrapped(self.layout, context, f"The World has no image: {NOT_LIT}, without lamps", icon="INFO")
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


class EFFIGY_PT_relight_passes(sidebar_child("EFFIGY_PT_relight", "Surface Passes"), bpy.types.Panel):
    """What final pictures tell of surfaces and light"""

    def draw_part(self, context: Any) -> None:
        """Draw a switch for each; those that need materials are greyed for an avatar without."""
        avatar = avatar_of(context.object)
        holds = avatar is None or relightable(avatar)
        grid = self.layout.grid_flow(columns=2, align=True)
        for name in SURFACE_PASSES:
            cell = grid.row(align=True)
            cell.enabled = holds or name in OF_COLOURS
            cell.prop(context.view_layer.effigy, f"use_pass_{name}", toggle=True)
        if not holds:
            wrapped(self.layout, context, f"{avatar.name} holds no materials: the greyed ones are empty", icon="INFO")
        if context.scene.render.engine != "EFFIGY":
            wrapped(self.layout, context, "The Effigy engine's passes; this scene is rendered by another engine")


def relightable(avatar: Any) -> bool:
    """Whether an avatar's armature stands for one with materials: by the backend where that is known, else the file."""
    own, state = avatar.data.effigy, CONNECTION.state
    for known in state.avatars if state is not None else ():
        if known.avatar_id == own.avatar_id:
            return bool(known.relightable)
    return bool(own.relightable)


def shining(context: Any) -> int:
    """How many lights the scene shows."""
    if not bpy.data.lights:
        return 0
    return sum(item.type == "LIGHT" and item.visible_get() for item in context.view_layer.objects)


CLASSES = (EFFIGY_PT_relight, EFFIGY_PT_relight_passes)
