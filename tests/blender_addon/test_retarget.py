"""Motions of other rigs on the avatar: recognised by their bones' names, limbs pointing where the source's point."""

from __future__ import annotations

import numpy as np
import pytest

from blender_addon.logic import retarget as plan
from blender_addon.logic.retarget_names import STYLES, recognise
from blender_addon.services import curves, pose_read, retarget, retarget_live, rig_build
from shared import template

from . import foreign, people

LIMBS = [(a, b) for a, b in plan.LIMBS.items() if not a[-1].isdigit() and not b.endswith("middle1")]
FINGERS = [(a, b) for a, b in plan.LIMBS.items() if a[-1].isdigit()]


@pytest.fixture(scope="module")
def human() -> template.TemplateArrays:
    return template.load_template()


@pytest.fixture
def body(addon, human):
    return rig_build.add_avatar(addon.context, people.detail(human))


def select(bpy, avatar, source) -> None:
    bpy.context.view_layer.objects.active = avatar
    bpy.context.scene.effigy.retarget_source = source


def compare(bpy, avatar, source, bones, frames, atol=2e-4, pairs=LIMBS) -> None:
    known = [(a, b) for a, b in pairs if a in bones and b in bones]
    assert len(known) >= 8
    for frame in frames:
        bpy.context.scene.frame_set(frame)
        theirs = foreign.directions(source, [(bones[a], bones[b]) for a, b in known])
        np.testing.assert_allclose(foreign.directions(avatar, known), theirs, atol=atol)


@pytest.mark.parametrize("style", list(foreign.NAMES))
def test_every_style_is_recognised_and_its_limbs_are_followed(addon, body, human, style) -> None:
    source, bones = foreign.build(style, human, scale=1.7)
    foreign.animate(source)
    found = retarget.recognised(source)
    assert found.style == style
    assert {joint: found.bones[joint] for joint in bones if joint in found.bones} == {
        joint: name for joint, name in bones.items() if joint in found.bones
    }
    assert len(found.bones) >= len(bones)
    select(addon, body, source)
    addon.ops.effigy.retarget(start=1, on_floor=False)
    compare(addon, body, source, bones, (1, 4, 6))
    if "left_index1" in bones:
        compare(addon, body, source, bones, (1, 4, 6), pairs=FINGERS)
    # It travels as far, measured in legs.
    addon.context.scene.frame_set(1)
    first = pose_read.read_avatars(addon.context.evaluated_depsgraph_get())[0].translation
    addon.context.scene.frame_set(6)
    last = pose_read.read_avatars(addon.context.evaluated_depsgraph_get())[0].translation
    np.testing.assert_allclose(last - first, np.array((0.3, -0.8, 0.1)) * 5 / 1.7, atol=2e-3)


def test_a_generated_rigify_rig_is_read_by_its_original_bones(human) -> None:
    plain = foreign.NAMES["Rigify"]
    names = [f"{layer}{name}" for name in plain.values() for layer in ("DEF-", "ORG-", "MCH-")]
    names += ["root", "torso", "hand_ik.L", "upper_arm_fk.L", "thigh_parent.L", *plain.values()]
    found = recognise(names)
    assert found.style == "Rigify"
    assert found.bones["left_shoulder"] == "ORG-upper_arm.L"
    assert set(found.bones) == set(plain)


def test_each_table_names_its_own_rig_best() -> None:
    for style in STYLES:
        if foreign.NAMES[style]:
            assert recognise(foreign.NAMES[style].values()).style == style
    assert not recognise(["Bone", "Bone.001", "Cube"]).complete
    assert recognise(f"mixamorig12:{n.partition(':')[2]}" for n in foreign.NAMES["Mixamo"].values()).complete


def test_a_source_that_faces_elsewhere_still_walks_the_avatar_forward(addon, body, human) -> None:
    source, bones = foreign.build("Mixamo", human)
    source.rotation_euler = (0, 0, np.pi / 2)  # at rest it faces +x
    source.location = (3, 1, 0)
    foreign.animate(source, travel=(0, -0.5, 0))
    select(addon, body, source)
    addon.ops.effigy.retarget(start=1)
    addon.context.scene.frame_set(6)
    known = [(a, b) for a, b in LIMBS if a in bones and b in bones]
    theirs = foreign.directions(source, [(bones[a], bones[b]) for a, b in known])
    turn = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(foreign.directions(body, known), theirs @ turn.T, atol=2e-4)
    state = pose_read.read_avatars(addon.context.evaluated_depsgraph_get())[0]
    assert state.translation[1] < -2.0
    assert abs(state.translation[0]) < 0.05


def test_ranges_frame_rates_and_constraints_of_the_source(addon, body, human) -> None:
    source, bones = foreign.build("Mixamo", human)
    foreign.animate(source, frames=20)
    nod = source.pose.bones["mixamorig:Head"].constraints.new("COPY_ROTATION")
    nod.target, nod.subtarget = source, "mixamorig:LeftArm"
    select(addon, body, source)
    addon.ops.effigy.retarget(first=5, last=14, start=101, source_fps=48.0, on_floor=False)  # the scene has 24
    frames = sorted({point.co.x for curve in curves.curves_of(body) for point in curve.keyframe_points})
    assert frames == [101.0, 102.0, 103.0, 104.0, 105.0]
    addon.context.scene.frame_set(103)
    ours = foreign.directions(body, LIMBS)
    addon.context.scene.frame_set(9)
    np.testing.assert_allclose(ours, foreign.directions(source, [(bones[a], bones[b]) for a, b in LIMBS]), atol=2e-4)


