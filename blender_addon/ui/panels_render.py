"""Sidebar panel: Render; and the engine's panels in the Properties editor."""

from __future__ import annotations

import time
from typing import Any

import bpy

from .. import batch
from ..engine import EffigyEngine, wanted_mattes
from ..logic import shot_text
from ..logic.passes import SURFACE_PASSES
from ..services import camera_read, composite, frame_files, native_splats
from .drawing import wrapped
from .operators_render import batch_command
from .parts import sidebar_child, sidebar_part

MOST_FILES_LOOKED_AT = 500
LOOK_EVERY_S = 3.0
_looked: dict[str, Any] = {}


class EFFIGY_PT_render(sidebar_part("render"), bpy.types.Panel):
    """Final pictures"""

    def draw_part(self, context: Any) -> None:
        """Draw engine, what will be rendered, and the buttons that do."""
        layout, scene = self.layout, context.scene
        layout.prop(scene.render, "engine", text="")
        if scene.render.engine == EffigyEngine.bl_idname:
            draw_render_settings(layout, context)
        else:
            layout.operator("effigy.use_engine", icon="RENDER_STILL")
            wrapped(layout, context, "Or keep this engine and add the avatars to its picture:")
            draw_composite(layout, scene)
            if native_splats.has_kind():
                layout.operator("effigy.native_splats", icon="POINTCLOUD_DATA")
        wrapped(layout, context, shot_summary(scene), icon="RENDERLAYERS")
        row = layout.row(align=True)
        row.operator("render.render", text="Image", icon="RENDER_STILL")
        row.operator("render.render", text="Animation", icon="RENDER_ANIMATION").animation = True
        layout.operator("effigy.render_missing", icon="FILE_REFRESH")
        if hasattr(bpy.types, "EFFIGY_OT_playblast"):
            layout.operator("effigy.playblast", icon="FILE_MOVIE")


class EFFIGY_PT_render_passes(sidebar_child("EFFIGY_PT_render", "Passes", order=1), bpy.types.Panel):
    """What pictures hold beside colour"""

    def draw_part(self, context: Any) -> None:
        """Draw the switches."""
        if context.scene.render.engine == EffigyEngine.bl_idname:
            draw_passes(self.layout, context)
        else:
            wrapped(self.layout, context, "The Effigy engine's passes; this scene is rendered by another engine")


class EFFIGY_PT_render_farm(sidebar_child("EFFIGY_PT_render", "Farm", order=2), bpy.types.Panel):
    """Rendering without a window"""

    def draw_part(self, context: Any) -> None:
        """Draw the command and its button."""
        layout = self.layout
        if bpy.data.filepath:
            wrapped(layout, context, batch_command(context.scene))
        else:
            wrapped(layout, context, "Save the file to get the command that renders it without a window")
        layout.operator("effigy.copy_batch_command", icon="COPYDOWN")
        wrapped(layout, context, "EFFIGY_ADDRESS names the backend; a rerun renders only what is missing")


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


def _missing(scene: Any, frames: list[int]) -> int:
    """How many frames have no file; looked at every few seconds only, since the disk may be far away."""
    if len(frames) > MOST_FILES_LOOKED_AT or scene.render.is_movie_format:
        return len(frames)
    key = (scene.name, scene.render.filepath, tuple(frames), *EffigyEngine.recent_s)
    if _looked.get("key") != key or time.monotonic() - _looked["at_s"] > LOOK_EVERY_S:
        absent = (not any(path.is_file() for path in frame_files.frame_paths(scene, frame)) for frame in frames)
        _looked.update(key=key, at_s=time.monotonic(), missing=sum(absent))
    return int(_looked["missing"])


def draw_passes(layout: Any, context: Any) -> None:
    """Switches of the passes the engine gives."""
    view_layer = context.view_layer
    grid = layout.grid_flow(columns=3, align=True)
    grid.prop(view_layer, "use_pass_z", text="Depth", toggle=True)
    grid.prop(view_layer.effigy, "use_pass_mask", text="Mask", toggle=True)
    grid.prop(view_layer, "use_pass_normal", text="Normal", toggle=True)
    grid.prop(view_layer.effigy, "use_pass_id", text="ID", toggle=True)
    layout.label(text="Surface and Light")
    grid = layout.grid_flow(columns=3, align=True)
    for name in SURFACE_PASSES:
        grid.prop(view_layer.effigy, f"use_pass_{name}", toggle=True)
    layout.label(text="Cryptomatte")
    row = layout.row(align=True)
    for kind, text in (("object", "Armature"), ("material", "Avatar"), ("asset", "Parent")):
        row.prop(view_layer, f"use_pass_cryptomatte_{kind}", text=text, toggle=True)
    if wanted_mattes(view_layer):
        layout.prop(view_layer, "pass_cryptomatte_depth", text="Levels")


def draw_composite(layout: Any, scene: Any) -> None:
    """The button that adds the avatars to another engine's picture, or takes them out again."""
    if composite.record_of(scene) is None:
        layout.operator("effigy.composite", icon="NODE_COMPOSITING")
    else:
        layout.operator("effigy.composite_remove", icon="X")


def shot_summary(scene: Any) -> str:
    """What Animation would render."""
    size = camera_read.read_size(scene)
    x0, y0, x1, y1 = size.rectangle
    frames = batch.wanted_frames(scene)
    views = sum(view.use for view in scene.render.views) if scene.render.use_multiview else 1
    layers = sum(layer.use for layer in scene.view_layers)
    missing = _missing(scene, frames)
    recent = EffigyEngine.recent_s
    return shot_text.summary(frames, (x1 - x0, y1 - y0), views, layers, recent, missing)


CLASSES = (
    EFFIGY_PT_render,
    EFFIGY_PT_render_passes,
    EFFIGY_PT_render_farm,
    EFFIGY_PT_render_properties,
    EFFIGY_PT_pass_properties,
)
