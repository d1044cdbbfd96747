"""Fitted motions as keys on an avatar: bones on its armature, expressions on its proxy's shape keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import bpy
import numpy as np

from .._shared import performance, rotations
from ..logic import rig_layout
from ..logic.motion_fit import FittedMotion
from . import rig_ik
from .curves import CurveWriter
from .rig_info import proxy_of, rig_of
from .rig_override import unlock_expressions

Step = tuple[int, int]


def key_motion(armature_object: Any, fitted: FittedMotion, start: int, tolerance: float = 0.0) -> Iterator[Step]:
    """Key a motion from a frame on, in place of keys in its range; yields (done, of) and may be closed at any time.

    tolerance: keys are left out where straight lines between the others are as near as this, in rad and in weights;
    0 keys every frame.

    Only joints and expressions that the motion knows get keys. IK controls give way, so that the bones move as keyed.
    """
    rig, motion = rig_of(armature_object), fitted.motion
    bones, data = armature_object.pose.bones, armature_object.data
    rest = np.array([data.bones[name].matrix_local for name in rig.joint_names])
    turns = rig.to_bones(motion.rotations)
    quaternions, locations = rig_layout.bones_from_pose(turns, motion.translations, rest, rig.parents)
    quaternions = rotations.continuous(quaternions)
    total = len(fitted.joints) + len(fitted.expressions)
    unlock_expressions(armature_object)
    proxy = proxy_of(armature_object)
    keys = proxy.data.shape_keys if proxy is not None and fitted.expressions else None
    body = CurveWriter(armature_object, f"{armature_object.name} motion")
    face = CurveWriter(keys, f"{armature_object.name} face") if keys is not None else None
    done = 0
    try:
        for name in fitted.joints:
            index = rig.joint_names.index(name)
            path = f'pose.bones["{bpy.utils.escape_identifier(name)}"]'
            rows = performance.needed_frames(quaternions[:, index], tolerance / 2)  # half the angle is in them
            for axis in range(4):
                body.put(f"{path}.rotation_quaternion", axis, name, start, quaternions[:, index, axis], rows)
            if rig.parents[index] < 0 and fitted.travels:
                for axis in range(3):
                    body.put(f"{path}.location", axis, name, start, locations[:, axis])
            done += 1
            yield done, total
        for name in fitted.expressions:
            if face is not None and name in keys.key_blocks:
                path = f'key_blocks["{bpy.utils.escape_identifier(name)}"].value'
                values = motion.expressions[:, rig.expression_names.index(name)]
                face.put(path, 0, "", start, values, performance.needed_frames(values[:, None], tolerance))
            done += 1
            yield done, total
    except GeneratorExit:
        for writer in (body, face):
            if writer is not None:
                writer.discard()
        raise
    for name in fitted.joints:
        bones[name].rotation_mode = "QUATERNION"
    for writer in (body, face):
        if writer is not None:
            writer.finish()
    rig_ik.set_influence(armature_object, 0.0)
    armature_object.update_tag()
