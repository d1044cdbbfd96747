"""Body motions from files of every width, and the one step from SMPL's axes into ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shared import motions
from shared.errors import BadCapture
from shared.rotations import axis_angles_from_matrices
from shared.template import joint_transforms, load_template


def write(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_every_width_fills_the_same_55_joints(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    full = rng.normal(0, 0.3, (5, 165)).astype(np.float32)
    trans = rng.normal(0, 1, (5, 3))
    x = motions.read_smpl_motion(write(tmp_path / "x.npz", poses=full, trans=trans, mocap_frame_rate=np.array(120.0)))
    assert x.fps == 120.0
    np.testing.assert_array_equal(x.rotations.reshape(5, 165), full)
    h = np.concatenate([full[:, :66], full[:, 75:]], 1)
    smplh = motions.read_smpl_motion(
        write(
            tmp_path / "h.npz",
            poses=h,
            trans=trans,
            mocap_framerate=60,
            gender=np.array("male", dtype=object),  # a pickle; it is not opened
            dmpls=np.zeros((5, 8)),
        )
    )
    assert smplh.fps == 60.0
    np.testing.assert_array_equal(smplh.rotations[:, :22], x.rotations[:, :22])
    np.testing.assert_array_equal(smplh.rotations[:, 25:], x.rotations[:, 25:])
    assert not smplh.rotations[:, 22:25].any()
    smpl = motions.read_smpl_motion(write(tmp_path / "s.npz", poses=full[:, :72], trans=trans))
    assert smpl.fps is None
    assert not smpl.rotations[:, 22:].any()
    odd = motions.read_smpl_motion(write(tmp_path / "o.npz", poses=full[:, :90], trans=trans))
    assert "90 numbers" in odd.notes[0]
    parts = motions.read_smpl_motion(
        write(
            tmp_path / "p.npz",
            root_orient=full[:, :3],
            pose_body=full[:, 3:66],
            pose_jaw=full[:, 66:69],
            pose_eye=full[:, 69:75],
            pose_hand=full[:, 75:],
            trans=trans,
        )
    )
    np.testing.assert_array_equal(parts.rotations, x.rotations)
    registration = motions.read_smpl_motion(
        write(
            tmp_path / "smpl_params.npz",
            body_pose=full[:, 3:66].reshape(5, 21, 3),
            global_orient=full[:, :3],
            left_hand_pose=full[:, 75:120],
            right_hand_pose=np.zeros((5, 12)),
            transl=trans,
            betas=np.zeros((1, 10)),
        )
    )
    assert registration.kind == "smpl_params"
    np.testing.assert_array_equal(registration.rotations[:, :22], x.rotations[:, :22])
    np.testing.assert_array_equal(registration.rotations[:, 25:40], x.rotations[:, 25:40])
    assert "right hand" in registration.notes[0]


@pytest.mark.parametrize("up", sorted(motions.WORLD_FROM_UP))
def test_the_model_moves_as_smpl_moves_it(up: str) -> None:
    """The body posed in SMPL's own axes, its joints then turned into ours, against the body posed in ours."""
    human, rng = load_template(), np.random.default_rng(1)
    rotations = rng.normal(0, 0.4, (3, 55, 3))
    world = motions.WORLD_FROM_UP[up]
    assert np.linalg.det(world) == pytest.approx(1)
    np.testing.assert_allclose(world @ (np.eye(3)["xyz".index(up[-1])] * (-1 if up[0] == "-" else 1)), (0, 0, 1))
    smpl_joints = human.joints @ motions.MODEL_FROM_SMPL  # our rest joints in SMPL's axes
    motion = motions.SmplMotion(
        "m",
        "amass",
        rotations,
        rng.normal(0, 1, (3, 3)),
        np.zeros((3, 0)),
        np.zeros(0),
        30.0,
        165,
        tuple(smpl_joints[0]),
    )
    ours, pelvis = motions.in_model_axes(motion, up)
    for frame in range(3):
        _, theirs = joint_transforms(motion.rotations[frame], smpl_joints, human.parents, motion.translations[frame])
        _, found = joint_transforms(ours[frame], human.joints, human.parents, pelvis[frame] - human.joints[0])
        np.testing.assert_allclose(found[:, :3, 3], theirs[:, :3, 3] @ world.T, atol=1e-6)


def test_up_is_found_from_how_the_body_stands() -> None:
    for up, world in motions.WORLD_FROM_UP.items():
        standing = axis_angles_from_matrices(world.T @ motions.MODEL_FROM_SMPL)
        rotations = np.zeros((4, 55, 3))
        rotations[:, 0] = standing
        motion = motions.SmplMotion(
            "m", "amass", rotations, np.zeros((4, 3)), np.zeros((4, 0)), np.zeros(0), 30.0, 165, (0.0, 0.0, 0.0)
        )
        assert motions.likely_up(motion) == up


def test_bad_files_are_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadCapture, match="cannot be read"):
        motions.read_smpl_motion(tmp_path / "none.npz")
    with pytest.raises(BadCapture, match="is no body motion"):
        motions.read_smpl_motion(write(tmp_path / "a.npz", trans=np.zeros((3, 3))))
    with pytest.raises(BadCapture, match="another width"):
        motions.read_smpl_motion(write(tmp_path / "a.npz", poses=np.zeros((3, 63)), trans=np.zeros((3, 3))))
    with pytest.raises(BadCapture, match=r"not finite.*frame 1"):
        motions.read_smpl_motion(write(tmp_path / "a.npz", poses=np.array([[0.0] * 66, [np.nan] * 66])))
    with pytest.raises(BadCapture, match="does not fit"):
        motions.read_smpl_motion(write(tmp_path / "a.npz", poses=np.zeros((3, 66)), trans=np.zeros((2, 3))))
    with pytest.raises(BadCapture, match="frame rate"):
        motions.read_smpl_motion(write(tmp_path / "a.npz", poses=np.zeros((3, 66)), mocap_framerate=-1))
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(BadCapture, match="damaged"):
        motions.read_smpl_motion(tmp_path / "b.npz")
