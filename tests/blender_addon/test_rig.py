"""Armature and proxy: a pose set in Blender is the pose the template computes, and is read back as it was set."""

from __future__ import annotations

import numpy as np
import pytest

from blender_addon.services import pose_read, pose_write, rig_build, rig_info
from shared import errors, template

from . import people


@pytest.fixture(scope="module")
def bust() -> template.TemplateArrays:
    return people.bust()


def random_pose(joints: int, seed: int, size: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, size, (joints, 3)), rng.normal(0, 0.3, 3)


def read(bpy, rig_object):
    depsgraph = bpy.context.evaluated_depsgraph_get()
    states = pose_read.read_avatars(depsgraph)
    return next(state for state in states if state.key[0] == rig_object.name_full)


def test_pose_round_trip_and_proxy_follow_the_template(addon, bust) -> None:
    rotations, translation = random_pose(len(bust.joint_names), 1)
    rig_object = rig_build.add_avatar(addon.context, people.detail(bust))
    rig_object.matrix_world = ((0, -2, 0, 3), (2, 0, 0, 1), (0, 0, 2, -1), (0, 0, 0, 1))
    pose_write.set_pose(rig_object, rotations, translation)
    pose_write.set_expressions(rig_object, {bust.expression_names[2]: 0.75, bust.expression_names[5]: 0.25})
    state = read(addon, rig_object)
    # axis-angles longer than pi come back as the same turn the short way
    np.testing.assert_allclose(
        template.rotation_matrices(state.rotations), template.rotation_matrices(rotations), atol=1e-5
    )
    np.testing.assert_allclose(state.translation, translation, atol=1e-5)
    np.testing.assert_allclose(state.world_from_avatar, np.array(rig_object.matrix_world), atol=1e-6)
    expected = np.zeros(len(bust.expression_names))
    expected[[2, 5]] = 0.75, 0.25
    np.testing.assert_allclose(state.expression, expected, atol=1e-6)

    # Joints: where the bones' heads are. Vertices: Blender's own skinning of the proxy against the template's.
    vertices, joints = template.rest(bust)
    skinning, frames = template.joint_transforms(rotations, joints, bust.parents, translation)
    depsgraph = addon.context.evaluated_depsgraph_get()
    heads = np.array([rig_object.evaluated_get(depsgraph).pose.bones[name].head for name in bust.joint_names])
    np.testing.assert_allclose(heads, frames[:, :3, 3], atol=2e-6)
    vertices[bust.expression_vertices] += np.tensordot(expected, bust.expression_dirs, axes=1)
    proxy = rig_info.proxy_of(rig_object).evaluated_get(depsgraph).to_mesh()
    posed = np.empty((len(vertices), 3), np.float32)
    proxy.vertices.foreach_get("co", posed.reshape(-1))
    detail = people.detail(bust).proxy
    weights = np.zeros_like(bust.weights)
    np.put_along_axis(weights, detail.joints.astype(int), detail.weights, axis=1)
    np.testing.assert_allclose(posed, template.skin(vertices, weights, skinning), atol=2e-5)


def test_bones_lie_along_limbs_and_keep_joint_names(addon, bust) -> None:
    rig_object = rig_build.add_avatar(addon.context, people.detail(bust))
    bones = rig_object.data.bones
    assert {bone.name for bone in bones} == {*bust.joint_names, rig_build.VISEME_BONE}
    assert all(bone.length >= 0.02 - 1e-6 for bone in bones)
    assert bones["head"].tail_local.z > bones["head"].head_local.z + 0.1
    assert bones["jaw"].tail_local.y < bones["jaw"].head_local.y - 0.05
    assert bones["left_collar"].tail_local.x > bones["left_collar"].head_local.x
    np.testing.assert_allclose(bones["neck"].tail_local, bones["head"].head_local, atol=1e-6)


def test_captured_pose_is_the_first_pose_and_can_be_had_again(addon, bust) -> None:
    captured = random_pose(len(bust.joint_names), 4, 0.2)[0]
    rig_object = rig_build.add_avatar(addon.context, people.detail(bust, rest_pose=captured))
    np.testing.assert_allclose(read(addon, rig_object).rotations, captured, atol=1e-5)
    pose_write.reset_pose(rig_object)
    np.testing.assert_allclose(read(addon, rig_object).rotations, 0, atol=1e-5)
    pose_write.set_captured_pose(rig_object)
    np.testing.assert_allclose(read(addon, rig_object).rotations, captured, atol=1e-5)


