"""Set an avatar's pose and expressions, and key them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..logic import rig_layout, visemes
from .rig_info import proxy_of, rig_of
from .rig_override import unlock_expressions


def set_pose(armature_object: Any, rotations: ArrayLike, translation: ArrayLike = (0.0, 0.0, 0.0)) -> None:
    """Turn the bones to joint rotations [J, 3] rad in model axes and move the root by translation [3] m."""
    rig = rig_of(armature_object)
    bones = armature_object.pose.bones
    rest = np.array([armature_object.data.bones[name].matrix_local for name in rig.joint_names])
    quaternions, location = rig_layout.bones_from_pose(rig.to_bones(rotations), translation, rest, rig.parents)
    for name, parent, quaternion in zip(rig.joint_names, rig.parents, quaternions, strict=True):
        bone = bones[name]
        if bone.rotation_mode != "QUATERNION":
            bone.rotation_mode = "QUATERNION"
        # The nearer of q and -q: keyed curves then never take the long way round.
        bone.rotation_quaternion = quaternion if np.dot(quaternion, bone.rotation_quaternion) >= 0 else -quaternion
        if parent < 0:
            bone.location = location
    armature_object.update_tag()


def reset_pose(armature_object: Any) -> None:
    """All joints of the avatar at the rest of its template; a body stands on its object's origin."""
    set_standing(armature_object, np.zeros((len(rig_of(armature_object).joint_names), 3)))


def set_captured_pose(armature_object: Any) -> None:
    """The pose the avatar was captured in; a body stands on its object's origin."""
    set_standing(armature_object, rig_of(armature_object).rest_pose)


def set_standing(armature_object: Any, rotations: ArrayLike) -> None:
    """Set joint rotations [J, 3] rad, and the root where it must be for the feet to touch z = 0."""
    rig = rig_of(armature_object)
    place = rig_layout.standing_translation(rotations, rig.joint_names, rig.parents, rig.rest_joints, rig.floor_m)
    set_pose(armature_object, rotations, place)


def set_expressions(armature_object: Any, values: Mapping[str, float], *, others: float | None = 0.0) -> None:
    """Set expressions and visemes by name, the rest to `others`; None leaves them. Names the rig lacks are ignored."""
    unlock_expressions(armature_object)
    proxy = proxy_of(armature_object)
    rig = rig_of(armature_object)
    if proxy is None or proxy.data.shape_keys is None:
        return
    blocks = proxy.data.shape_keys.key_blocks
    for name in (*rig.expression_names, *visemes.VISEMES):
        if name in blocks and (name in values or others is not None):
            blocks[name].value = values.get(name, others)
    proxy.data.shape_keys.update_tag()


def key_pose(armature_object: Any, frame: float) -> None:
    """Key the rotations of all the avatar's bones and the place of the root at a frame."""
    rig = rig_of(armature_object)
    for name, parent in zip(rig.joint_names, rig.parents, strict=True):
        bone = armature_object.pose.bones[name]
        channel = "rotation_quaternion" if bone.rotation_mode == "QUATERNION" else "rotation_euler"
        if bone.rotation_mode == "AXIS_ANGLE":
            channel = "rotation_axis_angle"
        bone.keyframe_insert(channel, frame=frame, group=name)
        if parent < 0:
            bone.keyframe_insert("location", frame=frame, group=name)


def key_expressions(armature_object: Any, frame: float, names: tuple[str, ...] | None = None) -> None:
    """Key expressions of the avatar at a frame: all of them and the visemes, or those named."""
    unlock_expressions(armature_object)
    proxy = proxy_of(armature_object)
    if proxy is None or proxy.data.shape_keys is None:
        return
    blocks = proxy.data.shape_keys.key_blocks
    every = (*rig_of(armature_object).expression_names, *visemes.VISEMES)
    for name in names if names is not None else every:
        if name in blocks:
            blocks[name].keyframe_insert("value", frame=frame)
