"""Following another armature by constraints instead of keys, for as long as both are in the scene.

A hidden helper armature stands between them: one bone copies the source's bone, its child carries the difference of
rest poses (`logic.retarget`), and the avatar's bone copies the child's rotation. The helper object's own matrix holds
the difference of facing and of size.
"""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from ..logic import retarget as plan
from ..logic import rig_layout
from ..logic.motion_fit import leg_length_m
from . import rig_ik
from .retarget import recognised, rest_of
from .rig_info import rig_of

CONSTRAINT = "Effigy Follow"
MARK = "effigy_follows"
BONE_M = 0.05


def link(context: Any, avatar: Any, source: Any) -> Any:
    """Make the avatar follow the source, in place of what it followed before; the helper object.

    Raises BadCapture for an armature that is not recognised.
    """
    found = recognised(source)
    rest, rig = rest_of(source, found), rig_of(avatar)
    alignment = plan.align(rest, rig)
    unlink(avatar)
    helper = _helper(context, avatar, rest, rig, alignment)
    _follow(helper, avatar, source, found.bones, rig)
    rig_ik.set_influence(avatar, 0.0)
    context.view_layer.update()
    return helper


def unlink(avatar: Any) -> None:
    """Take the constraints and the helper away; the avatar's own keys show again."""
    for bone in avatar.pose.bones:
        for constraint in [c for c in bone.constraints if c.name.startswith(CONSTRAINT)]:
            bone.constraints.remove(constraint)
    for helper in [o for o in bpy.data.objects if o.get(MARK) == avatar]:
        data = helper.data
        bpy.data.objects.remove(helper)
        bpy.data.armatures.remove(data)


def follows(avatar: Any) -> Any | None:
    """The armature it follows now."""
    for bone in avatar.pose.bones:
        for constraint in bone.constraints:
            if constraint.name == CONSTRAINT and constraint.target is not None:
                copy = next(iter(constraint.target.pose.bones[0].constraints), None)
                return copy.target if copy is not None else None
    return None


def _helper(context: Any, avatar: Any, rest: Any, rig: Any, alignment: Any) -> Any:
    data = bpy.data.armatures.new(f"{avatar.name} follows")
    helper = bpy.data.objects.new(data.name, data)
    helper[MARK] = avatar
    context.scene.collection.objects.link(helper)
    helper.matrix_world = Matrix(_placed(rest, rig, alignment).tolist())
    active, mode = context.view_layer.objects.active, context.mode
    if mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    selected = list(context.selected_objects)
    for other in selected:
        other.select_set(False)
    context.view_layer.objects.active = helper
    helper.select_set(True)
    bpy.ops.object.mode_set(mode="EDIT")
    A = alignment.model_from_source
    for joint, row in rest.bones.items():
        if joint not in rig.joint_names:
            continue
        own = np.array(avatar.data.bones[joint].matrix_local, np.float64)[:3, :3]
        ends = (("from", A @ rest.rotations[row]), ("to", alignment.corrections[joint] @ own))
        parent = None
        for kind, turn in ends:
            bone = data.edit_bones.new(f"{kind} {joint}")
            bone.head, bone.tail = (0, 0, 0), (0, BONE_M, 0)
            matrix = np.eye(4)
            matrix[:3, :3] = turn
            bone.matrix = Matrix(matrix.tolist())
            bone.parent, parent = parent, bone
    bpy.ops.object.mode_set(mode="OBJECT")
    helper.select_set(False)
    for other in selected:
        other.select_set(True)
    context.view_layer.objects.active = active
    helper.hide_render = True
    helper.hide_set(True)
    return helper


def _placed(rest: Any, rig: Any, alignment: Any) -> np.ndarray:
    """[4, 4] the helper's matrix: it turns by A, scales by the legs' ratio and puts the source where the avatar is."""
    leg = leg_length_m(rig.joint_names, rig.rest_joints)
    scale = leg / alignment.leg_m if leg and alignment.leg_m else 1.0
    root = rig.joint_names[int(np.flatnonzero(rig.parents < 0)[0])]
    into = np.eye(4)
    into[:3, :3] = scale * alignment.model_from_source
    if root in rest.bones:
        still = np.zeros((len(rig.joint_names), 3))
        standing = rig_layout.standing_translation(still, rig.joint_names, rig.parents, rig.rest_joints, rig.floor_m)
        wanted = rig.rest_joints[rig.joint_names.index(root)] + standing
        into[:3, 3] = wanted - into[:3, :3] @ rest.heads[rest.bones[root]]
    return np.linalg.inv(into)


def _follow(helper: Any, avatar: Any, source: Any, bones: Any, rig: Any) -> None:
    root = rig.joint_names[int(np.flatnonzero(rig.parents < 0)[0])]
    for joint, name in bones.items():
        if joint not in rig.joint_names:
            continue
        copy = helper.pose.bones[f"from {joint}"].constraints.new("COPY_TRANSFORMS")
        copy.target, copy.subtarget = source, name
        own = avatar.pose.bones[joint]
        turn = own.constraints.new("COPY_ROTATION")
        turn.name, turn.target, turn.subtarget = CONSTRAINT, helper, f"to {joint}"
        turn.target_space = turn.owner_space = "POSE"
        if joint == root:
            place = own.constraints.new("COPY_LOCATION")
            place.name, place.target, place.subtarget = f"{CONSTRAINT} place", helper, f"from {joint}"
            place.target_space = place.owner_space = "POSE"
