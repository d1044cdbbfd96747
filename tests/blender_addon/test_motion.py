"""Motions from files as keys on an avatar: what Blender evaluates is what the file's own model computes."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from blender_addon.logic import motion_files, motion_fit
from blender_addon.motions import make_motions
from blender_addon.services import curves, motion_write, pose_read, rig_build, rig_ik, rig_info, sample_motions
from shared import errors, motions, template

from . import people


@pytest.fixture(scope="module")
def human() -> template.TemplateArrays:
    return template.load_template()


@pytest.fixture
def body(addon, human):
    addon.context.scene.render.fps = 30
    return rig_build.add_avatar(addon.context, people.detail(human))


def state_at(bpy, frame: int):
    bpy.context.scene.frame_set(frame)
    return pose_read.read_avatars(bpy.context.evaluated_depsgraph_get())[0]


def smpl_poses(frames: int, seed: int = 0, size: float = 0.25) -> np.ndarray:
    """[T, 165] smooth poses in SMPL's axes, upright in a z-up world."""
    rng = np.random.default_rng(seed)
    steady = rng.normal(0, size, (1, 165)) * np.ones((frames, 1))
    poses = steady * np.sin(np.linspace(0.3, 2.2, frames))[:, None]
    turn = template.rotation_matrices(np.array([0.0, 0.0, 0.4])) @ motions.MODEL_FROM_SMPL
    from shared.rotations import axis_angles_from_matrices

    poses[:, :3] = axis_angles_from_matrices(turn)
    return poses


@pytest.mark.parametrize("width", [165, 156, 72])
def test_amass_of_any_width_stands_as_its_own_model_does(addon, body, human, tmp_path, width) -> None:
    poses, trans = smpl_poses(6), np.linspace((0, 0, 0.9), (0.5, 1.0, 0.95), 6)
    columns = {165: np.arange(165), 156: np.r_[0:66, 75:165], 72: np.r_[0:66, 0:6]}[width]
    np.savez(tmp_path / "m.npz", poses=poses[:, columns], trans=trans, mocap_framerate=30.0, gender=np.array(b"male"))
    addon.ops.effigy.import_motion(
        filepath=str(tmp_path / "m.npz"), start=11, at_origin=False, on_floor=False, scale=1.0
    )
    joints = human.joints @ motions.MODEL_FROM_SMPL  # our skeleton in SMPL's axes: the file's own model
    read = motions.read_smpl_motion(tmp_path / "m.npz")
    for frame in (0, 5):
        state = state_at(addon, 11 + frame)
        _, ours = template.joint_transforms(state.rotations, human.joints, human.parents, state.translation)
        wanted = read.rotations[frame].copy()
        _, theirs = template.joint_transforms(wanted, joints, human.parents, trans[frame])
        shift = np.asarray(read.pelvis_m) - joints[0]
        known = 55 if width > 72 else 22
        np.testing.assert_allclose(ours[:known, :3, 3], theirs[:known, :3, 3] + shift, atol=2e-5)


def test_registrations_find_their_up_axis_and_lie_never(addon, body, human, tmp_path) -> None:
    for up, world in motions.WORLD_FROM_UP.items():
        from shared.rotations import axis_angles_from_matrices

        turn = axis_angles_from_matrices(world.T @ motions.MODEL_FROM_SMPL)
        np.savez(
            tmp_path / "smpl_params.npz",
            body_pose=np.zeros((3, 21, 3)),
            global_orient=np.tile(turn, (3, 1)),
            transl=np.zeros((3, 3)),
            jaw_pose=np.tile([0.2, 0, 0], (3, 1)),
        )
        addon.ops.effigy.import_motion(filepath=str(tmp_path / "smpl_params.npz"), start=1)
        state = state_at(addon, 2)
        head = _place(human, state, "head")
        assert head[2] > 1.4, up
        assert state.rotations[human.joint("jaw")][0] == pytest.approx(0.2, abs=1e-4)
        assert abs(_place(human, state, "left_foot")[2]) < 0.1, "its feet are on the floor"


def _place(human, state, joint: str) -> np.ndarray:
    _, joints = template.joint_transforms(state.rotations, human.joints, human.parents, state.translation)
    return joints[human.joint(joint), :3, 3]


