"""What panels remember between redraws. (No `from __future__ import annotations`: Blender evaluates these.)"""

from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, PointerProperty, StringProperty

from .connection import CONNECTION
from .rig_info import avatar_of

OVERRIDABLE = {"LIBRARY_OVERRIDABLE"}


def _wipe_moved(self: Any, context: Any) -> None:
    """Draw the views again."""
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


class EffigyWindow(bpy.types.PropertyGroup):
    """On the WindowManager: what is folded open; not saved with the file."""

    library_filter: StringProperty(
        name="Filter", description="Show avatars whose name has this in it", options={"TEXTEDIT_UPDATE"}
    )
    library_shown: IntProperty(default=12, min=1)
    avatar_open: StringProperty(description="Avatar whose facts are shown")
    trash_open: BoolProperty(name="Trash", description="Show what was thrown away", default=False)
    check_job: StringProperty(description="The newest check of the chosen capture")
    check_of: StringProperty(description="The capture it looked at")
    track_job: StringProperty(description="The newest tracking of a video")
    live_job: StringProperty(description="The live training that was begun from a camera")
    edit_problem: StringProperty(description="Why the last edit could not begin")
    edit_known: StringProperty(description="What would have been understood")
    wipe: BoolProperty(name="Before and After", description="Compare two versions in the 3D views", update=_wipe_moved)
    wipe_at: FloatProperty(
        name="Line",
        description="Left of it the earlier version, right of it the edited one",
        default=0.5,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
        update=_wipe_moved,
    )
    wipe_armature: StringProperty(description="Object of the avatar that is compared")
    wipe_before: StringProperty(description="The version on the left")
    wipe_after: StringProperty(description="The version on the right")


def _lit_anew(self: Any, context: Any) -> None:
    """Views and final pictures look again; Blender itself tells nobody where a script changed something."""
    self.id_data.update_tag()


class _Light:
    """What shines on one avatar or on all: both groups below have these."""

    image: PointerProperty(
        name="HDRI",
        description="Equirectangular picture that lights avatars alone",
        type=bpy.types.Image,
        update=_lit_anew,
        override=OVERRIDABLE,
    )
    rotation: FloatProperty(
        name="Rotation",
        description="Turn of the HDRI about the vertical",
        subtype="ANGLE",
        update=_lit_anew,
        override=OVERRIDABLE,
    )
    strength: FloatProperty(name="Strength", default=1.0, min=0.0, soft_max=5.0, update=_lit_anew, override=OVERRIDABLE)
    exposure: FloatProperty(
        name="Exposure",
        description="Makes the light on avatars brighter or darker, in stops, whichever light it is",
        default=0.0,
        min=-10.0,
        max=10.0,
        soft_min=-3.0,
        soft_max=3.0,
        update=_lit_anew,
        override=OVERRIDABLE,
    )
    use_lamps: BoolProperty(
        name="Scene Lights",
        description="The scene's sun, point, spot and area lights shine on avatars beside the World or their own HDRI",
        default=True,
        update=_lit_anew,
        override=OVERRIDABLE,
    )


class EffigyRelight(_Light, bpy.types.PropertyGroup):
    """On a Scene: what shines on its avatars, where they have no light of their own."""


class EffigyAvatarLight(_Light, bpy.types.PropertyGroup):
    """On an Object that is an avatar: a light of its own."""

    light: EnumProperty(
        name="Light",
        description="What shines on this avatar",
        items=[
            ("SCENE", "As the Scene", "What shines on all avatars of the scene"),
            ("WORLD", "World", "The World, with an exposure of the avatar's own"),
            ("OWN", "Own HDRI", "A picture that lights this avatar alone"),
            ("CAPTURED", "As Captured", "The light this avatar was captured in"),
        ],
        default="SCENE",
        update=_lit_anew,
        override=OVERRIDABLE,
    )


class EffigyExport(bpy.types.PropertyGroup):
    """On a Scene: what the Export part writes."""

    form: EnumProperty(
        name="Format",
        items=[
            ("ply", "Splats (PLY)", "The posed Gaussians as every viewer of splats reads them"),
            ("spz", "Splats (SPZ)", "The posed Gaussians, packed; about a tenth of the size"),
            ("avatar", "Effigy Avatar", "The whole avatar as a folder for another machine"),
            ("rgbavatar", "RGBAvatar", "The whole avatar as RGBAvatar's model.ply; FLAME heads only"),
            (
                "gaussian-avatars",
                "GaussianAvatars",
                "The whole avatar as a model folder of GaussianAvatars; FLAME only",
            ),
            ("MESH", "Mesh (glTF)", "Armature, skinned mesh and animation by Blender's own exporter"),
            ("FBX", "Mesh (FBX)", "Armature, skinned mesh and animation by Blender's own exporter"),
            ("USD", "Mesh (USD)", "Armature, skinned mesh and animation by Blender's own exporter"),
        ],
        default="ply",
    )
    path: StringProperty(
        name="To", description="File, or for sequences and whole avatars folder, to be written", subtype="FILE_PATH"
    )
    frames: EnumProperty(
        name="Frames",
        items=[
            ("CURRENT", "This Frame", "The pose at the current frame"),
            ("SCENE", "Scene Range", "One file for each frame of the scene's range, in a new folder"),
            ("REST", "Captured Pose", "The pose the avatar was captured in"),
        ],
    )
    axes: EnumProperty(
        name="Axes",
        items=[
            ("z-up", "Z Up", "As in Blender"),
            ("y-up", "Y Up", "As in glTF and most viewers"),
            ("y-down", "Y Down", "As cameras of computer vision see it"),
        ],
    )


