"""VHAP exports: UNION folders, OpenGL cameras, masks apart, static offsets, held-out camera and recording."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from avatars.captures.flame_axes import to_flame
from avatars.captures.opening import layout_of, open_capture
from avatars.rgb_head.head_template import HeadTemplate
from avatars.rgb_head.trainer import RgbHeadTrainer
from avatars.templates.opening import reference_of
from avatars.templates.template import Template
from avatars.training.config import load_config
from avatars.training.data import load_pictures
from avatars.training.optimiser import Optimiser
from shared.errors import BadCapture
from tests.nersemble_files import Truth, write_nersemble


@pytest.fixture
def export(nersemble: Truth, tmp_path: Path) -> Path:
    """A copy of the UNION folder with the recordings beside it."""
    shutil.copytree(nersemble.union.parent, tmp_path / "data")
    return tmp_path / "data" / nersemble.union.name


def recording(export: Path, name: str = "EMO-1") -> Path:
    return next(path for path in export.parent.iterdir() if name in path.name and "UNION" not in path.name)


def rewrite(export: Path, split: str, change: Callable[[dict[str, Any]], Any]) -> None:
    path = export / f"transforms_{split}.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def every(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda document: [change(frame) for frame in document["frames"]]


def change_parameters(export: Path, change: Callable[[dict[str, Any]], Any], name: str = "EMO-1") -> None:
    path = recording(export, name) / "flame_param" / "00000.npz"
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    change(arrays)
    np.savez(path, **arrays)


def test_the_union_is_read_whole(nersemble: Truth) -> None:
    assert layout_of(nersemble.union) == "nersemble"
    capture = open_capture(nersemble.union)
    assert capture.template.template_id == "flame2023_gaussian_avatars"
    assert (len(capture.motion), len(set(capture.camera_names))) == (6, 3)
    splits = {name: capture.split(name) for name in ("train", "val", "test")}
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 6, "val": 3, "test": 9}
    assert {capture.camera_names[capture.images[row].camera] for row in splits["val"]} == {"08"}
    assert "08" not in {capture.camera_names[capture.images[row].camera] for row in splits["train"]}
    trained = {capture.images[row].frame for row in splits["train"]}
    assert {capture.images[row].frame for row in splits["val"]} == trained
    assert not trained & {capture.images[row].frame for row in splits["test"]}
    assert (capture.subject, capture.masked, capture.layout) == ("074", True, "nersemble")
    assert "18 pictures, 6 moments of 2 recordings, 3 cameras" in capture.notes[0]


def test_the_template_lies_on_the_pictures(nersemble: Truth) -> None:
    """Posed vertices, static offset included, project to where the exporter's own numbers put them."""
    capture = open_capture(nersemble.union)
    assert capture.vertex_offset is not None
    head = HeadTemplate.make(
        Template(capture.template.open()), "", capture.template.shape, torch.from_numpy(capture.vertex_offset)
    )
    motion = capture.motion
    drive = (torch.from_numpy(np.array(a)) for a in (motion.rotations, motion.translations, motion.expressions))
    posed = head.posed_vertices(*drive).double().numpy()
    truth = np.concatenate((nersemble.vertices["EMO-1"], nersemble.vertices["EXP-2"]))
    np.testing.assert_allclose(to_flame(posed), truth, atol=1e-5)
    for image in capture.images:
        camera = capture.cameras[image.camera]
        world_from_camera, K = nersemble.cameras[int(capture.camera_names[image.camera])]
        to_camera = camera.camera_from_world()
        seen = (posed[image.frame] @ to_camera[:3, :3].T + to_camera[:3, 3]) @ camera.K.T
        wanted = np.linalg.inv(world_from_camera) @ np.c_[truth[image.frame], np.ones(len(posed[0]))].T
        pixels = K @ (wanted[:3] * np.array([[1], [-1], [-1]]))
        np.testing.assert_allclose(seen[:, :2] / seen[:, 2:], (pixels[:2] / pixels[2]).T, atol=0.01)


def test_masks_are_one_channel_files_of_their_own(nersemble: Truth) -> None:
    capture = open_capture(nersemble.union)
    index = capture.split("val")[0]
    image = capture.images[index]
    assert image.mask is not None
    assert Image.open(image.mask).mode == "L"
    rgba = capture.rgba(index)
    assert rgba.shape == (56, 40, 4)
    np.testing.assert_array_equal(rgba[..., 3], np.asarray(Image.open(image.mask)))
    assert (rgba[rgba[..., 3] == 0] == 0).all()  # the white behind the head is gone
    assert 0.05 < (rgba[..., 3] > 127).mean() < 0.6


