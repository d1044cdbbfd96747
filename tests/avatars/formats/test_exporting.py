"""Whole avatars and posed frames as files: folders that read back, heads frozen for GaussianAvatars, no half files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.avatar_folder import About, load_avatar, read_description, save_avatar
from avatars.formats import exporting
from avatars.formats.conversion import gaussian_head_of
from avatars.formats.exporting import (
    export_avatar_folder,
    export_frame,
    export_frames,
    export_gaussian_avatars_folder,
    export_rgbavatar_folder,
    rest_motion,
)
from avatars.formats.flame_faces import between_teeth
from avatars.formats.flame_params import flame_params_bytes, params_of
from avatars.formats.importing import import_avatar, read_person
from avatars.formats.motions import read_motion
from avatars.formats.splat_ply import read_splat_ply
from avatars.formats.spz import read_spz
from avatars.gaussian_head.avatar import GaussianHeadAvatar
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.templates.flame_teeth import GAUSSIAN_AVATARS_STRIPS, RGBAVATAR_STRIPS, teeth_faces
from avatars.templates.opening import reference_of
from shared.errors import BadAvatar, BadConfig, BadTemplate, EffigyError, EnvironmentFailed
from shared.types import Motion, Pose
from tests.avatars.formats.gaussian_avatars_files import write_model_folder
from tests.avatars.formats.rgbavatar_files import config_text
from tests.avatars.formats.test_rgbavatar_head import SHAPE, driven, flame_pose, own_head, written
from tests.insta_files import frame_document, make_truth
from tests.tiny import tiny_head


def motion_for(avatar: RgbHeadAvatar, frames: int = 3) -> Motion:
    drives = [driven(avatar.model, flame_pose(seed)) for seed in range(frames)]
    joined = {name: torch.cat([drive[name] for drive in drives]).numpy() for name in drives[0]}
    return Motion(joined["rotations"], joined["translations"], joined["expressions"], 25.0)


@pytest.fixture
def avatar(flame_home: Path) -> RgbHeadAvatar:
    """A head of ours on FLAME with RGBAvatar's teeth."""
    del flame_home
    return RgbHeadAvatar(own_head(reference_of("flame2020_rgbavatar", shape=SHAPE), "uv").requires_grad_(False))