def test_frame_rates_places_and_headings(addon, body, human, tmp_path) -> None:
    poses, frames = smpl_poses(121), 121
    trans = np.linspace((3.0, -2.0, 0.9), (3.0, 0.0, 0.9), frames)
    np.savez(tmp_path / "m.npz", poses=poses, trans=trans, mocap_frame_rate=120.0)
    path = str(tmp_path / "m.npz")
    addon.ops.effigy.import_motion(filepath=path, start=5)
    assert addon.context.scene.frame_end >= 35
    first, last = state_at(addon, 5), state_at(addon, 35)
    np.testing.assert_allclose(first.translation[:2] + human.joints[0, :2], 0, atol=1e-4)
    legs = motion_fit.leg_length_m(human.joint_names, human.joints) / motion_files.SMPL_LEG_M
    np.testing.assert_allclose(last.translation[:2] - first.translation[:2], (0, 2 * legs), atol=1e-4)
    middle = state_at(addon, 20)
    exact = motions.in_model_axes(motions.read_smpl_motion(tmp_path / "m.npz"))[0][60]
    np.testing.assert_allclose(
        template.rotation_matrices(middle.rotations), template.rotation_matrices(exact), atol=1e-5
    )
    addon.ops.effigy.import_motion(filepath=path, start=5, in_place=True, forward=True, source_fps=60.0)
    moved = np.stack([state_at(addon, frame).translation for frame in (5, 30, 65)])
    assert np.ptp(moved[:, :2], axis=0).max() < 1e-5
    facing = template.rotation_matrices(state_at(addon, 5).rotations[0]) @ (0, -1, 0)
    assert facing[0] == pytest.approx(0, abs=1e-4)
    assert facing[1] < 0


def test_keys_outside_the_range_and_other_channels_stay(addon, body, tmp_path) -> None:
    bone = body.pose.bones["left_elbow"]
    for frame in (1, 12, 40):
        bone.rotation_quaternion = (1, 0.01 * frame, 0, 0)
        bone.keyframe_insert("rotation_quaternion", frame=frame)
    body.keyframe_insert("location", frame=3)
    keys = rig_info.proxy_of(body).data.shape_keys
    keys.key_blocks["jawOpen"].keyframe_insert("value", frame=1)
    np.savez(tmp_path / "m.npz", poses=smpl_poses(10), trans=np.zeros((10, 3)), mocap_framerate=30.0)
    addon.ops.effigy.import_motion(filepath=str(tmp_path / "m.npz"), start=10)
    curve = next(c for c in curves.curves_of(body) if "left_elbow" in c.data_path and c.array_index == 1)
    frames = [point.co.x for point in curve.keyframe_points]
    assert frames == [1.0, *range(10, 20), 40.0]
    assert curve.evaluate(40) == pytest.approx(0.4)
    assert any(c.data_path == "location" for c in curves.curves_of(body))
    assert len(curves.curves_of(keys)) == 1, "the face, which AMASS does not know, keeps its keys"


def test_thousands_of_frames_are_written_at_once_and_can_be_stopped(addon, body, tmp_path) -> None:
    np.savez(tmp_path / "m.npz", poses=smpl_poses(3000), trans=np.zeros((3000, 3)), mocap_framerate=30.0)
    fitted = motion_fit.fit(
        motion_files.read_motion(tmp_path / "m.npz"), rig_info.rig_of(body), motion_fit.FitOptions(30.0)
    )
    work = motion_write.key_motion(body, fitted, 1)
    for _ in range(20):
        next(work)
    work.close()
    assert curves.curves_of(body) == []
    assert len(addon.data.actions) == 0
    begun = time.perf_counter()
    for _ in motion_write.key_motion(body, fitted, 1):
        pass
    print(f"3000 frames of 55 joints keyed in {time.perf_counter() - begun:.2f} s")
    assert sum(len(curve.keyframe_points) for curve in curves.curves_of(body)) > 3000 * 100


