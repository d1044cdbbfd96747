"""Sidebar panel: Render; and the engine's panels in the Properties editor."""

from __future__ import annotations

from typing import Any

import bpy

from ..engine import EffigyEngine
from .parts import sidebar_part


class EFFIGY_PT_render(sidebar_part("render"), bpy.types.Panel):
    """Final pictures"""

    def draw_part(self, context: Any) -> None:
        """Draw engine, passes and render buttons."""
        layout, scene = self.layout, context.scene
        if scene.render.engine != EffigyEngine.bl_idname:
            layout.operator("effigy.use_engine", icon="RENDER_STILL")
            return
        draw_render_settings(layout, context)
        draw_passes(layout, context)
        row = layout.row(align=True)
        row.operator("render.render", text="Image", icon="RENDER_STILL")
        row.operator("render.render", text="Animation", icon="RENDER_ANIMATION").animation = True


class EFFIGY_PT_render_properties(bpy.types.Panel):
    """The engine's settings in the Render tab"""

    bl_label = "Effigy"
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "render"
    COMPAT_ENGINES = {"EFFIGY"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Only for our engine."""
        return context.scene.render.engine in cls.COMPAT_ENGINES

    def draw(self, context: Any) -> None:
        """Draw them."""
        draw_render_settings(self.layout, context)


class EFFIGY_PT_pass_properties(bpy.types.Panel):
    """The engine's passes in the View Layer tab"""

    bl_label = "Passes"
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "view_layer"
    COMPAT_ENGINES = {"EFFIGY"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Only for our engine."""
        return context.scene.render.engine in cls.COMPAT_ENGINES

    def draw(self, context: Any) -> None:
        """Draw them."""
        draw_passes(self.layout, context)


def draw_render_settings(layout: Any, context: Any) -> None:
    """Quality, light, transparency, motion blur."""
    scene = context.scene
    column = layout.column()
    column.use_property_split = True
    column.prop(scene.effigy, "quality")
    column.prop(scene.effigy, "light")
    column.prop(scene.render, "film_transparent", text="Transparent")
    column.prop(scene.render, "use_motion_blur", text="Motion Blur")
    if scene.render.use_motion_blur:
        column.prop(scene.effigy, "motion_blur_samples", text="Samples")
        column.prop(scene.render, "motion_blur_shutter", text="Shutter")
        column.prop(scene.render, "motion_blur_position", text="Position")


def draw_passes(layout: Any, context: Any) -> None:
    """Switches of the passes the engine gives."""
    view_layer = context.view_layer
    grid = layout.grid_flow(columns=3, align=True)
    grid.prop(view_layer, "use_pass_z", text="Depth", toggle=True)
    grid.prop(view_layer.effigy, "use_pass_mask", text="Mask", toggle=True)
    grid.prop(view_layer, "use_pass_normal", text="Normal", toggle=True)
    grid.prop(view_layer.effigy, "use_pass_albedo", text="Albedo", toggle=True)
    grid.prop(view_layer.effigy, "use_pass_id", text="ID", toggle=True)


CLASSES = (
    EFFIGY_PT_render,
    EFFIGY_PT_render_properties,
    EFFIGY_PT_pass_properties,
)
