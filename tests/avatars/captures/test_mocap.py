"""ZJU-MoCap, MonoCap and SelfRecon: the body lies where the files put it, and bad folders are one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avatars.captures.annots import read_annots
from avatars.captures.body_sets import read_body_set
from avatars.captures.capture import Capture
from avatars.captures.check import check_folder
from avatars.captures.mocap_splits import view_split
from avatars.captures.opening import layout_of, open_capture
from avatars.captures.options import SplitChoice, amend_options
from avatars.captures.units import check_distances
from avatars.evaluation.frame_lists import usual_frames
from shared.errors import BadCapture
from tests.avatars.captures.test_body_layouts import in_camera, posed, share_inside
from tests.body_set_files import write_thuman4
from tests.mocap_files import Studio, write_monocap, write_selfrecon, write_zju


@pytest.fixture(scope="module")
def zju(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Studio]:
    folder = tmp_path_factory.mktemp("zju") / "CoreView_000"
    return folder, write_zju(folder)


def lies_on_its_pictures(capture: Capture, studio: Studio) -> None:
    vertices = posed(capture)
    skin = np.unique(capture.template.open().faces["skin"])
    for index, image in enumerate(capture.images):
        matrix = studio.matrices[image.camera]
        truth = studio.vertices[image.frame] @ matrix[:3, :3].T + matrix[:3, 3]
        np.testing.assert_allclose(in_camera(capture, index, vertices[image.frame]), truth, atol=1e-4)
        assert share_inside(capture, index, vertices[image.frame][skin]) > 0.85
    np.testing.assert_allclose(capture.cameras[0].K[:2, 2], studio.K[:2, 2] + 0.5)
    assert (np.ptp(vertices[0], axis=0)).argmax() == 2  # upright in a z-up world


def test_zju_turns_about_the_origin_and_reads_millimetres(zju: tuple[Path, Studio]) -> None:
    folder, studio = zju
    assert layout_of(folder) == "zju"
    capture = open_capture(folder)
    lies_on_its_pictures(capture, studio)
    assert any("read as millimetres" in note for note in capture.notes)
    assert {image.split for image in capture.images} == {"train", "val", "test"}
    held = {image.camera for image in capture.images if image.split == "val"}
    assert held == {2}
    assert not any(image.camera == 2 for image in capture.images if image.split == "train")
    assert check_folder(folder, 3).fits[0][1] > 0.9


def test_metres_in_annots_are_told_from_millimetres(tmp_path: Path) -> None:
    folder = tmp_path / "CoreView_000"
    studio = write_zju(folder, frames=5, cameras=2, millimetres=1.0)
    capture = open_capture(folder)
    assert any("read as metres" in note for note in capture.notes)
    np.testing.assert_allclose(
        np.linalg.inv(capture.cameras[0].world_from_camera)[:3, 3], studio.matrices[0][:3, 3], atol=1e-9
    )
    amend_options(folder, {"camera_units": "mm"})
    with pytest.raises(BadCapture, match=r"stand 0.00\d+ m from the person") as caught:
        open_capture(folder)
    assert "metres read as millimetres" in caught.value.found


def test_monocap_counts_parameters_from_one(tmp_path: Path) -> None:
    folder = tmp_path / "somebody"
    studio = write_monocap(folder, frames=5, cameras=2)
    assert layout_of(folder) == "monocap"
    lies_on_its_pictures(open_capture(folder), studio)


def test_selfrecon_has_normals(tmp_path: Path) -> None:
    folder = tmp_path / "female_1"
    vertices = write_selfrecon(folder)
    assert layout_of(folder) == "selfrecon"
    capture = open_capture(folder)
    ours = posed(capture)
    for index, image in enumerate(capture.images):
        np.testing.assert_allclose(in_camera(capture, index, ours[image.frame]), vertices[image.frame], atol=1e-4)
    normals = capture.aov(0, "normal")
    assert normals is not None
    toward = normals @ capture.cameras[0].world_from_camera[:3, 2]
    inside = capture.rgba(0)[..., 3] > 127
    assert toward[inside].mean() < -0.5  # what is seen faces the camera
    np.savez(folder / "camera.npz", fx=1.0, fy=1.0)
    with pytest.raises(BadCapture, match="lacks 'cx'"):
        open_capture(folder)


def test_published_cameras_and_frames() -> None:
    split, said = view_split("zju", Path("CoreView_377"), 617, 23, SplitChoice())
    wanted = list(split.wanted())
    assert said == "split of 377"
    assert sum(name == "train" for _, _, name in wanted) == 300 * 4
    assert {camera for _, camera, name in wanted if name == "train"} == {0, 6, 12, 18}
    assert sorted({frame for frame, _, name in wanted if name == "test"})[:2] == [300, 330]
    assert max(frame for frame, _, _ in wanted) < 617
    unseen = tuple(sorted({frame for frame, _, name in wanted if name in ("test", "more")}))
    assert usual_frames(unseen, "unseen") == (300, 350, 400, 450, 500, 550, 600), "HF-Avatar's steps"
    assert {frame for frame, _, name in wanted if name == "more"} == {350, 400, 500, 550}
    assert usual_frames((5, 29, 33), "unseen") == (5, 29, 33), "a short capture is drawn whole"
    split, _ = view_split("monocap", Path("olek_images0812"), 300, 60, SplitChoice())
    assert (split.train_cameras, split.test_cameras[-1], split.train_frames) == ((44,), 49, (0, 201))
    split, _ = view_split("zju", Path("CoreView_390"), 1171, 23, SplitChoice())
    assert {name for frame, _, name in split.wanted() if frame < 700} == {"test", "more"}
    with pytest.raises(BadCapture, match=r"split\.train_cameras"):
        view_split("zju", Path("x"), 10, 4, SplitChoice(train_cameras=(7,)))


def damaged(zju: tuple[Path, Studio], tmp_path: Path) -> Path:
    folder = tmp_path / "CoreView_000"
    shutil.copytree(zju[0], folder)
    return folder


def test_bad_folders_are_one_sentence(zju: tuple[Path, Studio], tmp_path: Path) -> None:
    folder = damaged(zju, tmp_path)
    for mask in (folder / "mask" / "Camera_B1").iterdir():
        Image.fromarray(np.zeros((64, 48), np.uint8)).save(mask)
    with pytest.raises(BadCapture, match="wrong size") as caught:
        open_capture(folder)
    assert (caught.value.found, caught.value.expected) == ("48x64", "96x128")
    for camera in ("Camera_B1", "Camera_B2", "Camera_B4"):
        shutil.rmtree(folder / camera)
    with pytest.raises(BadCapture, match="too few views"):
        open_capture(folder)
    values = np.load(folder / "new_params" / "0.npy", allow_pickle=True).item()
    np.save(folder / "new_params" / "0.npy", np.array(values | {"poses": np.ones((1, 72))}, dtype=object))
    with pytest.raises(BadCapture, match="turns the root twice"):
        open_capture(folder)
    np.save(folder / "new_params" / "0.npy", np.array(values | {"Th": values["Th"] + 3000}, dtype=object))
    with pytest.raises(BadCapture, match="Th of CoreView_000/new_params") as caught:
        open_capture(folder)
    assert "millimetres" in caught.value.found
    shutil.rmtree(folder / "new_params")
    with pytest.raises(BadCapture, match="no folder of SMPL parameters"):
        open_capture(folder)


def test_annots_cannot_lead_outside_or_run_anything(zju: tuple[Path, Studio], tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return shutil.rmtree, (str(tmp_path),)

    content = np.load(zju[0] / "annots.npy", allow_pickle=True).item()
    path = tmp_path / "annots.npy"
    np.save(path, np.array({"cams": Evil()}, dtype=object), allow_pickle=True)
    with pytest.raises(BadCapture, match="asks for more than data"):
        read_annots(path)
    content["ims"][0]["ims"][0] = "../../secret.jpg"
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    with pytest.raises(BadCapture, match="outside its folder"):
        read_annots(path)
    np.save(path, np.zeros(3))
    with pytest.raises(BadCapture, match="another kind of array"):
        read_annots(path)
    path.write_bytes(b"nothing")
    with pytest.raises(BadCapture, match=r"no \.npy file"):
        read_annots(path)


def test_millimetres_in_other_layouts_are_said(tmp_path: Path) -> None:
    import json

    truth = write_thuman4(tmp_path / "set", frames=4, cameras=3)
    path = truth.folder / "calibration.json"
    cameras = json.loads(path.read_text())
    for camera in cameras.values():
        camera["T"] = [1000 * number for number in camera["T"]]
    path.write_text(json.dumps(cameras))
    with pytest.raises(BadCapture, match="stand 3") as caught:
        open_capture(truth.folder)
    assert "millimetres read as metres" in caught.value.found
    amend_options(truth.folder, {"camera_units": "mm"})
    check_distances(read_body_set(truth.folder))
