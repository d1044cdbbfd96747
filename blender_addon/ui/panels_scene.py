"""Sidebar panels: Animate, Relight, Edit, Render; and the engine's panels in the Properties editor."""

from __future__ import annotations

from typing import Any

import bpy

from .._shared import errors
from ..engine import EffigyEngine
from ..services import world_read
from ..services.connection import CONNECTION
from ..services.rig_info import avatar_of, proxy_of
from .drawing import wrapped
from .panels_backend import Sidebar


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


class EFFIGY_PT_animate(Sidebar, bpy.types.Panel):
    """Pose and key the selected avatar"""

    bl_label = "Animate"

    def draw(self, context: Any) -> None:
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


class EFFIGY_PT_relight(Sidebar, bpy.types.Panel):
    """The light avatars stand in"""

    bl_label = "Relight"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Any) -> None:
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


class EFFIGY_PT_edit(Sidebar, bpy.types.Panel):
    """Editing avatars by text"""

    bl_label = "Edit"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Any) -> None:
        """Say what is coming."""
        wrapped(self.layout, context, "Coming: change an avatar by describing the change in words")


class EFFIGY_PT_render(Sidebar, bpy.types.Panel):
    """Final pictures"""

    bl_label = "Render"

    def draw(self, context: Any) -> None:
        """Draw engine, passes and render buttons."""
        layout, scene = self.layout, context.scene
        if scene.render.engine != EffigyEngine.bl_idname:
            layout.operator("effigy.use_engine", icon="RENDER_STILL")
            return
        draw_render_settings(layout, context)
        draw_passes(layout, context)
        layout.operator("effigy.add_camera_path", icon="CAMERA_DATA")
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
    EFFIGY_UL_expressions,
    EFFIGY_PT_animate,
    EFFIGY_PT_relight,
    EFFIGY_PT_edit,
    EFFIGY_PT_render,
    EFFIGY_PT_render_properties,
    EFFIGY_PT_pass_properties,
)
