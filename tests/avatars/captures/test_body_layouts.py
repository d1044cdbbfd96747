"""PeopleSnapshot and RANA: the template lies where the file's own numbers put it, and bad folders are one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.captures.capture import Capture
from avatars.captures.opening import layout_of, open_capture
from avatars.captures.peoplesnapshot_raw import Undistortion, convert
from avatars.templates.template import Template
from shared.errors import BadCapture, Cancelled
from tests.body_layouts import SIZE, Written, write_peoplesnapshot, write_rana, write_raw_peoplesnapshot


def posed(capture: Capture) -> np.ndarray:
    """[T, V, 3] m in world axes."""
    template = Template(capture.template.open())
    motion = capture.motion
    drive = [torch.from_numpy(np.array(a)) for a in (motion.rotations, motion.translations, motion.expressions)]
    return template(*drive, shape=torch.tensor(capture.template.shape)).vertices.double().numpy()


def in_camera(capture: Capture, index: int, vertices: np.ndarray) -> np.ndarray:
    matrix = capture.camera_of(index).camera_from_world()
    return vertices @ matrix[:3, :3].T + matrix[:3, 3]


def share_inside(capture: Capture, index: int, vertices: np.ndarray) -> float:
    """Share of vertices that project into the mask: catches transposes, axes, units and root offsets."""
    seen = in_camera(capture, index, vertices) @ capture.camera_of(index).K.T
    pixel = np.floor(seen[:, :2] / seen[:, 2:]).astype(int)
    alpha = capture.rgba(index)[..., 3] > 127
    ok = (pixel >= 0).all(1) & (pixel[:, 0] < SIZE[0]) & (pixel[:, 1] < SIZE[1])
    return float((alpha[pixel[ok, 1], pixel[ok, 0]]).sum() / len(vertices))


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Written]:
    folder = tmp_path_factory.mktemp("people") / "female-9-casual"
    return folder, write_peoplesnapshot(folder)


def test_peoplesnapshot_lies_on_its_pictures(snapshot: tuple[Path, Written]) -> None:
    folder, written = snapshot
    assert layout_of(folder) == "peoplesnapshot"
    capture = open_capture(folder)
    assert (capture.kind, len(capture.split("train")), len(capture.split("test"))) == ("body", 4, 1)
    vertices = posed(capture)
    skin = np.unique(capture.template.open().faces["skin"])
    for index, image in enumerate(capture.images):
        np.testing.assert_allclose(
            in_camera(capture, index, vertices[image.frame]), written.vertices[image.frame], atol=2e-5
        )
        assert share_inside(capture, index, vertices[image.frame][skin]) > 0.9
    tall = vertices[0].max(0) - vertices[0].min(0)
    assert tall.argmax() == 2  # upright in a z-up world
    assert vertices[0][capture.template.open().vertices[:, 2].argmax(), 2] > vertices[0][:, 2].mean()  # head up


def test_refined_poses_replace_the_raw_ones(tmp_path: Path) -> None:
    folder = tmp_path / "male-9"
    written = write_peoplesnapshot(folder)
    (folder / "poses").mkdir()
    moved = written.trans[:4] + np.array((0, 0, 0.5))
    np.savez(
        folder / "poses" / "anim_nerf_train.npz", betas=written.betas[None], thetas=written.thetas[:4], transl=moved
    )
    far = open_capture(folder)
    assert "Refined poses of anim_nerf_train.npz are used" in far.notes
    vertices = posed(far)
    np.testing.assert_allclose(
        in_camera(far, 0, vertices[0]) - written.vertices[0], np.tile((0, 0, 0.5), (vertices.shape[1], 1)), atol=2e-5
    )
    np.testing.assert_allclose(in_camera(far, 4, vertices[4]), written.vertices[4], atol=2e-5)


def test_ranges_choose_frames(tmp_path: Path) -> None:
    folder = tmp_path / "person"
    write_peoplesnapshot(folder)
    options = {"template": "effigy_human", "train_range": [0, 2, 2], "test_range": [3, 4, 1]}
    (folder / "effigy.json").write_text(json.dumps(options))
    capture = open_capture(folder)
    assert [image.frame for image in capture.images] == [0, 2, 3, 4]
    assert capture.training_frames() == (0, 2)
    (folder / "effigy.json").write_text(json.dumps(options | {"test_range": [3, 9, 1]}))
    with pytest.raises(BadCapture, match="range of frames of person does not fit"):
        open_capture(folder)


def test_without_smpl_the_open_body_stands_in_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFIGY_HOME", str(tmp_path / "home"))
    folder = tmp_path / "person"
    write_peoplesnapshot(folder)
    (folder / "effigy.json").unlink()
    capture = open_capture(folder)
    assert capture.template.shape == ()
    assert any("No SMPL is installed" in note for note in capture.notes)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("poses.npz", {"thetas": np.zeros((3, 72)), "transl": np.zeros((3, 3))}, "lacks poses of 2 pictures"),
        ("poses.npz", {"thetas": np.full((5, 72), np.nan), "transl": np.zeros((5, 3))}, "not finite"),
        ("cameras.npz", {"intrinsic": np.eye(3)}, "lacks 'extrinsic'"),
    ],
)
def test_bad_snapshots_are_one_sentence(tmp_path: Path, name: str, change: dict[str, np.ndarray], said: str) -> None:
    folder = tmp_path / "person"
    write_peoplesnapshot(folder)
    np.savez(folder / name, **change)
    with pytest.raises(BadCapture, match=said):
        open_capture(folder)


def test_raw_folders_are_converted(tmp_path: Path) -> None:
    raw = tmp_path / "female-8"
    written = write_raw_peoplesnapshot(raw)
    with pytest.raises(BadCapture, match="effigy capture convert"):
        open_capture(raw)
    heard: list[tuple[int, int]] = []
    assert convert(raw, tmp_path / "done", step=2, tell=lambda *at: heard.append(at)) == 2
    assert heard == [(1, 2), (2, 2)]
    (tmp_path / "done" / "effigy.json").write_text(json.dumps({"template": "effigy_human"}))
    capture = open_capture(tmp_path / "done")
    np.testing.assert_allclose(in_camera(capture, 1, posed(capture)[1]), written.vertices[2], atol=2e-5)
    with pytest.raises(Cancelled):
        convert(raw, tmp_path / "stopped", wanted=lambda: False)
    assert not (tmp_path / "stopped").exists()


def test_raw_folders_with_damage_write_nothing(tmp_path: Path) -> None:
    import h5py

    raw = tmp_path / "female-8"
    write_raw_peoplesnapshot(raw)
    (raw / "images" / "000003.png").unlink()
    with pytest.raises(BadCapture, match="shorter than its poses"):
        convert(raw, tmp_path / "done")
    (raw / "camera.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(BadCapture, match="was not run"):
        convert(raw, tmp_path / "done")
    write_raw_peoplesnapshot(tmp_path / "linked")
    (tmp_path / "linked" / "reconstructed_poses.hdf5").unlink()
    with h5py.File(tmp_path / "linked" / "reconstructed_poses.hdf5", "w") as file:
        file["pose"] = h5py.ExternalLink("elsewhere.hdf5", "pose")
    with pytest.raises(BadCapture, match="lacks the array 'pose'"):
        convert(tmp_path / "linked", tmp_path / "done")
    assert not (tmp_path / "done").exists()


def test_distortion_is_taken_out() -> None:
    """A distorted picture of a linear ramp becomes the ramp again where the lens saw it."""
    K = np.array(((100.0, 0, 32), (0, 100.0, 32), (0, 0, 1)))
    u, v = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
    x, y = (u - 32) / 100, (v - 32) / 100
    seen_x, seen_y = x.copy(), y.copy()  # undistorted place of each distorted pixel, by iteration
    for _ in range(20):
        r2 = seen_x**2 + seen_y**2
        seen_x, seen_y = x / (1 + 0.3 * r2), y / (1 + 0.3 * r2)
    ramp = ((seen_x * 100 + 32) * 3).round().clip(0, 255).astype(np.uint8)[..., None]
    found = Undistortion(K, np.array((0.3, 0, 0, 0, 0)), (64, 64))(ramp)[..., 0]
    inner = slice(12, 52)
    assert np.abs(found[inner, inner].astype(float) - (u * 3)[inner, inner]).max() < 1.6


def test_rana_has_its_ground_truth(tmp_path: Path) -> None:
    written = write_rana(tmp_path)
    folder = tmp_path / "train_p1" / "subject_01"
    assert layout_of(folder) == "rana"
    capture = open_capture(folder)
    assert (len(capture.split("train")), len(capture.split("test")), len(capture.motion)) == (5, 5, 10)
    vertices = posed(capture)
    for index in (0, 3, 7):
        np.testing.assert_allclose(in_camera(capture, index, vertices[index]), written.vertices[index % 5], atol=2e-5)
    assert capture.aov(0, "roughness") is None
    albedo, normal = capture.aov(0, "albedo"), capture.aov(0, "normal")
    assert albedo is not None
    assert normal is not None
    covered = capture.rgba(0)[..., 3] > 127
    camera = capture.camera_of(0)
    towards = camera.world_from_camera[:3, 2]
    assert capture.normal_axes == "opencv"
    assert float((normal[covered] @ -towards > 0).mean()) > 0.97  # seen surfaces face the camera
    upper = covered & (np.arange(SIZE[1])[:, None] < np.flatnonzero(covered.any(1))[0] + 2)
    assert normal[upper][:, 2].mean() > 0.3  # the top of the head faces up in the world
    light = capture.light(5)
    assert light is not None
    np.testing.assert_allclose(light.radiance, 0.5)
    assert capture.light(0) is None
    assert capture.images[6].light is not None
    assert capture.images[6].light.name == "evening.hdr"


def test_rana_alone_keeps_its_end_back_and_bad_files_are_said(tmp_path: Path) -> None:
    write_rana(tmp_path)
    folder = tmp_path / "test" / "subject_01"
    capture = open_capture(folder)
    assert (len(capture.split("train")), len(capture.split("test"))) == (4, 1)
    (folder / "hdri_files.json").write_text(json.dumps(["../../secret.hdr"] * 5))
    with pytest.raises(BadCapture, match="outside its folder"):
        open_capture(folder)
    (folder / "hdri_files.json").write_text(json.dumps(["noon.hdr"] * 5))
    with pytest.raises(BadCapture, match="lacks the light noon"):
        open_capture(folder)