def test_flame_tracks_move_a_flame_head_and_lend_their_head_to_others(addon, body, human, tmp_path) -> None:
    rng = np.random.default_rng(2)
    parts = {
        name: rng.normal(0, 0.2, (4, width)) for name, width in (("rotation", 3), ("neck_pose", 3), ("jaw_pose", 3))
    }
    np.savez(
        tmp_path / "flame_param.npz",
        **parts,
        eyes_pose=np.zeros((4, 6)),
        expr=rng.normal(0, 1, (4, 100)),
        translation=np.zeros((4, 3)),
        dynamic_offset=np.zeros((4, 5, 3)),
    )
    addon.ops.effigy.import_motion(filepath=str(tmp_path / "flame_param.npz"), start=1, source_fps=30.0)
    state = state_at(addon, 3)
    for joint, name in (("head", "neck_pose"), ("neck", "rotation"), ("jaw", "jaw_pose")):
        wanted = parts[name][2] @ motions.MODEL_FROM_SMPL.T
        np.testing.assert_allclose(state.rotations[human.joint(joint)], wanted, atol=1e-5)
    # A NeRSemble folder: one file a frame, named by a file in it or by the folder around it.
    folder = tmp_path / "074_EMO1" / "flame_param"
    folder.mkdir(parents=True)
    for frame in range(4):
        single = {name: value[frame : frame + 1] for name, value in parts.items()}
        np.savez(folder / f"{frame:05d}.npz", **single, eyes_pose=np.zeros((1, 6)), expr=np.zeros((1, 100)))
    for path in (folder, folder.parent, folder / "00000.npz"):
        found = motion_files.read_motion(path)
        assert len(found) == 4
        np.testing.assert_allclose(
            found.rotations[:, found.joint_names.index("jaw")], parts["jaw_pose"] @ motions.MODEL_FROM_SMPL.T
        )


def test_own_motions_by_name_and_the_wrong_ones_in_a_sentence(addon, body, human, tmp_path) -> None:
    names = np.array(["head", "tail"])
    np.savez(
        tmp_path / "own.npz",
        rotations=np.full((2, 2, 3), 0.1),
        translations=np.zeros((2, 3)),
        expressions=np.array([[0.0, 0.5], [0.6, 0.5]]),
        joint_names=names,
        expression_names=np.array(["jawOpen", "wiggle"]),
        fps=30.0,
    )
    addon.ops.effigy.import_motion(filepath=str(tmp_path / "own.npz"), start=1)
    state = state_at(addon, 2)
    np.testing.assert_allclose(state.rotations[human.joint("head")], 0.1, atol=1e-6)
    assert state.expression[human.expression_names.index("jawOpen")] == pytest.approx(0.6)
    bad = (
        ({"x": np.zeros(3)}, "no motion Effigy knows"),
        ({"poses": np.zeros((3, 10)), "trans": np.zeros((3, 3))}, "another width"),
        (
            {"rotations": np.zeros((2, 3)), "translations": np.zeros(3), "expressions": np.zeros(2)},
            "do not fit together",
        ),
        ({"poses": np.full((3, 66), np.nan)}, "not finite"),
    )
    for arrays, sentence in bad:
        np.savez(tmp_path / "bad.npz", **arrays)
        with pytest.raises(RuntimeError, match=sentence):
            addon.ops.effigy.import_motion(filepath=str(tmp_path / "bad.npz"))
    for path in ("", str(tmp_path / "none.npz")):
        with pytest.raises(RuntimeError, match="no such motion file"):
            addon.ops.effigy.import_motion(filepath=path)
    tail = motion_files.SourceMotion(
        "t", "x", ("tail",), np.zeros((1, 1, 3)), "", np.zeros((1, 3)), "rest", (), np.zeros((1, 0)), 30.0
    )
    with pytest.raises(errors.BadCapture, match="moves nothing"):
        motion_fit.fit(tail, rig_info.rig_of(body), motion_fit.FitOptions(30.0))


def test_ik_controls_give_way_to_an_imported_motion(addon, body, human, tmp_path) -> None:
    rig_ik.add_controls(addon.context, body)
    np.savez(tmp_path / "m.npz", poses=smpl_poses(3), trans=np.zeros((3, 3)), mocap_framerate=30.0)
    addon.ops.effigy.import_motion(filepath=str(tmp_path / "m.npz"), start=1)
    exact = motions.in_model_axes(motions.read_smpl_motion(tmp_path / "m.npz"))[0][2]
    found = template.rotation_matrices(state_at(addon, 3).rotations)
    np.testing.assert_allclose(found, template.rotation_matrices(exact), atol=1e-5)