def test_constraints_and_extra_bones_are_read_as_evaluated(addon, bust) -> None:
    rig_object = rig_build.add_avatar(addon.context, people.detail(bust))
    addon.ops.object.mode_set(mode="EDIT")
    control = rig_object.data.edit_bones.new("A control")
    control.head, control.tail = (0, 0, 0), (0, 0, 0.1)
    rig_object.data.edit_bones["spine3"].parent = control
    addon.ops.object.mode_set(mode="OBJECT")
    copy = rig_object.pose.bones["neck"].constraints.new("COPY_ROTATION")
    copy.target, copy.subtarget = rig_object, "A control"
    copy.target_space = copy.owner_space = "LOCAL"
    rig_object.pose.bones["A control"].rotation_mode = "XYZ"
    rig_object.pose.bones["A control"].rotation_euler = (0.3, -0.2, 0.4)
    state = read(addon, rig_object)
    assert np.linalg.norm(state.rotations[0]) > 0.4, "the root turns with its control bone"
    assert np.linalg.norm(state.rotations[1]) > 0.4, "the neck copies it"
    np.testing.assert_allclose(state.rotations[2:], 0, atol=1e-5)


def test_keys_and_sub_frames_are_evaluated_also_with_the_proxy_hidden_in_renders(addon, bust) -> None:
    rig_object = rig_build.add_avatar(addon.context, people.detail(bust))
    name = bust.expression_names[0]
    for frame, value in ((1, 0.0), (3, 1.0)):
        pose_write.set_expressions(rig_object, {name: value})
        pose_write.key_expressions(rig_object, frame, (name,))
        turned = np.zeros((len(bust.joint_names), 3))
        turned[4, 2] = value * 0.5
        pose_write.set_pose(rig_object, turned)
        pose_write.key_pose(rig_object, frame)
    proxy = rig_info.proxy_of(rig_object)
    proxy.hide_render = proxy.hide_viewport = True
    addon.context.scene.frame_set(2, subframe=0.0)
    state = read(addon, rig_object)
    assert state.expression[0] == pytest.approx(0.5, abs=1e-3)
    assert state.rotations[4, 2] == pytest.approx(0.25, abs=1e-3)
    addon.context.scene.frame_set(2, subframe=0.5)
    assert read(addon, rig_object).expression[0] > 0.6


def test_copies_and_collection_instances_are_avatars_of_their_own(addon, bust) -> None:
    rig_object = rig_build.add_avatar(addon.context, people.detail(bust))
    inner = addon.data.collections.new("Inner")
    for part in (rig_object, rig_info.proxy_of(rig_object)):
        addon.context.collection.objects.unlink(part)
        inner.objects.link(part)
    for x in (1.0, 2.0):
        empty = addon.data.objects.new(f"At {x}", None)
        empty.instance_type, empty.instance_collection, empty.location.x = "COLLECTION", inner, x
        addon.context.collection.objects.link(empty)
    depsgraph = addon.context.evaluated_depsgraph_get()
    places = sorted(state.world_from_avatar[0, 3] for state in pose_read.read_avatars(depsgraph))
    assert places == [1.0, 2.0]
    stacked = pose_read.stack([pose_read.read_avatars(depsgraph)] * 3)
    assert len(stacked) == 2
    assert stacked[0].rotations.shape == (3, len(bust.joint_names), 3)


def test_damage_is_told_in_one_sentence(addon, bust) -> None:
    rig_object = rig_build.add_avatar(addon.context, people.detail(bust))
    rig_object.scale = (1, 2, 1)
    with pytest.raises(errors.BadAvatar, match="scaled unevenly"):
        read(addon, rig_object)
    rig_object.scale = (1, 1, 1)
    rig_object.data.bones["jaw"].name = "chin"
    with pytest.raises(errors.BadAvatar, match="lost the bone 'jaw'"):
        read(addon, rig_object)
    rig_object.data.bones["chin"].name = "jaw"
    addon.ops.object.mode_set(mode="EDIT")
    rig_object.data.edit_bones["head"].head.x += 0.05
    addon.ops.object.mode_set(mode="OBJECT")
    with pytest.raises(errors.BadAvatar, match="rest pose of armature"):
        read(addon, rig_object)
    rig_object.data.effigy.rig = "{}"
    rig_object.data.update_tag()
    with pytest.raises(errors.BadAvatar, match="damaged"):
        read(addon, rig_object)


def test_a_deleted_proxy_leaves_a_poseable_avatar(addon, bust) -> None:
    rig_object = rig_build.add_avatar(addon.context, people.detail(bust))
    addon.data.objects.remove(rig_info.proxy_of(rig_object))
    pose_write.set_expressions(rig_object, {bust.expression_names[0]: 1.0})
    assert not read(addon, rig_object).expression.any()


def test_the_avatar_of_an_object_is_found_through_its_parents(addon, bust) -> None:
    rig_object = rig_build.add_avatar(addon.context, people.detail(bust))
    assert rig_info.avatar_of(rig_info.proxy_of(rig_object)) == rig_object
    assert rig_info.avatar_of(addon.data.objects.new("Alone", None)) is None