def test_following_live_needs_no_keys_and_ends_cleanly(addon, body, human) -> None:
    source, bones = foreign.build("Rigify", human, scale=0.6)
    source.rotation_euler, source.location = (0, 0, 0.0), (2, 0, 0)
    foreign.animate(source)
    select(addon, body, source)
    before = len(addon.data.objects), len(addon.data.armatures)
    addon.ops.effigy.retarget(mode="LIVE")
    assert retarget_live.follows(body) == source
    compare(addon, body, source, bones, (1, 3, 6))
    assert curves.curves_of(body) == []
    addon.context.scene.frame_set(1)
    depsgraph = addon.context.evaluated_depsgraph_get()
    first = pose_read.read_avatars(depsgraph)[0].translation.copy()
    assert first[2] == pytest.approx(0.95, abs=0.05), "it stands on its own floor"
    addon.context.scene.frame_set(6)
    last = pose_read.read_avatars(addon.context.evaluated_depsgraph_get())[0].translation
    np.testing.assert_allclose(last - first, np.array((0.3, -0.8, 0.1)) * 5 / 0.6, atol=5e-3)
    addon.ops.effigy.retarget(mode="LIVE")
    assert (len(addon.data.objects), len(addon.data.armatures)) == (before[0] + 1, before[1] + 1)
    addon.ops.effigy.retarget(mode="UNLINK")
    assert retarget_live.follows(body) is None
    assert (len(addon.data.objects), len(addon.data.armatures)) == before


def test_strangers_and_nothing_are_refused_in_a_sentence(addon, body) -> None:
    with pytest.raises(RuntimeError, match="No armature to take the motion from"):
        addon.ops.effigy.retarget()
    data = addon.data.armatures.new("Crane")
    crane = addon.data.objects.new("Crane", data)
    addon.context.collection.objects.link(crane)
    select(addon, body, crane)
    with pytest.raises(RuntimeError, match="no names that are known"):
        addon.ops.effigy.retarget()


def _inventory(bpy) -> dict[str, int]:
    return {
        k: len(getattr(bpy.data, k)) for k in ("objects", "armatures", "scenes", "collections", "meshes", "materials")
    }


def test_a_bvh_file_is_retargeted_and_leaves_nothing(addon, body, human, tmp_path) -> None:
    source, bones = foreign.build("CMU", human, scale=10.0)  # as many BVH files, not in metres
    foreign.animate(source, frames=8)
    addon.context.scene.render.fps = 24
    addon.context.view_layer.objects.active = source
    path = str(tmp_path / "walk.bvh")
    addon.ops.export_anim.bvh(filepath=path, frame_start=1, frame_end=8, rotate_mode="NATIVE", root_transform_only=True)
    text = (tmp_path / "walk.bvh").read_text()
    assert "Frame Time" in text
    wanted = {}
    pairs = [(bones[a], bones[b]) for a, b in LIMBS if a in bones and b in bones]
    for frame in (2, 8):
        addon.context.scene.frame_set(frame)
        wanted[frame] = foreign.directions(source, pairs)
    addon.data.objects.remove(source)
    select(addon, body, None)
    body.select_set(True)
    before = _inventory(addon)
    addon.ops.effigy.import_motion(filepath=path, start=1, on_floor=False)
    assert _inventory(addon) == before
    assert addon.context.view_layer.objects.active == body
    ours = [(a, b) for a, b in LIMBS if a in bones and b in bones]
    for frame, theirs in wanted.items():
        addon.context.scene.frame_set(frame)
        np.testing.assert_allclose(foreign.directions(body, ours), theirs, atol=2e-3)
    (tmp_path / "bad.bvh").write_text("HIERARCHY\nnothing")
    with pytest.raises(RuntimeError, match="is no intact BVH file"):
        addon.ops.effigy.import_motion(filepath=str(tmp_path / "bad.bvh"))
    assert _inventory(addon) == before


@pytest.mark.parametrize("ending", ["glb", "fbx"])
def test_gltf_and_fbx_armatures_are_retargeted_and_leave_nothing(addon, body, human, tmp_path, ending) -> None:
    source, bones = foreign.build("Mixamo", human)
    foreign.animate(source, frames=6)
    addon.ops.object.select_all(action="DESELECT")
    source.select_set(True)
    addon.context.view_layer.objects.active = source
    scene = addon.context.scene
    scene.frame_start, scene.frame_end = 1, 6
    path = str(tmp_path / f"walk.{ending}")
    if ending == "glb":
        addon.ops.export_scene.gltf(filepath=path, use_selection=True, export_animations=True)
    else:
        addon.ops.export_scene.fbx(filepath=path, use_selection=True, add_leaf_bones=False, bake_anim=True)
    pairs = [(bones[a], bones[b]) for a, b in LIMBS]
    scene.frame_set(6)
    wanted = foreign.directions(source, pairs)
    addon.data.objects.remove(source)
    addon.context.view_layer.objects.active = body
    before = _inventory(addon)
    addon.ops.effigy.import_motion(filepath=path, start=1, on_floor=False)
    assert _inventory(addon) == before
    last = max(point.co.x for curve in curves.curves_of(body) for point in curve.keyframe_points)
    assert last in (6.0, 7.0)
    scene.frame_set(int(last))
    np.testing.assert_allclose(foreign.directions(body, LIMBS), wanted, atol=5e-3)