def test_head_avatars_take_what_they_have_of_a_body_motion(addon, human, tmp_path) -> None:
    bust = people.bust()
    rig_build.add_avatar(addon.context, people.detail(bust))
    poses = smpl_poses(3)
    np.savez(tmp_path / "m.npz", poses=poses, trans=np.full((3, 3), 2.0), mocap_framerate=24.0)
    addon.ops.effigy.import_motion(filepath=str(tmp_path / "m.npz"), start=1)
    state = state_at(addon, 2)
    np.testing.assert_allclose(state.translation, 0, atol=1e-6)
    wanted = motions.in_model_axes(motions.read_smpl_motion(tmp_path / "m.npz"))[0][1]
    for name in ("neck", "head", "jaw"):
        np.testing.assert_allclose(
            state.rotations[bust.joint(name)], wanted[motions.SMPLX_JOINTS.index(name)], atol=1e-5
        )


def test_shipped_motions_are_those_of_their_script_and_small(tmp_path) -> None:
    assert make_motions.main([str(tmp_path)]) == 0
    for name in sample_motions.SAMPLES:
        shipped = sample_motions.FOLDER / f"{name}.npz"
        assert shipped.stat().st_size < 300_000
        with np.load(shipped) as ours, np.load(tmp_path / f"{name}.npz") as made:
            assert set(ours) == set(made)
            for key in ours:
                if ours[key].dtype.kind == "f":
                    np.testing.assert_allclose(ours[key], made[key], atol=1e-5)
                else:
                    np.testing.assert_array_equal(ours[key], made[key])


def test_sample_motions_walk_on_the_floor_and_loop_without_a_seam(addon, body, human) -> None:
    assert sample_motions.fitting(rig_info.rig_of(body)) == ("talk", "walk", "wave", "dance")
    addon.ops.effigy.sample_motion(motion="walk", start=1, cycles=3)
    ankles, rotations, roots = [], [], []
    for frame in range(1, 98):
        state = state_at(addon, frame)
        ankles.append([_place(human, state, f"{side}_foot") for side in ("left", "right")])
        rotations.append(template.rotation_matrices(state.rotations))
        roots.append(state.translation)
    balls, roots = np.array(ankles), np.array(roots)
    assert roots[-1, 1] < -3.5, "it walks forward, which is -y"
    lowest = balls[:, :, 2].min(axis=1)
    assert np.ptp(lowest) < 0.05, "one foot is always on the floor"
    still = np.linalg.norm(np.diff(balls[:, :, :2], axis=0), axis=2).min(axis=1)
    assert np.percentile(still, 90) < 0.012, "the foot that stands does not slide"
    assert np.linalg.norm(np.diff(roots, axis=0), axis=1).max() < 0.06, "no jump at the seam"
    turns = np.abs(np.diff(np.array(rotations), axis=0)).max(axis=(1, 2, 3))
    assert turns.max() < 0.35
    addon.ops.effigy.sample_motion(motion="walk", start=1, cycles=3, in_place=True)
    assert np.abs(state_at(addon, 60).translation[:2]).max() < 1e-5
    for name in ("wave", "dance", "talk"):
        addon.ops.effigy.sample_motion(motion=name, start=1, cycles=1)
    assert state_at(addon, 60).expression.max() > 0.1


def test_sample_motions_for_a_head(addon) -> None:
    rig_object = rig_build.add_avatar(addon.context, people.detail(people.bust()))
    assert sample_motions.fitting(rig_info.rig_of(rig_object)) == ("talk",)
    addon.ops.effigy.sample_motion(motion="talk", start=1)
    states = [state_at(addon, frame) for frame in range(1, 240, 8)]
    assert np.ptp([state.expression for state in states], axis=0).max() > 0.4
    assert np.ptp([state.rotations for state in states], axis=0).max() > 0.3


def test_a_folder_that_holds_nothing_is_told(addon, body, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="holds no motion"):
        addon.ops.effigy.import_motion(filepath=str(tmp_path))
