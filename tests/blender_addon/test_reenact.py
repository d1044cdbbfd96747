"""Performances that a real backend reads: another person's on an avatar, and a tracker's own files as keys."""

from __future__ import annotations

import numpy as np
import pytest

from blender_addon.services import curves, pose_read, rig_info
from blender_addon.ui import operators_motion


def faces(bpy, frames) -> np.ndarray:
    found = []
    for frame in frames:
        bpy.context.scene.frame_set(frame)
        found.append(pose_read.read_avatars(bpy.context.evaluated_depsgraph_get())[0].expression)
    return np.array(found)


def test_a_capture_is_reenacted_with_strength(scene_with_avatar) -> None:
    bpy = scene_with_avatar
    rig_object = bpy.data.objects["tiny"]
    bpy.context.view_layer.objects.active = rig_object
    scene, wanted = bpy.context.scene, bpy.context.scene.effigy.reenactment
    scene.render.fps = 25
    with pytest.raises(RuntimeError, match="No capture"):
        bpy.ops.effigy.reenact()
    wanted.source = "demo_head"
    bpy.ops.effigy.reenact(start=1)
    whole = faces(bpy, (1, 20, 40))
    assert scene.frame_end >= 60
    assert np.abs(whole).max() > 0.05
    assert len(curves.curves_of(rig_info.proxy_of(rig_object).data.shape_keys)) > 10
    wanted.strength = 0.0
    bpy.ops.effigy.reenact(start=1)
    assert np.abs(faces(bpy, (20, 40))).max() < np.abs(whole).max() / 2
    wanted.source = "no_such_capture"
    with pytest.raises(RuntimeError, match="cannot be read"):
        bpy.ops.effigy.reenact()
    assert operators_motion.EFFIGY_OT_reenact.ask_timeout_s > 60
