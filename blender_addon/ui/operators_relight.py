"""Operators: light. (No `from __future__ import annotations`: Blender reads the properties.)"""

from typing import Any

import bpy
from bpy.props import EnumProperty, StringProperty

from .._shared import errors
from ..services import animation
from ..services.rig_info import avatar_of

_LIGHT_ITEMS: list[tuple[str, str, str]] = []
"""Blender keeps no reference to the texts of a dynamic list, so this module does."""


def light_scene(scene: Any, path: str, avatar: Any = None) -> None:
    """Light avatars with an HDRI: the selected one alone where it has a light of its own; else all, with a picture of
    their own where that is chosen, else by the World. Raises NotFound."""
    try:
        image = bpy.data.images.load(path, check_existing=True)
    except RuntimeError as error:
        raise errors.NotFound("The HDRI cannot be read", found=path, do="Choose an EXR or HDR picture") from error
    if avatar is not None and avatar.effigy_light.light in ("OWN", "CAPTURED"):
        avatar.effigy_light.image, avatar.effigy_light.light = image, "OWN"
        return
    if scene.effigy.light == "OWN":
        scene.effigy_relight.image = image
        return
    if not _put_into_world(scene.world, image):
        animation.world_from_hdri(scene, path)
    if scene.effigy.light == "CAPTURED" and (avatar is None or avatar.effigy_light.light == "SCENE"):
        scene.effigy.light = "AUTO"


def _put_into_world(world: Any, image: Any) -> bool:
    """Exchange the picture of a World that Effigy made, keeping its rotation and strength and their keys."""
    if world is None or not world.name.startswith(animation.WORLD_NAME) or world.node_tree is None:
        return False
    nodes = [node for node in world.node_tree.nodes if node.type == "TEX_ENVIRONMENT"]
    if len(nodes) == 1:
        nodes[0].image = image
    return len(nodes) == 1


class EFFIGY_OT_studio_light(bpy.types.Operator):
    """Light the avatars with an HDRI that comes with Blender, by the World or by their own"""

    bl_idname = "effigy.studio_light"
    bl_label = "Use Blender's HDRI"
    bl_options = {"REGISTER", "UNDO"}

    def _lights(self, context: Any) -> list[tuple[str, str, str]]:
        _LIGHT_ITEMS[:] = [(name, name.title(), path) for name, path in sorted(animation.studio_light_files().items())]
        return _LIGHT_ITEMS

    light: EnumProperty(name="HDRI", items=_lights)

    def execute(self, context: Any) -> set[str]:
        """Light the scene; a World of the user's own stays in the file."""
        light_scene(context.scene, animation.studio_light_files()[self.light], avatar_of(context.object))
        return {"FINISHED"}


class EFFIGY_OT_open_hdri(bpy.types.Operator):
    """Light the avatars with an EXR or HDR picture, by the World or by their own"""

    bl_idname = "effigy.open_hdri"
    bl_label = "Light Avatars with HDRI"  # what the menu of a dropped picture says
    bl_options = {"REGISTER", "UNDO"}

    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: StringProperty(default="*.exr;*.hdr", options={"HIDDEN"})

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Ask for the file, unless one was dropped."""
        if self.filepath:
            return self.execute(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: Any) -> set[str]:
        """Light the scene."""
        if not self.filepath:
            raise errors.NotFound("No HDRI was chosen", do="Choose an EXR or HDR picture")
        light_scene(context.scene, bpy.path.abspath(self.filepath), avatar_of(context.object))
        return {"FINISHED"}


CLASSES = (EFFIGY_OT_studio_light, EFFIGY_OT_open_hdri)
