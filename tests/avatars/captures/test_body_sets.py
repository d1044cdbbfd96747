"""AvatarReX, THuman4.0 and ActorsHQ folders as on disk: the body lies on its masks, and nothing else is assumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.captures.body_splits import PUBLISHED, published_split, thinned
from avatars.captures.capture import Capture
from avatars.captures.lens import distorted, undistorted
from avatars.captures.opening import layout_of, open_capture
from avatars.templates.template import Template
from shared.errors import BadCapture
from tests.body_set_files import LENS, Truth, bent, parameters, write_actorshq, write_avatarrex, write_thuman4


@pytest.fixture(scope="module")
def avatarrex(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return write_avatarrex(tmp_path_factory.mktemp("sets") / "avatarrex", lens=True)


@pytest.fixture(scope="module")
def thuman4(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return write_thuman4(tmp_path_factory.mktemp("sets") / "thuman4")


@pytest.fixture(scope="module")
def actorshq(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return write_actorshq(tmp_path_factory.mktemp("sets"))


def inside(capture: Capture, truth: Truth) -> tuple[float, float]:
    """Least share of skin vertices on the masks over all pictures, and mean distance of their edges in px.

    Every vertex must fall where the files' own numbers put it.
    """
    template = Template(capture.template.open())
    shares, boxes = [], []
    for index, image in enumerate(capture.images):
        motion = capture.motion
        posed = template(
            torch.from_numpy(motion.rotations[image.frame : image.frame + 1].copy()),
            torch.from_numpy(motion.translations[image.frame : image.frame + 1].copy()),
            preset=capture.template.preset,
        ).vertices[0, truth.skin]
        camera = capture.camera_of(index)
        from_world = camera.camera_from_world()
        seen = (posed.double().numpy() @ from_world[:3, :3].T + from_world[:3, 3]) @ camera.K.T
        column, row = np.floor(seen[:, :2] / seen[:, 2:]).astype(int).T
        matrix, K = truth.cameras[f"cam{image.camera:02d}"]
        written = (truth.vertices[image.frame, truth.skin] @ matrix[:3, :3].T + matrix[:3, 3]) @ K.T
        np.testing.assert_allclose(seen[:, :2] / seen[:, 2:], written[:, :2] / written[:, 2:], atol=0.02)
        rgba = capture.rgba(index)
        assert rgba.shape == (camera.height_px, camera.width_px, 4)
        assert set(np.unique(rgba[..., 3])) == {0, 255}, "masks are cut at 128"
        rows, columns = np.nonzero(rgba[..., 3])
        shares.append(float((rgba[row, column, 3] > 0).mean()))
        boxes += [abs(row.min() - rows.min()), abs(row.max() - rows.max()), abs(column.max() - columns.max())]
    return min(shares), float(np.mean(boxes))


@pytest.mark.parametrize("name", ["avatarrex", "thuman4", "actorshq"])
def test_the_body_lies_on_its_masks(name: str, request: pytest.FixtureRequest) -> None:
    truth: Truth = request.getfixturevalue(name)
    capture = open_capture(truth.folder)
    assert (capture.layout, capture.kind, capture.template.view) == (name, "body", "body")
    share, edges = inside(capture, truth)
    assert share > 0.75, "all but the outline, a pixel is 3 cm"
    assert edges < 1.0
    # z is up, whatever the file's world is: the head is above the feet.
    posed = Template(capture.template.open())(
        torch.from_numpy(capture.motion.rotations[:1].copy()), torch.from_numpy(capture.motion.translations[:1].copy())
    )
    names = capture.joint_names
    height = posed.joints[0, names.index("head"), 2] - posed.joints[0, names.index("left_ankle"), 2]
    assert float(height) > 1.0


def test_frames_and_masks_may_be_missing_each_on_its_own(avatarrex: Truth, thuman4: Truth) -> None:
    rex = open_capture(avatarrex.folder)
    seen = {(image.camera, image.frame) for image in rex.images}
    assert len(seen) == 11, "one of 12 is listed as lost, with a backslash"
    assert (0, 1) not in seen
    assert any("1 pictures are not there" in note for note in rex.notes)
    human = open_capture(thuman4.folder)
    seen = {(image.camera, image.frame) for image in human.images}
    assert seen == {(c, f) for c in range(3) for f in range(4)} - {(2, 0), (2, 3)}
    assert any("1 pictures have no mask" in note for note in human.notes)


def test_nothing_is_decoded_when_a_folder_is_opened(thuman4: Truth, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(thuman4.folder, folder)
    broken = folder / "images" / "cam01" / "00000002.jpg"
    broken.write_bytes(b"no picture")
    capture = open_capture(folder)
    index = next(k for k, image in enumerate(capture.images) if image.file == broken)
    with pytest.raises(BadCapture, match="cannot be read"):
        capture.rgba(index)


def test_actorshq_opens_from_each_folder_and_mixes_orientations(actorshq: Truth) -> None:
    assert layout_of(actorshq.folder) == layout_of(actorshq.folder / "Sequence1") == "actorshq"
    capture = open_capture(actorshq.folder / "Sequence1" / "4x")
    assert [(camera.width_px, camera.height_px) for camera in capture.cameras] == [(128, 94), (94, 128), (128, 94)]
    assert capture.camera_names == ("Cam001", "Cam002", "Cam003")
    assert any("differ enough" in note for note in capture.notes)


def test_smpl_params_may_lack_parts_and_have_other_shapes(thuman4: Truth, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(thuman4.folder, folder)
    whole = open_capture(folder)
    values = dict(np.load(folder / "smpl_params.npz"))
    for name in ("jaw_pose", "expression", "left_hand_pose", "right_hand_pose"):
        del values[name]
    values["body_pose"] = values["body_pose"].reshape(-1, 21, 3)
    np.savez(folder / "smpl_params.npz", **values)
    less = open_capture(folder)
    np.testing.assert_allclose(less.motion.rotations[:, :22], whole.motion.rotations[:, :22], atol=1e-6)
    assert np.abs(less.motion.rotations[:, 22:]).max() == 0


def test_a_lens_is_undone_as_opencv_does() -> None:
    K = np.array([[90.0, 0, 50], [0, 95, 40], [0, 0, 1]])
    points = np.array([[0.3, -0.2], [0.0, 0.0]])
    k1, k2, p1, p2, k3 = 0.1, -0.05, 0.01, 0.02, 0.03
    x, y = 0.3, -0.2
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    expected = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    np.testing.assert_allclose(distorted(points, (k1, k2, p1, p2, k3)), [expected, (0, 0)])
    ramp = np.broadcast_to(np.linspace(0, 255, 100)[None, :, None], (80, 100, 3)).astype(np.uint8)
    assert np.array_equal(undistorted(ramp, K, (0.0,) * 5), ramp)
    back = undistorted(bent(ramp, K), K, LENS)
    assert np.abs(back[15:-15, 15:-15].astype(int) - ramp[15:-15, 15:-15]).mean() < 2


def test_published_splits_and_thinning() -> None:
    key, split = published_split("thuman4", ["subject00"], 24) or ("", None)
    assert key == "thuman4 subject00"
    assert split is not None
    assert (len(split.train_cameras), split.test_cameras, split.test_frames) == (23, (18,), (2000, 2500))
    assert published_split("thuman4", ["subject00"], 12) is None, "half of its cameras is another recording"
    assert published_split("avatarrex", ["mine"], 16) is None
    counts = {name: len(PUBLISHED[f"actorshq {name}"].train_cameras) for name in ("actor01", "actor05", "actor08")}
    assert counts == {"actor01": 39, "actor05": 37, "actor08": 40}
    still = np.zeros((6, 63))
    still[3:] = 0.02
    assert thinned(still, range(6), 0.015) == [0, 3]
    assert thinned(still, range(6), 0) == list(range(6))


def test_a_published_subject_is_split_by_its_name(tmp_path: Path) -> None:
    truth = write_avatarrex(tmp_path / "avatarrex_zzr", frames=2, cameras=16)
    capture = open_capture(truth.folder)
    assert "split as published for avatarrex zzr" in capture.notes[0]
    by_split = {mark: {i.camera for i in capture.images if i.split == mark} for mark in ("train", "val", "test")}
    assert by_split["val"] == {7, 13}, "seen by no training picture"
    assert by_split["test"] == {1}
    assert by_split["train"] == set(range(16)) - {7, 13}, "the published test camera is one of training's"


def test_a_part_of_a_published_recording_is_split_as_usual(tmp_path: Path) -> None:
    truth = write_thuman4(tmp_path / "subject02", frames=2, cameras=24)  # trained from frame 385 on
    capture = open_capture(truth.folder)
    assert "nothing to train or test on" in capture.notes[0]
    assert {image.frame for image in capture.images if image.split == "test"} == {1}
    assert {image.camera for image in capture.images if image.split == "val"} == {4, 12, 20}


def _without_masks(folder: Path) -> None:
    shutil.rmtree(folder / "masks")


def _without_parameters(folder: Path) -> None:
    (folder / "smpl_params.npz").unlink()


def _of_another_set(folder: Path) -> None:
    values = json.loads((folder / "calibration.json").read_text())
    (folder / "calibration.json").write_text(json.dumps({f"2201{k}": v for k, v in enumerate(values.values())}))


def _too_few_poses(folder: Path) -> None:
    np.savez(folder / "smpl_params.npz", **parameters(2, np.eye(3)))


def _narrow_poses(folder: Path) -> None:
    values = parameters(4, np.eye(3))
    values["body_pose"] = values["body_pose"][:, :60]
    np.savez(folder / "smpl_params.npz", **values)


def _no_rotation(folder: Path) -> None:
    values = json.loads((folder / "calibration.json").read_text())
    values["cam01"]["R"] = list(range(9))
    (folder / "calibration.json").write_text(json.dumps(values))


def _swapped_size(folder: Path) -> None:
    values = json.loads((folder / "calibration.json").read_text())
    values["cam01"]["imgSize"] = values["cam01"]["imgSize"][::-1]
    (folder / "calibration.json").write_text(json.dumps(values))


def _wants_smplx(folder: Path) -> None:
    (folder / "effigy.json").unlink()


def _bad_split(folder: Path) -> None:
    (folder / "effigy.json").write_text(json.dumps({"template": "effigy_human", "split": {"test_cameras": [9]}}))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_without_masks, "has no masks"),
        (_without_parameters, "has no smpl_params.npz"),
        (_of_another_set, "cameras of which there is no picture .*calibration and pictures are of one data set"),
        (_too_few_poses, "fewer frames than the pictures"),
        (_narrow_poses, r"found \[4, 60\]; expected \[4, 63\]"),
        (_no_rotation, "R of camera 'cam01' of calibration.json is no rotation"),
        (_swapped_size, "width and height the other way round"),
        (_wants_smplx, "effigy template add SMPLX_NEUTRAL.npz"),
        (_bad_split, "names cameras that are not there"),
    ],
)
def test_bad_folders_are_told_in_one_sentence(
    spoil: Callable[[Path], None],
    sentence: str,
    thuman4: Truth,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EFFIGY_HOME", str(tmp_path / "home"))
    folder = tmp_path / "copy"
    shutil.copytree(thuman4.folder, folder)
    spoil(folder)
    with pytest.raises(BadCapture, match=sentence):
        open_capture(folder)
