"""The rig of a whole body: 55 joints, exact read-out through constraints, and Blender's own ways of copying it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from blender_addon.logic import visemes
from blender_addon.services import pose_read, pose_write, rig_build, rig_ik, rig_info, rig_proxy, rig_shapes
from shared import template

from . import people
from .test_rig import random_pose


@pytest.fixture(scope="module")
def human() -> template.TemplateArrays:
    return template.load_template()


@pytest.fixture
def body(addon, human):
    return rig_build.add_avatar(addon.context, people.detail(human))


def states(bpy):
    return {state.key[0]: state for state in pose_read.read_avatars(bpy.context.evaluated_depsgraph_get())}


def heads(bpy, rig_object, names) -> np.ndarray:
    evaluated = rig_object.evaluated_get(bpy.context.evaluated_depsgraph_get())
    return np.array([evaluated.pose.bones[name].head for name in names])


def assert_forward_kinematics_agree(bpy, rig_object, human, atol: float = 2e-6) -> None:
    """The rotations that are read put every joint where Blender has it."""
    state = states(bpy)[rig_object.name_full]
    _, joints = template.rest(human)
    _, frames = template.joint_transforms(state.rotations, joints, human.parents, state.translation)
    np.testing.assert_allclose(heads(bpy, rig_object, human.joint_names), frames[:, :3, 3], atol=atol)


def test_a_body_has_all_joints_bones_along_limbs_collections_and_shapes(addon, body, human) -> None:
    bones = body.data.bones
    assert set(human.joint_names) <= {bone.name for bone in bones}
    assert len(human.joint_names) == 55
    for name, child in (("left_hip", "left_knee"), ("right_elbow", "right_wrist"), ("left_index1", "left_index2")):
        np.testing.assert_allclose(bones[name].tail_local, bones[child].head_local, atol=1e-6)
    assert bones["left_foot"].tail_local.z == pytest.approx(bones["left_foot"].head_local.z, abs=1e-5)
    names = {collection.name for collection in body.data.collections}
    assert {"Body", "Face", "Arms", "Legs", "Hands"} <= names
    assert {bone.name for bone in body.data.collections["Hands"].bones} == {
        name for name in human.joint_names if name[-1].isdigit() and not name.startswith("spine")
    }
    assert not body.data.collections[rig_shapes.MECHANISM].is_visible
    for name in human.joint_names:
        shape = body.pose.bones[name].custom_shape
        assert shape is not None
        assert len(shape.data.edges) > 8
    hidden = next(c for c in addon.data.collections if c.name == rig_shapes.COLLECTION)
    assert hidden.hide_viewport
    assert hidden.hide_render
    again = rig_build.add_avatar(addon.context, people.detail(human))
    assert again.pose.bones["head"].custom_shape == body.pose.bones["head"].custom_shape
    assert len([c for c in addon.data.collections if c.name.startswith(rig_shapes.COLLECTION)]) == 1


def test_limbs_bend_about_their_bones_x_and_mirror(addon, body) -> None:
    def tip(bone: str, of: str, degrees: float) -> np.ndarray:
        pose_write.reset_pose(body)
        pose = body.pose.bones[bone]
        pose.rotation_mode = "XYZ"
        pose.rotation_euler = (math.radians(degrees), 0, 0)
        place = heads(addon, body, (of,))[0] - heads(addon, body, (bone,))[0]
        pose.rotation_mode = "QUATERNION"
        return place

    assert tip("left_elbow", "left_wrist", 90)[1] < -0.2, "the forearm comes forward"
    assert tip("right_elbow", "right_wrist", 90)[1] < -0.2
    assert tip("left_knee", "left_ankle", -90)[1] > 0.3, "the shin goes back"
    assert tip("left_index1", "left_index2", -80)[2] < -0.02, "the finger curls to the palm"
    assert tip("right_index1", "right_index2", -80)[2] < -0.02
    left, right = body.data.bones["left_shoulder"].matrix_local, body.data.bones["right_shoulder"].matrix_local
    flip = np.diag([-1.0, 1.0, 1.0])
    np.testing.assert_allclose(flip @ np.array(left.to_3x3()) @ flip, np.array(right.to_3x3()), atol=1e-5)


def test_a_body_stands_on_its_object(addon, body, human) -> None:
    proxy = rig_info.proxy_of(body).evaluated_get(addon.context.evaluated_depsgraph_get()).to_mesh()
    lowest = min(vertex.co.z for vertex in proxy.vertices)
    assert lowest == pytest.approx(0.0, abs=1e-4)
    bent = np.zeros((55, 3))
    bent[human.joint("left_knee"), 0] = bent[human.joint("right_knee"), 0] = 1.2
    pose_write.set_standing(body, bent)
    feet = heads(addon, body, ("left_foot", "right_foot"))[:, 2]
    assert 0.0 < feet.min() < 0.12


def test_forward_poses_come_back_to_a_millionth(addon, body, human) -> None:
    rotations, translation = random_pose(55, 3, 0.5)
    pose_write.set_pose(body, rotations, translation)
    state = states(addon)[body.name_full]
    difference = template.rotation_matrices(state.rotations) - template.rotation_matrices(rotations)
    assert np.abs(difference).max() < 2e-6
    assert_forward_kinematics_agree(addon, body, human)


def test_copy_rotation_and_drivers_are_read_as_evaluated(addon, body, human) -> None:
    turn = np.array([0.3, -0.5, 0.7])
    rotations = np.zeros((55, 3))
    rotations[human.joint("left_shoulder")] = turn
    pose_write.set_pose(body, rotations)
    copy = body.pose.bones["right_hip"].constraints.new("COPY_ROTATION")
    copy.target, copy.subtarget = body, "left_shoulder"
    copy.target_space = copy.owner_space = "LOCAL"
    driven = body.pose.bones["jaw"]
    driven.rotation_mode = "XYZ"
    driver = driven.driver_add("rotation_euler", 0).driver
    driver.type, driver.expression = "SCRIPTED", "0.5*v"
    variable = driver.variables.new()
    variable.name = "v"
    variable.targets[0].id, variable.targets[0].data_path = body, "location[0]"
    body.location.x = 0.6
    state = states(addon)[body.name_full]
    # The hip turns as much as the shoulder, about the same axes of its own bone.
    axes = {name: np.array(body.data.bones[name].matrix_local.to_3x3()) for name in ("left_shoulder", "right_hip")}
    basis = axes["left_shoulder"].T @ template.rotation_matrices(turn) @ axes["left_shoulder"]
    expected = axes["right_hip"] @ basis @ axes["right_hip"].T
    found = template.rotation_matrices(state.rotations[human.joint("right_hip")])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    jaw = np.array(body.data.bones["jaw"].matrix_local.to_3x3())[:, 0] * 0.3
    np.testing.assert_allclose(state.rotations[human.joint("jaw")], jaw, atol=1e-6)
    assert_forward_kinematics_agree(addon, body, human)


def test_ik_controls_move_hands_and_feet_and_are_read_exactly(addon, body, human) -> None:
    before = states(addon)[body.name_full]
    assert rig_ik.add_controls(addon.context, body) == 4
    after = states(addon)[body.name_full]
    moved = template.rotation_matrices(after.rotations) - template.rotation_matrices(before.rotations)
    assert np.abs(moved).max() < 0.08, "nothing jumps but for the first bend of a straight limb"
    bones = body.pose.bones
    for name, way in (("ik_left_wrist", (-0.2, -0.3, 0.0)), ("ik_right_ankle", (0.0, -0.2, 0.3))):
        bones[name].location += bones[name].bone.matrix_local.to_3x3().inverted() @ _vector(*way)
    wanted = heads(addon, body, ("ik_left_wrist", "ik_right_ankle"))
    np.testing.assert_allclose(heads(addon, body, ("left_wrist", "right_ankle")), wanted, atol=2e-3)
    places = dict(
        zip(
            ("elbow", "shoulder", "knee", "hip", "ankle"),
            heads(addon, body, ("left_elbow", "left_shoulder", "right_knee", "right_hip", "right_ankle")),
            strict=True,
        )
    )
    assert places["elbow"][1] > min(places["shoulder"][1], wanted[0][1]), "the elbow points back"
    assert places["knee"][1] < (places["hip"][1] + places["ankle"][1]) / 2, "the knee points forward"
    assert_forward_kinematics_agree(addon, body, human)
    posed = heads(addon, body, human.joint_names)
    assert rig_ik.remove_controls(addon.context, body) == 4
    np.testing.assert_allclose(heads(addon, body, human.joint_names), posed, atol=1e-4)
    assert not [bone for bone in body.data.bones if bone.name.startswith(("ik_", "pole_"))]


def test_visemes_reach_expressions_and_the_jaw_with_python_in_files_off(addon, body, human) -> None:
    addon.context.preferences.filepaths.use_scripts_auto_execute = False
    keys = rig_info.proxy_of(body).data.shape_keys.key_blocks
    keys["viseme_aa"].value, keys["viseme_O"].value, keys["mouthFunnel"].value = 0.5, 1.0, 0.1
    state = states(addon)[body.name_full]
    funnel = human.expression_names.index("mouthFunnel")
    assert state.expression[funnel] == pytest.approx(0.1 + visemes.VISEMES["viseme_O"][1]["mouthFunnel"], abs=1e-5)
    opened = 0.5 * visemes.openness()["viseme_aa"] + visemes.openness()["viseme_O"]
    np.testing.assert_allclose(state.rotations[human.joint("jaw")], (opened, 0, 0), atol=1e-6)
    # The proxy shows what the backend is told.
    vertices, _ = template.rest(human, expression=state.expression)
    skinning, _ = template.joint_transforms(state.rotations, template.rest(human)[1], human.parents, state.translation)
    mesh = rig_info.proxy_of(body).evaluated_get(addon.context.evaluated_depsgraph_get()).to_mesh()
    posed = np.empty((len(vertices), 3), np.float32)
    mesh.vertices.foreach_get("co", posed.reshape(-1))
    detail = people.detail(human).proxy
    weights = np.zeros_like(human.weights)
    np.put_along_axis(weights, detail.joints.astype(int), detail.weights, axis=1)
    np.testing.assert_allclose(posed, template.skin(vertices, weights, skinning), atol=5e-5)
    keys["viseme_O"].mute = True
    assert states(addon)[body.name_full].expression[funnel] < 0.2


def test_a_duplicate_is_posed_on_its_own(addon, body, human) -> None:
    copy = _duplicate(addon, body)
    pose_write.set_pose(copy, *random_pose(55, 5, 0.4))
    pose_write.set_expressions(copy, {"jawOpen": 0.8})
    pose_write.key_pose(copy, 1)
    pose_write.key_expressions(copy, 1, ("jawOpen",))
    found = states(addon)
    assert np.abs(found[body.name_full].rotations).max() < 1e-5
    assert found[body.name_full].expression.max() == 0
    assert np.abs(found[copy.name_full].rotations).max() > 0.3
    assert found[copy.name_full].expression[human.expression_names.index("jawOpen")] == pytest.approx(0.8)
    assert found[body.name_full].avatar_id == found[copy.name_full].avatar_id
    third = _duplicate(addon, copy)
    pose_write.set_expressions(third, {"jawOpen": 0.2})
    pose_write.key_expressions(third, 1, ("jawOpen",))
    addon.context.scene.frame_set(1)
    index = human.expression_names.index("jawOpen")
    assert states(addon)[copy.name_full].expression[index] == pytest.approx(0.8)
    assert states(addon)[third.name_full].expression[index] == pytest.approx(0.2)


def test_undo_takes_a_pose_and_an_avatar_back(addon, human) -> None:
    addon.ops.ed.undo_push(message="start")
    body = rig_build.add_avatar(addon.context, people.detail(human))
    addon.ops.ed.undo_push(message="added")
    name = body.name
    pose_write.set_pose(body, *random_pose(55, 5, 0.4))
    addon.ops.ed.undo_push(message="posed")
    addon.ops.ed.undo()
    assert np.abs(states(addon)[name].rotations).max() < 1e-5
    addon.ops.ed.redo()
    assert np.abs(states(addon)[name].rotations).max() > 0.3
    addon.ops.ed.undo()
    addon.ops.ed.undo()
    assert name not in addon.data.objects
    assert not states(addon)


def test_saved_appended_linked_and_overridden_avatars_keep_working(addon, body, human, tmp_path) -> None:
    rotations, translation = random_pose(55, 6, 0.4)
    pose_write.set_pose(body, rotations, translation)
    pose_write.set_expressions(body, {"jawOpen": 0.4})
    body.name, rig_info.proxy_of(body).name = "Renamed", "Stand-in"
    shelf = addon.data.collections.new("Anna")
    addon.context.scene.collection.children.link(shelf)
    for part in (body, rig_info.proxy_of(body)):
        for owner in part.users_collection:
            owner.objects.unlink(part)
        shelf.objects.link(part)
    path = str(tmp_path / "anna.blend")
    addon.ops.wm.save_as_mainfile(filepath=path)
    addon.ops.wm.open_mainfile(filepath=path)
    index = human.expression_names.index("jawOpen")

    def check(state) -> None:
        difference = template.rotation_matrices(state.rotations) - template.rotation_matrices(rotations)
        assert np.abs(difference).max() < 2e-6
        assert state.expression[index] == pytest.approx(0.4)

    check(states(addon)["Renamed"])
    # appended
    addon.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    addon.ops.wm.append(directory=f"{path}/Collection/", filename="Anna")
    check(states(addon)["Renamed"])
    assert rig_info.proxy_of(addon.data.objects["Renamed"]) is not None
    # linked, then overridden: posed and voiced in the shot without touching the library
    addon.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    addon.ops.wm.link(directory=f"{path}/Collection/", filename="Anna", instance_collections=False)
    (linked,) = states(addon).values()
    check(linked)
    scene = addon.context.scene
    linked_shelf = next(c for c in addon.data.collections if c.library is not None and c.name == "Anna")
    linked_shelf.override_hierarchy_create(scene, addon.context.view_layer, do_fully_editable=True)
    for child in [c for c in scene.collection.children if c.library is not None]:
        scene.collection.children.unlink(child)
    mine = next(o for o in addon.data.objects if o.type == "ARMATURE" and o.override_library is not None)
    pose_write.reset_pose(mine)
    pose_write.set_expressions(mine, {"jawOpen": 0.9})
    pose_write.key_pose(mine, 1)
    pose_write.key_expressions(mine, 1, ("jawOpen",))
    state = states(addon)[mine.name_full]
    assert np.abs(state.rotations).max() < 1e-5
    assert state.expression[index] == pytest.approx(0.9)
    shot = str(tmp_path / "shot.blend")
    addon.ops.wm.save_as_mainfile(filepath=shot)
    addon.ops.wm.open_mainfile(filepath=shot)
    found = [s for s in states(addon).values() if np.abs(s.rotations).max() < 1e-5]
    assert found
    assert found[0].expression[index] == pytest.approx(0.9)


def test_the_proxy_can_cast_its_shadow_unseen(addon, body) -> None:
    bpy = addon
    assert body.effigy.proxy_role == "VISIBLE"
    scene = bpy.context.scene
    bpy.ops.mesh.primitive_plane_add(size=6)
    plane = bpy.context.object
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.data.energy, sun.rotation_euler = 4.0, (math.radians(50), 0, 0)
    scene.collection.objects.link(sun)
    eye = bpy.data.objects.new("Eye", bpy.data.cameras.new("Eye"))
    eye.location, eye.rotation_euler = (0, -0.5, 7.0), (0, 0, 0)
    scene.collection.objects.link(eye)
    scene.camera, scene.render.engine = eye, "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = 8, False
    scene.render.resolution_x = scene.render.resolution_y = 64
    scene.view_settings.view_transform = "Standard"
    pictures = {}
    for role in ("HIDDEN", "SHADOW", "VISIBLE"):
        body.effigy.proxy_role = role
        assert rig_proxy.role_of(body) == role
        pictures[role] = _render(bpy)
    bare, shadow, seen = (pictures[name][..., :3].mean(-1) for name in ("HIDDEN", "SHADOW", "VISIBLE"))
    dark = (bare > 0.2) & (shadow < 0.3 * bare)
    assert dark.sum() > 60, "its shadow lies on the floor"
    assert ((np.abs(seen - shadow) > 0.05) & ~dark).sum() + (np.abs(seen - shadow) > 0.05).sum() > 60
    # Where the body stands between camera and lit floor, only VISIBLE shows it.
    lit = ~dark & (bare > 0.2)
    assert (np.abs(shadow - bare)[lit] < 0.12).mean() > 0.95
    assert plane.name in scene.objects


def _vector(x: float, y: float, z: float):
    from mathutils import Vector

    return Vector((x, y, z))


def _duplicate(bpy, rig_object):
    bpy.ops.object.select_all(action="DESELECT")
    for part in (rig_object, rig_info.proxy_of(rig_object)):
        part.select_set(True)
    bpy.context.view_layer.objects.active = rig_object
    bpy.ops.object.duplicate()
    return bpy.context.view_layer.objects.active


def _render(bpy) -> np.ndarray:
    import tempfile
    from pathlib import Path

    from . import shots

    with tempfile.TemporaryDirectory() as folder:
        return shots.render_exr(Path(folder) / "x.exr")["Combined"]
