"""Properties the add-on puts on Blender's data. (No `from __future__ import annotations`: Blender evaluates these.)"""

from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, PointerProperty, StringProperty

from . import rig_proxy
from .auto_check import AUTO_CHECK
from .connection import CONNECTION
from .rig_info import proxy_of

OVERRIDABLE = {"LIBRARY_OVERRIDABLE"}


class EffigyAvatar(bpy.types.PropertyGroup):
    """On an Armature: which avatar it drives."""

    avatar_id: StringProperty(
        name="Avatar", description="Avatar in the backend's library; empty for other armatures", override=OVERRIDABLE
    )
    digest: StringProperty(
        name="Digest", description="Content of the avatar this armature was made for; empty accepts any"
    )
    avatar_name: StringProperty(name="Name")
    mesh_only: BoolProperty(
        name="Mesh Only", description="An ordinary mesh stands for the person; the backend draws nothing here"
    )
    relightable: BoolProperty(
        name="Relightable",
        description="The avatar holds materials, so that any light is shaded on it; others only estimate new light",
        default=False,
    )
    rig: StringProperty(name="Rig", description="Joints, parents and expressions, as JSON", options={"HIDDEN"})
    show_proxy: BoolProperty(
        name="Keep Proxy in Viewport",
        description="Show the proxy mesh also where the avatar's picture is drawn over it",
        default=False,
    )


def _proxy_role(self: Any) -> int:
    """Index of the role; what Blender's own switches of the proxy say is the only place it is kept."""
    return _ROLE_NAMES.index(rig_proxy.role_of(self.id_data))


def _set_proxy_role(self: Any, index: int) -> None:
    if proxy_of(self.id_data) is not None:
        rig_proxy.set_role(self.id_data, _ROLE_NAMES[index])


_ROLE_NAMES = [name for name, _, _ in rig_proxy.ROLES]


class EffigyObject(bpy.types.PropertyGroup):
    """On an Object: what keeps an avatar's parts evaluated together, and what its proxy does."""

    expressions_evaluated: bpy.props.FloatProperty(options={"HIDDEN", "ANIMATABLE"})
    splats_of: PointerProperty(
        type=bpy.types.Object, name="Splats of", description="Armature whose Gaussians this point cloud holds"
    )
    proxy_role: EnumProperty(
        name="Proxy in Renders",
        description="What the avatar's proxy mesh does in renders by Cycles and EEVEE",
        items=rig_proxy.ROLES,
        get=_proxy_role,
        set=_set_proxy_role,
        options=set(),
    )


def _captures(self: Any, context: Any, typed: str) -> list[str]:
    """Suggestions: the captures that come with the backend."""
    state = CONNECTION.state
    return list(state.presets.captures) if state is not None and state.presets is not None else []


def _presets(self: Any, context: Any, typed: str) -> list[str]:
    """Suggestions: the backend's training presets."""
    state = CONNECTION.state
    return list(state.presets.presets) if state is not None and state.presets is not None else []


def _capture_picked(self: Any, context: Any) -> None:
    """The folder is recognised and checked without being asked for."""
    AUTO_CHECK.picked(self.id_data)


class EffigyTraining(bpy.types.PropertyGroup):
    """On a Scene: the training the Train panel describes."""

    source: EnumProperty(
        name="Capture From",
        items=[
            ("EMBEDDED", "Effigy", "A capture that comes with Effigy"),
            ("FOLDER", "Folder", "A capture folder on the backend's machine"),
        ],
        update=_capture_picked,
    )
    capture: StringProperty(name="Capture", default="demo_head", search=_captures, search_options={"SUGGESTION"})
    folder: StringProperty(name="Folder", subtype="DIR_PATH", update=_capture_picked)
    preset: StringProperty(name="Preset", default="demo_cpu", search=_presets, search_options={"SUGGESTION"})
    name: StringProperty(name="Name", description="Name of the new avatar", default="My Avatar")
    gpus: IntProperty(
        name="GPUs",
        description="How many of the backend's GPUs train it together; a stopped one may go on with others",
        default=1,
        min=1,
        max=64,
    )


class EffigyReenactment(bpy.types.PropertyGroup):
    """On a Scene: whose performance the Reenact part brings onto an avatar, and how much of it."""

    source: StringProperty(
        name="Capture",
        description="Folder of a capture or a motion file on the backend's machine, or the name of a capture it has",
        subtype="FILE_PATH",
    )
    strength: FloatProperty(
        name="Strength",
        description="How much of what the person does relative to their neutral face arrives",
        default=1.0,
        min=0.0,
        soft_max=2.0,
        max=10.0,
    )
    clip: FloatProperty(
        name="Range",
        description="1 stays within what the avatar showed in training, 1.5 goes half as far beyond, 0 holds nothing",
        default=1.0,
        min=0.0,
        soft_max=2.0,
        max=100.0,
    )
    neutral_frame: IntProperty(
        name="Neutral Frame",
        description="Frame of the capture with a neutral face; -1 finds calm frames",
        default=-1,
        min=-1,
    )
    smooth_hz: FloatProperty(
        name="Smooth",
        description="Cutoff in Hz of a filter for a still head; 0 for none",
        default=0.0,
        min=0.0,
        max=100.0,
    )
    move: BoolProperty(name="Move", description="Also follow where the head goes", default=False)