def _regions(self: Any, context: Any, typed: str) -> list[str]:
    """Suggestions: the regions of the selected avatar."""
    avatar, state = avatar_of(context.object), CONNECTION.state
    known = state.editors.get(avatar.data.effigy.avatar_id) if avatar is not None and state is not None else None
    return list(known.regions) if known is not None else []


def _captures(self: Any, context: Any, typed: str) -> list[str]:
    """Suggestions: the captures that come with the backend."""
    state = CONNECTION.state
    return list(state.presets.captures) if state is not None and state.presets is not None else []


def _words_changed(self: Any, context: Any) -> None:
    """What was wrong with other words says nothing of these."""
    window = context.window_manager.effigy_panels
    window.edit_problem = window.edit_known = ""


class EffigyEdit(bpy.types.PropertyGroup):
    """On a Scene: the edit by words that the Edit part describes."""

    prompt: StringProperty(
        name="Prompt", description="What is to change, in words, such as: a bronze statue", update=_words_changed
    )
    editor: StringProperty(name="Editor", description="What changes the pictures", default="built_in")
    strength: FloatProperty(
        name="Strength", description="How far the edit goes", default=0.8, min=0.0, max=1.0, subtype="FACTOR"
    )
    text_guidance: FloatProperty(
        name="Text Guidance",
        description="How closely to follow the words; 0: as the editor's makers advise",
        default=0,
        min=0,
        max=30,
        soft_max=15,
    )
    image_guidance: FloatProperty(
        name="Image Guidance",
        description="How closely to keep to the pictures; 0: as the editor's makers advise",
        default=0,
        min=0,
        max=10,
        soft_max=3,
    )
    where: EnumProperty(
        name="Where",
        items=[
            ("EVERYWHERE", "Everywhere", "The whole avatar"),
            ("REGION", "Region", "One part of the avatar"),
            ("PAINTED", "Painted", "Where a vertex group of the proxy mesh has weight, as much as it has"),
        ],
    )
    region_name: StringProperty(
        name="Region", description="The part that may change", search=_regions, search_options={"SORT"}
    )
    group: StringProperty(name="Group", description="Vertex group of the proxy mesh; paint it in Weight Paint mode")
    seed: IntProperty(name="Seed", description="The same seed, words and settings give the same edit", default=0, min=0)
    name: StringProperty(name="Name", description="Of the new version; empty takes the avatar's name and the words")
    capture: StringProperty(
        name="Recording",
        description="The capture that the avatar was trained on: its photographs guide the edit. Empty takes pictures "
        "of the unedited avatar",
        search=_captures,
        search_options={"SUGGESTION"},
    )
    wabe: EnumProperty(
        name="Hidden Parts",
        description="How parts that a picture hides (teeth behind lips, eyes behind lids) are kept from changing",
        items=[
            ("exact", "Exact", "Every contribution weighs as much as it is seen (WABE)"),
            ("mask", "Masked", "Gaussians that are mostly hidden learn little; faster"),
            ("off", "Off", "Hidden parts change with what hides them"),
        ],
        default="exact",
    )
    adversarial: BoolProperty(
        name="Adversarial Term",
        description="A small network learns to tell pictures of the avatar from edited ones; calms what flickers",
        default=False,
    )
    iterations: IntProperty(name="Steps", description="0 takes the backend's own number", default=0, min=0, max=1000000)
    gpus: IntProperty(
        name="GPUs",
        description="How many of the backend's GPUs edit together; a stopped edit may go on with others",
        default=1,
        min=1,
        max=64,
    )


class EffigyLive(bpy.types.PropertyGroup):
    """On a Scene: the face that is followed live."""

    source: StringProperty(
        name="Source",
        description="Number of a camera of the backend's machine (0 is the first), or a video file, played at its own "
        "speed",
        default="0",
        subtype="FILE_PATH",
    )
    purpose: EnumProperty(
        name="For",
        items=[
            ("DRIVE", "Drive Avatar", "The selected avatar acts along; its performance can be recorded as keys"),
            ("TRAIN", "Train Avatar", "A new avatar learns while you talk, and appears in the views meanwhile"),
        ],
    )
    focal_mm: FloatProperty(
        name="Lens (mm)", description="Of a 36 mm wide picture; 0 where it is not known", default=0, min=0, max=500
    )
    soften_s: FloatProperty(
        name="Soften (s)", description="Recorded curves are smoothed over about this long", default=0, min=0, max=1
    )
    tolerance: FloatProperty(
        name="Fewer Keys",
        description="How far curves may move from what was recorded, so that keys can be left out; 0 keys every frame",
        default=0,
        min=0,
        max=0.2,
        precision=3,
    )


CLASSES = (EffigyWindow, EffigyRelight, EffigyAvatarLight, EffigyExport, EffigyEdit, EffigyLive)
PLACES = (
    (bpy.types.WindowManager, "effigy_panels", EffigyWindow),
    (bpy.types.Scene, "effigy_relight", EffigyRelight),
    (bpy.types.Object, "effigy_light", EffigyAvatarLight),
    (bpy.types.Scene, "effigy_export", EffigyExport),
    (bpy.types.Scene, "effigy_edit", EffigyEdit),
    (bpy.types.Scene, "effigy_live", EffigyLive),
)


def register() -> None:
    """Register the groups and put them in place."""
    for group in CLASSES:
        bpy.utils.register_class(group)
    for owner, name, group in PLACES:
        setattr(owner, name, PointerProperty(type=group))


def unregister() -> None:
    """Take everything away again."""
    for owner, name, _ in reversed(PLACES):
        delattr(owner, name)
    for group in reversed(CLASSES):
        bpy.utils.unregister_class(group)