def test_an_exported_rgbavatar_folder_is_read_back_by_itself(tmp_path: Path, avatar: RgbHeadAvatar) -> None:
    notes = export_rgbavatar_folder(avatar, tmp_path / "out")
    assert len(notes) == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.yaml", "flame_param.npz", "model.ply"]
    imported = import_avatar(tmp_path / "out")
    assert not imported.notes
    assert imported.avatar.template().shape[:3] == pytest.approx(SHAPE)
    motion = driven(avatar.model, flame_pose(2))
    ours, theirs = avatar.pose(**motion), imported.avatar.pose(**motion)
    torch.testing.assert_close(theirs.means[:, : ours.count], ours.means, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("flame_home")
def test_whose_head_it_is_must_be_said(tmp_path: Path) -> None:
    path, _, _ = written(tmp_path)
    with pytest.raises(BadAvatar, match=r"model\.ply does not say whose head it is.*--flame-param"):
        import_avatar(path)
    imported = import_avatar(tmp_path, mean_shape=True)
    assert imported.avatar.template().shape == ()
    assert len(imported.notes) == 2  # no config, mean head
    (tmp_path / "config.yaml").write_text(config_text(129, 5))
    assert len(import_avatar(path, mean_shape=True).notes) == 1
    (tmp_path / "other.yaml").write_text(config_text(129, 20))
    with pytest.raises(BadAvatar, match=r"K = 5.*num_basis_blend 20"):
        import_avatar(path, config=tmp_path / "other.yaml", mean_shape=True)
    write_model_folder(tmp_path / "306")
    person = next((tmp_path / "306").rglob("iteration_600000/flame_param.npz"))
    shaped = import_avatar(path, flame_param=person)
    assert len(shaped.avatar.template().shape) == 300
    with pytest.raises(BadAvatar, match="does not say whose head it is"):
        read_person(tmp_path)
    with pytest.raises(BadAvatar, match="--config belongs to RGBAvatar"):
        import_avatar(tmp_path / "306", config=tmp_path / "config.yaml")


@pytest.mark.usefixtures("flame_home")
def test_a_tracked_frame_says_whose_head_it_is(tmp_path: Path) -> None:
    reference = reference_of("flame2020_rgbavatar")
    truth = make_truth(reference, 1, (16, 16))
    folder = tmp_path / "bala"
    (folder / "checkpoint").mkdir(parents=True)
    torch.save(frame_document(truth, 0, "00000"), folder / "checkpoint" / "00000.frame")
    path, _, _ = written(tmp_path)
    for source in (folder, folder / "checkpoint", folder / "checkpoint" / "00000.frame"):
        shape = import_avatar(path, flame_param=source).avatar.template().shape
        np.testing.assert_allclose(shape, truth.shape.astype(np.float32), atol=0)


@pytest.mark.usefixtures("flame_home")
def test_a_template_that_was_not_added_is_named_with_its_command(tmp_path: Path, monkeypatch) -> None:
    path, _, _ = written(tmp_path)
    with pytest.raises(BadTemplate, match="flame2023_rgbavatar"):
        import_avatar(path, mean_shape=True, template="flame2023_rgbavatar")
    monkeypatch.setenv("EFFIGY_HOME", str(tmp_path / "empty"))
    with pytest.raises(BadAvatar, match=r"FLAME template that was not added.*no FLAME.*effigy template add"):
        import_avatar(path, mean_shape=True)


def test_a_frozen_head_shows_the_same_gaussians_at_its_pose(tmp_path: Path, avatar: RgbHeadAvatar) -> None:
    """Converted for GaussianAvatars (10.5): equal at the pose, different elsewhere, teeth mapped, blendshapes lost."""
    pose = motion_for(avatar).at(1)
    pose = Pose(pose.rotations, pose.translation, np.where(np.arange(102) < 100, pose.expression, 0))
    reference = reference_of("flame2020_gaussian_avatars", shape=SHAPE)
    head, notes = gaussian_head_of(avatar.model, reference, pose)
    assert "blendshapes have no place" in notes[0]
    drive = [torch.from_numpy(np.array(value))[None] for value in (pose.rotations, pose.translation, pose.expression)]
    ours, theirs = avatar.pose(*drive), GaussianHeadAvatar(head).pose(drive[0], drive[1], drive[2][:, :100])
    shown = ours.opacities[0] > 0
    assert theirs.count == int(shown.sum())
    torch.testing.assert_close(theirs.means, ours.means[:, shown], atol=1e-5, rtol=0)
    torch.testing.assert_close(theirs.scales, ours.scales[:, shown], rtol=1e-4, atol=0)
    torch.testing.assert_close(theirs.colours, ours.colours[:, shown], atol=1e-5, rtol=0)
    turned = (theirs.quats * ours.quats[:, shown]).sum(-1).abs()
    torch.testing.assert_close(turned, torch.ones_like(turned), atol=1e-5, rtol=0)
    faces = head.faces()
    assert (faces >= 9976).any()
    upper = (faces >= 9976) & (faces < 9976 + 28)
    lower = (faces >= 9976 + 84) & (faces < 9976 + 84 + 28)
    assert upper.sum() + lower.sum() == (faces >= 9976).sum()


def test_teeth_of_both_sets_are_the_same_strips() -> None:
    """A front tooth keeps its row, column and corners from one set to the other, and there and back is the same."""
    rgb, gaussian = teeth_faces(RGBAVATAR_STRIPS), teeth_faces(GAUSSIAN_AVATARS_STRIPS)
    face = 9976 + np.arange(56)
    mapped = between_teeth(face, 10032, 10144)
    np.testing.assert_array_equal(between_teeth(mapped, 10144, 10032), face)
    np.testing.assert_array_equal(rgb[face - 9976], gaussian[mapped - 9976])
    back = between_teeth(np.arange(9976, 10144), 10144, 10032)
    assert (back < 0).sum() == 168 - 56
    assert (between_teeth(np.array([5, 9976]), 10032, 9976) == [5, -1]).all()


def test_a_gaussian_avatars_folder_is_read_back(tmp_path: Path, avatar: RgbHeadAvatar) -> None:
    motion = motion_for(avatar)
    notes = export_gaussian_avatars_folder(avatar, tmp_path / "ga", motion, 1, "", [])
    assert any("eyelid_left" in note for note in notes)
    imported = import_avatar(tmp_path / "ga")
    params = read_person(next((tmp_path / "ga").rglob("flame_param.npz")))
    assert len(params) == 3
    again = read_motion(next((tmp_path / "ga").rglob("flame_param.npz")), avatar.rig())
    np.testing.assert_array_equal(again.rotations, motion.rotations)
    assert imported.avatar.template().shape[:3] == pytest.approx(SHAPE)
    export_gaussian_avatars_folder(imported.avatar, tmp_path / "again", None, 0, "", [])
    first, second = (next((tmp_path / name).rglob("point_cloud.ply")).read_bytes() for name in ("ga", "again"))
    assert first == second
    with pytest.raises(BadAvatar, match="cannot be written as RGBAvatar files"):
        export_rgbavatar_folder(imported.avatar, tmp_path / "no")


def test_frames_are_written_one_by_one_and_appear_together(tmp_path: Path) -> None:
    avatar = RgbHeadAvatar(tiny_head(400))
    rest = rest_motion(avatar)
    motion = Motion(np.repeat(rest.rotations, 4, 0), np.arange(12).reshape(4, 3), np.repeat(rest.expressions, 4, 0), 25)
    seen: list[tuple[int, int]] = []
    export_frames(avatar, motion, [1, 3], tmp_path / "a", "ply", on_progress=lambda *at: seen.append(at))
    assert seen == [(1, 2), (2, 2)]
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["frame_0001.ply", "frame_0003.ply"]
    first, second = (read_splat_ply(tmp_path / "a" / name) for name in names)
    np.testing.assert_allclose(second.positions - first.positions, [[6, 6, 6]] * len(first), atol=1e-5)
    count = export_frame(avatar, motion.at(1), tmp_path / "one.spz", "spz")
    packed = read_spz(tmp_path / "one.spz")
    assert count == len(packed) == len(first)
    expected = first.positions[:, [0, 2, 1]] * [1, 1, -1]  # SPZ is y-up
    np.testing.assert_allclose(packed.positions, expected, atol=1 / 2**16)
    export_frame(avatar, motion.at(1), tmp_path / "one.ply", "ply", axes="y-up")
    np.testing.assert_allclose(read_splat_ply(tmp_path / "one.ply").positions, expected, atol=1e-6)


def test_nothing_is_left_behind_or_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    avatar = RgbHeadAvatar(tiny_head(300))
    motion = rest_motion(avatar)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep")
    with pytest.raises(BadConfig, match=r"mine exists already"):
        export_frames(avatar, motion, [0], tmp_path / "mine", "ply")
    with pytest.raises(BadAvatar, match="driving vector lacks"):
        export_rgbavatar_folder(avatar, tmp_path / "rgb")
    with pytest.raises(BadTemplate, match="is not FLAME"):
        gaussian_head_of(avatar.model, reference_of(avatar.template().template_id), motion.at(0))

    def fails(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "write_splat_ply", fails)
    for export in (
        lambda: export_frames(avatar, motion, [0], tmp_path / "new", "ply"),
        lambda: export_frame(avatar, motion.at(0), tmp_path / "new.ply", "ply"),
    ):
        with pytest.raises(EnvironmentFailed, match="No space left"):
            export()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_a_motion_survives_flame_param_and_other_rigs_are_refused(tmp_path: Path, avatar: RgbHeadAvatar) -> None:
    motion = motion_for(avatar)
    (tmp_path / "m.npz").write_bytes(flame_params_bytes(params_of(motion, avatar.rig(), None)))
    again = read_motion(tmp_path / "m.npz", avatar.rig())
    np.testing.assert_array_equal(again.rotations, motion.rotations)
    np.testing.assert_array_equal(again.expressions[:, :100], motion.expressions[:, :100])
    other = RgbHeadAvatar(tiny_head(300))
    with pytest.raises(BadAvatar, match="is not FLAME's"):
        read_motion(tmp_path / "m.npz", other.rig())
    rest = rest_motion(other)
    np.savez(tmp_path / "o.npz", rotations=rest.rotations, translations=rest.translations, expressions=rest.expressions)
    with pytest.raises(EffigyError, match="motion of another rig"):
        read_motion(tmp_path / "o.npz", avatar.rig())
    np.savez(tmp_path / "n.npz", nothing=np.zeros(3))
    with pytest.raises(EffigyError, match=r"n\.npz is no motion"):
        read_motion(tmp_path / "n.npz", avatar.rig())


def test_a_motion_that_names_what_it_moves_is_taken_by_name(tmp_path: Path, avatar: RgbHeadAvatar) -> None:
    rig = avatar.rig()
    joint, expression = rig.joint_names[1], rig.expression_names[2]
    turns, values = np.full((2, 2, 3), 0.1, np.float32), np.full((2, 1), 0.7, np.float32)

    def written(joints: list[str], expressions: list[str]) -> Path:
        named = {"joint_names": np.array(joints), "expression_names": np.array(expressions)}
        np.savez(
            tmp_path / "n.npz", rotations=turns, translations=np.zeros((2, 3)), expressions=values, fps=30.0, **named
        )
        return tmp_path / "n.npz"

    motion = read_motion(written(["nobody", joint], [expression]), rig)
    assert motion.fps == 30
    assert motion.rotations.shape == (2, len(rig.joint_names), 3)
    assert np.flatnonzero(motion.rotations.any((0, 2))).tolist() == [1]
    assert np.flatnonzero(motion.expressions.any(0)).tolist() == [2]
    with pytest.raises(EffigyError, match="moves nothing that this avatar has"):
        read_motion(written(["nobody", "else"], ["nothing"]), rig)
    with pytest.raises(EffigyError, match="does not name all it moves"):
        read_motion(written([joint], [expression]), rig)


def test_half_deltas_halve_the_file_and_are_kept(tmp_path: Path, avatar: RgbHeadAvatar) -> None:
    about = About("me", licence="mine", consent="given", training={"images": 3}, provenance={"capture": "x"})
    save_avatar(tmp_path / "a.avatar", avatar, about, np.zeros((4, 4, 4), np.uint8))
    for half, name in ((False, "b.avatar"), (True, "c.avatar")):
        export_avatar_folder(tmp_path / "a.avatar", tmp_path / name, half_deltas=half)
    whole, halved = (load_avatar(tmp_path / name) for name in ("b.avatar", "c.avatar"))
    assert all(torch.equal(value, avatar.tensors()[name]) for name, value in whole.tensors().items())
    deltas = halved.tensors()["colour_deltas"]
    assert deltas.dtype == torch.float16
    torch.testing.assert_close(deltas.float(), avatar.tensors()["colour_deltas"], rtol=1e-3, atol=1e-6)
    assert load_avatar(tmp_path / "c.avatar").half_deltas  # and so it stays when saved again
    document = read_description(tmp_path / "c.avatar")
    assert (document["name"], document["consent"]) == ("me", "given")
    assert document["licence"].startswith("mine; FLAME")
    assert document["licence"].count("FLAME") == 1
    assert document["training"] == {"images": 3}
    motion = driven(avatar.model, flame_pose(1))
    torch.testing.assert_close(halved.pose(**motion).means, avatar.pose(**motion).means, atol=1e-4, rtol=0)
    with pytest.raises(BadConfig, match=r"b\.avatar exists already"):
        export_avatar_folder(tmp_path / "a.avatar", tmp_path / "b.avatar", half_deltas=False)