class EffigyScene(bpy.types.PropertyGroup):
    """On a Scene: how the EFFIGY engine renders it."""

    reenactment: PointerProperty(type=EffigyReenactment)
    retarget_source: PointerProperty(
        type=bpy.types.Object,
        name="Source",
        description="Armature whose motion is brought onto the avatar",
        poll=lambda self, item: item.type == "ARMATURE" and not item.data.effigy.avatar_id,
    )

    training: PointerProperty(type=EffigyTraining)
    avatars_scene: PointerProperty(
        type=bpy.types.Scene, name="Avatars Scene", description="Scene that renders this one's avatars"
    )
    composite: StringProperty(name="Composite", description="What Composite Avatars did, as JSON", options={"HIDDEN"})
    address: StringProperty(
        name="Backend",
        description="Address of the backend for this scene, such as tcp://127.0.0.1:47615; empty uses the preferences",
    )
    quality: EnumProperty(
        name="Quality",
        description="How final renders are drawn",
        items=[("final", "Final", "Full quality"), ("draft", "Draft", "Faster, coarser")],
        default="final",
    )
    motion_blur_samples: IntProperty(
        name="Motion Blur Samples",
        description="Instants averaged while the shutter is open",
        default=8,
        min=2,
        max=64,
    )
    show_avatars: BoolProperty(
        name="Avatars in Viewport",
        description="Draw the backend's picture of the avatars in the 3D views",
        default=True,
    )
    light: EnumProperty(
        name="Light",
        description="What shines on the avatars",
        items=[
            ("AUTO", "World HDRI", "The World's image where it has one, else the light each avatar was captured in"),
            ("WORLD", "World", "The World, also where it is a plain colour"),
            ("OWN", "Own HDRI", "A picture that lights the avatars alone, whatever the World is"),
            ("CAPTURED", "As Captured", "The light each avatar was captured in"),
        ],
        default="AUTO",
    )


class EffigyViewLayer(bpy.types.PropertyGroup):
    """On a ViewLayer: passes Blender has no switch for."""

    use_pass_mask: BoolProperty(name="Mask", description="Coverage of the avatars, 0 to 1", default=False)
    use_pass_albedo: BoolProperty(
        name="Albedo",
        description="Surface colour without light, linear, premultiplied; an estimate for avatars without materials",
        default=False,
    )
    use_pass_roughness: BoolProperty(
        name="Roughness", description="0 mirror to 1 matt, times cover; 0 for avatars without materials", default=False
    )
    use_pass_metallic: BoolProperty(
        name="Metallic", description="0 to 1 metal, times cover; 0 for avatars without materials", default=False
    )
    use_pass_occlusion: BoolProperty(
        name="Occlusion",
        description="How much of the sky a surface sees in this pose, times cover; 0 for avatars without materials",
        default=False,
    )
    use_pass_diffuse: BoolProperty(
        name="Diffuse",
        description="The part of Combined that matt reflection makes, linear, premultiplied; all of it for avatars "
        "without materials",
        default=False,
    )
    use_pass_specular: BoolProperty(
        name="Specular",
        description="The part of Combined that shine makes, linear, premultiplied; 0 for avatars without materials",
        default=False,
    )
    use_pass_id: BoolProperty(
        name="Avatar ID",
        description="Which avatar covers a pixel most: 1 for the first by name, 2 for the second; 0 where none does",
        default=False,
    )


class EffigyInterface(bpy.types.PropertyGroup):
    """On the WindowManager: what the sidebar remembers while Blender is open; no file keeps it."""

    expression_filter: StringProperty(
        name="Find", description="Show only expressions with this in their name", options={"TEXTEDIT_UPDATE"}
    )


CLASSES = (EffigyAvatar, EffigyObject, EffigyInterface, EffigyReenactment, EffigyTraining, EffigyScene, EffigyViewLayer)
PLACES = (
    (bpy.types.Armature, "effigy", EffigyAvatar),
    (bpy.types.Object, "effigy", EffigyObject),
    (bpy.types.Scene, "effigy", EffigyScene),
    (bpy.types.ViewLayer, "effigy", EffigyViewLayer),
    (bpy.types.WindowManager, "effigy", EffigyInterface),
)


def register() -> None:
    """Register the groups and put them in place."""
    for group in CLASSES:
        bpy.utils.register_class(group)
    for owner, name, group in PLACES:
        setattr(owner, name, PointerProperty(type=group))
    bpy.types.Mesh.effigy_proxy = BoolProperty(name="Effigy Proxy", description="Stands for an avatar", default=False)


def unregister() -> None:
    """Take everything away again."""
    del bpy.types.Mesh.effigy_proxy
    for owner, name, _ in reversed(PLACES):
        delattr(owner, name)
    for group in reversed(CLASSES):
        bpy.utils.unregister_class(group)
