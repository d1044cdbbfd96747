"""Make an avatar's armature in a scene, with its skinned proxy mesh, from what the backend tells about it."""

from __future__ import annotations

import math
from typing import Any

import bpy
from mathutils import Vector

from .._shared import messages, types
from ..logic import rig_layout, visemes
from ..logic.joint_regions import FEET, hinge_limits_deg
from . import pose_write, rig_proxy, rig_shapes
from .rig_info import rig_to_json

VISEME_BONE = "jaw_visemes"
"""Carries the jaw and is turned by the visemes alone, so that the jaw itself stays free to be posed and keyed."""


def add_avatar(context: Any, detail: messages.AvatarDetail) -> Any:
    """The new armature object, selected and active, in its captured pose, with its skinned proxy as a child.

    A body's object has its origin between the soles, a head's where its template has it.
    """
    name = detail.summary.name or detail.summary.avatar_id
    rig_object = new_armature(context, name)
    armature = rig_object.data
    armature.effigy.avatar_id = detail.summary.avatar_id
    armature.effigy.digest = detail.summary.digest
    armature.effigy.avatar_name = name
    armature.effigy.relightable = detail.summary.relightable
    armature.effigy.rig = rig_to_json(detail.rig, detail.rest_pose, _floor_m(detail))
    make_bones(rig_object, detail.rig)
    rig_shapes.assign_collections(armature)
    rig_shapes.set_shapes(rig_object, detail.rig.joint_names, context.scene)
    proxy = rig_proxy.make_proxy(name, detail.proxy, detail.rig)
    context.collection.objects.link(proxy)
    rig_proxy.bind(proxy, rig_object, detail.proxy, detail.rig)
    turn_jaw_by_visemes(rig_object, proxy)
    pose_write.set_captured_pose(rig_object)
    return rig_object


def new_armature(context: Any, name: str) -> Any:
    """An armature object without bones, in the scene, selected and active."""
    if context.object is not None and context.object.mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    armature = bpy.data.armatures.new(name)
    rig_object = bpy.data.objects.new(name, armature)
    rig_object.show_in_front = True
    armature.display_type = "STICK"  # thin enough to see the face behind
    context.collection.objects.link(rig_object)
    for selected in context.selected_objects:
        selected.select_set(False)
    context.view_layer.objects.active = rig_object
    rig_object.select_set(True)
    return rig_object


def _floor_m(detail: messages.AvatarDetail) -> float | None:
    """z of the soles at rest, None for an avatar without feet."""
    has_feet = any(name in detail.rig.joint_names for name in FEET)
    return float(detail.proxy.vertices[:, 2].min()) if has_feet and len(detail.proxy.vertices) else None


def make_bones(rig_object: Any, rig: types.Rig) -> None:
    """Bones of the rig's joints along the limbs, their channels, limits and the carrier of the visemes."""
    tails = rig_layout.bone_tails(rig.joint_names, rig.parents, rig.rest_joints)
    bpy.ops.object.mode_set(mode="EDIT")
    try:
        bones: list[Any] = []
        for index, name in enumerate(rig.joint_names):
            bone = rig_object.data.edit_bones.new(name)
            head, tail = rig.rest_joints[index], tails[index]
            bone.head, bone.tail = head.tolist(), tail.tolist()
            bone.align_roll(Vector(rig_layout.roll_axis(name, head, tail)))
            if rig.parents[index] >= 0:
                bone.parent = bones[rig.parents[index]]
            bones.append(bone)
        if visemes.speaks(rig.expression_names) and rig_object.data.edit_bones.get("jaw") is not None:
            _add_viseme_bone(rig_object.data.edit_bones)
    finally:
        bpy.ops.object.mode_set(mode="OBJECT")
    for bone in rig_object.pose.bones:
        bone.rotation_mode = "QUATERNION"
        bone.lock_scale = (True, True, True)
        if bone.parent is not None:  # a body's joints turn; only the root also travels
            bone.lock_location = (True, True, True)
        limits = hinge_limits_deg(bone.name)
        if limits is not None:
            bone.use_ik_limit_x, bone.lock_ik_y, bone.lock_ik_z = True, True, True
            bone.ik_min_x, bone.ik_max_x = (math.radians(limit) for limit in limits)


def _add_viseme_bone(bones: Any) -> None:
    jaw = bones["jaw"]
    carrier = bones.new(VISEME_BONE)
    carrier.head, carrier.tail = jaw.head, jaw.head + Vector((0.03, 0, 0))  # its y is the axis the jaw turns about
    carrier.use_deform = False
    carrier.parent, jaw.parent = jaw.parent, carrier


def turn_jaw_by_visemes(rig_object: Any, proxy: Any) -> None:
    """Let the shape keys of visemes open the jaw through its carrier, where the rig has one."""
    carrier = rig_object.pose.bones.get(VISEME_BONE)
    if carrier is None:
        return
    rig_shapes.assign(rig_object.data, carrier.bone, rig_shapes.MECHANISM, visible=False)
    carrier.rotation_mode = "XYZ"
    carrier.lock_rotation = (True, True, True)
    driver = carrier.driver_add("rotation_euler", 1).driver
    driver.type = "SCRIPTED"
    terms = []
    for letter, (name, angle_rad) in zip("abcdfghjkmnpqrstuvw", visemes.openness().items(), strict=False):
        variable = driver.variables.new()
        variable.name = letter
        variable.targets[0].id_type = "KEY"
        variable.targets[0].id = proxy.data.shape_keys
        variable.targets[0].data_path = f'key_blocks["{name}"].value'
        terms.append(f"{angle_rad:.4g}*{letter}")
    # A sum of products: Blender works it out itself, so it also runs where Python in files is not trusted.
    driver.expression = "+".join(terms)