@pytest.mark.parametrize("rows", [5023, 5083])
def test_offsets_without_the_templates_teeth_leave_teeth_alone(home: Path, tmp_path: Path, rows: int) -> None:
    reference = reference_of("flame2023_gaussian_avatars")
    truth = write_nersemble(tmp_path, reference, frames=1, cameras=(8, 9), size=(16, 24), offset_rows=rows)
    capture = open_capture(truth.union)
    assert capture.vertex_offset is not None
    assert capture.vertex_offset.shape == (5143, 3)
    np.testing.assert_allclose(to_flame(capture.vertex_offset[:5023]), truth.static_offset[:5023], atol=1e-7)
    assert not capture.vertex_offset[5023:].any()


def test_a_camera_that_moves_has_a_place_for_each_picture(export: Path) -> None:
    def shift(document: dict[str, Any]) -> None:
        for frame in document["frames"]:
            frame["transform_matrix"][0][3] += 0.01 * frame["timestep_index"]

    rewrite(export, "train", shift)
    capture = open_capture(export)
    trained = [capture.images[row] for row in capture.split("train")]
    assert len({image.camera for image in trained}) == 6
    places = [capture.cameras[image.camera].world_from_camera[0, 3] for image in trained[::2]]
    np.testing.assert_allclose(np.diff(places), 0.01, atol=1e-9)


def test_without_focal_length_the_angle_counts(export: Path, nersemble: Truth) -> None:
    rewrite(export, "train", every(lambda frame: [frame.pop(name) for name in ("fl_x", "fl_y", "cx", "cy")]))
    capture = open_capture(export)
    np.testing.assert_allclose(capture.cameras[0].K, nersemble.cameras[3][1], rtol=1e-9)


def test_missing_splits_follow_the_protocol(export: Path) -> None:
    val = json.loads((export / "transforms_val.json").read_text())["frames"]
    rewrite(export, "train", lambda document: document["frames"].extend(val))
    (export / "transforms_val.json").unlink()
    capture = open_capture(export)
    assert len(capture.split("val")) == 3
    assert "camera 8 is kept back" in " ".join(capture.notes)
    (export / "transforms_test.json").unlink()
    assert len(open_capture(export).split("test")) == 3
    (export / "effigy.json").write_text('{"held_out_camera": -1}')
    capture = open_capture(export)
    assert (len(capture.split("train")), len(capture.split("test"))) == (6, 3)
    assert {capture.images[row].frame for row in capture.split("test")} == {2}


def test_dynamic_offsets_are_left_out(export: Path, nersemble: Truth) -> None:
    change_parameters(export, lambda a: a.update(dynamic_offset=np.full((1, 5143, 3), 9.0, np.float32)))
    capture = open_capture(export)
    assert capture.vertex_offset is not None
    assert np.abs(capture.vertex_offset).max() < 0.01


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda e: shutil.rmtree(recording(e) / "fg_masks"),
            "lacks 9 of its 18 masks (found no fg_masks/00000_03.png). Copy the folder of masks beside the images",
        ),
        (
            lambda e: rewrite(e, "train", every(lambda f: f.pop("fg_mask_path"))),
            "names no mask for",
        ),
        (
            lambda e: rewrite(e, "train", every(lambda f: f.pop("flame_param_path"))),
            "names no FLAME parameters for",
        ),
        (
            lambda e: rewrite(e, "train", every(lambda f: f.update(w=f["h"], h=f["w"]))),
            "the two focal lengths of 00000_03.png in transforms_train.json",
        ),
        (
            lambda e: rewrite(e, "train", every(lambda f: (f.update(w=f["h"], h=f["w"]), f.pop("camera_angle_x")))),
            "image images/00000_03.png has width and height the other way round (found 40x56; expected 56x40).",
        ),
        (
            lambda e: rewrite(e, "train", every(lambda f: f.update(fl_x=100.0))),
            "contradict each other (found fl_x 100.0 px; expected 80.0 px by camera_angle_x and w).",
        ),
        (
            lambda e: rewrite(e, "train", every(lambda f: f.update(transform_matrix=[[1, 0], [0, 1]]))),
            "the camera of 00000_03.png in transforms_train.json",
        ),
        (
            lambda e: rewrite(e, "train", every(lambda f: f["transform_matrix"][0].__setitem__(0, 3.0))),
            "is none (found Camera.world_from_camera is not rigid",
        ),
        (
            lambda e: rewrite(e, "train", every(lambda f: f.update(file_path="../../../etc/passwd"))),
            "names a file outside the data set",
        ),
        (
            lambda e: change_parameters(e, lambda a: a.update(static_offset=np.zeros((1, 6890, 3), np.float32))),
            "does not fit FLAME (found [1, 6890, 3] float32; expected 5023 or 5083 or 5143 rows of 3 finite numbers).",
        ),
        (
            lambda e: change_parameters(e, lambda a: a.update(expr=np.zeros((1, 50), np.float32))),
            "does not fit FLAME (found [1, 50] float32; expected 100 finite numbers).",
        ),
        (
            lambda e: change_parameters(e, lambda a: a.update(shape=np.full(300, np.nan, np.float32))),
            "shape of 074_EMO-1",
        ),
        (lambda e: change_parameters(e, lambda a: a.pop("neck_pose")), "flame_param/00000.npz lacks 'neck_pose'"),
        (lambda e: (recording(e) / "flame_param" / "00001.npz").unlink(), "00001.npz is missing"),
        (lambda e: (recording(e) / "flame_param" / "00001.npz").write_bytes(b"PK"), "00001.npz is damaged"),
        (lambda e: (e / "transforms_train.json").write_text("{"), "transforms_train.json is no JSON object"),
        (lambda e: (e / "transforms_train.json").write_text("{}"), "has no list of frames"),
        (lambda e: rewrite(e, "train", lambda d: d.update(frames=[])), "transforms_train.json of UNION10"),
        (lambda e: rewrite(e, "train", every(lambda f: f.pop("file_path"))), "lacks 'file_path'"),
        (lambda e: rewrite(e, "train", every(lambda f: f.pop("w"))), "the camera of 00000_03.png in transforms_train."),
        (lambda e: rewrite(e, "train", every(lambda f: f.update(timestep_index=[1]))), "is damaged (found int()"),
        (lambda e: rewrite(e, "train", every(lambda f: f.update(w=float("nan")))), "is damaged (found cannot convert"),
    ],
    ids=[
        "no masks", "no mask path", "no parameters path", "size swapped", "size swapped, no angle", "K unlike",
        "no matrix", "skewed", "outside", "other template", "other FLAME", "not finite", "no neck", "no parameters",
        "damaged", "no JSON", "no frames", "empty", "no file path", "no width", "no time", "width not a number",
    ],
)  # fmt: skip
def test_bad_exports_are_one_sentence(export: Path, change: Callable[[Path], Any], sentence: str) -> None:
    change(export)
    with pytest.raises(BadCapture) as caught:
        open_capture(export)
    assert sentence in str(caught.value)


def test_anything_may_stand_in_a_frame(export: Path) -> None:
    """Whatever JSON can hold, in any place of a frame: it is read or refused in a sentence."""
    path = export / "transforms_train.json"
    whole = path.read_text()
    refused = 0
    for key in json.loads(whole)["frames"][0]:
        for value in (None, -1, 1e30, float("inf"), "x", "", [1], {"a": 1}):
            document = json.loads(whole)
            document["frames"][0][key] = value
            path.write_text(json.dumps(document))
            try:
                open_capture(export)
            except BadCapture:
                refused += 1
    assert refused > 60


def test_flame_of_the_wrong_version_is_a_command(
    nersemble: Truth, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "templates").mkdir()
    only = "flame2020_rgbavatar.npz"
    shutil.copy(home / "templates" / only, tmp_path / "templates" / only)
    monkeypatch.setenv("EFFIGY_HOME", str(tmp_path))
    with pytest.raises(BadCapture) as caught:
        open_capture(nersemble.union)
    text = str(caught.value)
    assert "needs a template of FLAME 2023, which is not installed (found flame2020_rgbavatar)" in text
    assert "effigy template add flame2023.pkl" in text


def test_a_changing_identity_is_told(export: Path) -> None:
    change_parameters(export, lambda a: a.update(shape=a["shape"] + 0.5), "EXP-2")
    assert "identity changes" in " ".join(open_capture(export).notes)


def test_a_few_steps_of_training_from_disk(nersemble: Truth) -> None:
    """Read, bind with the static offset, train: losses stay finite and fall."""
    overrides = {"model.density": "{skin: 1.0, teeth: 2.0}", "model.fill_unseen": "false", "schedule.deltas_from": "4"}
    config = load_config("tiny", overrides)
    capture = open_capture(nersemble.union)
    trainer = RgbHeadTrainer(replace(config, size_px=40), capture, "cpu")
    assert trainer.model.head.vertex_offset is not None
    pictures = load_pictures(capture, capture.split("train"), 40, torch.device("cpu"))
    optimiser = Optimiser(trainer.parameters())
    batch = pictures.batch(torch.arange(6), torch.ones(6, 3))
    totals = []
    for step in range(12):
        total = torch.stack(list(trainer.losses(batch, 6.0 * step).values())).sum()
        optimiser.step(total, 6.0 * step)
        trainer.after_step(batch, 6.0 * step)
        totals.append(float(total.detach()))
    assert np.isfinite(totals).all()
    assert totals[-1] < 0.8 * totals[0]
