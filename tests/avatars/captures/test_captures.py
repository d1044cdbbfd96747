"""Captures: what is written comes back, sizes and cameras agree, every inconsistency is one clear sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avatars.captures.capture import scaled_camera
from avatars.captures.embedded import embedded_captures
from avatars.captures.images import area_resize, premultiply
from avatars.captures.opening import open_capture
from shared.errors import BadCapture
from tests.tiny import front_camera, tiny_capture


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_capture(tmp_path_factory.mktemp("captures") / "tiny", size=32, frames=4, cameras=2, gaussians=300)


@pytest.fixture
def folder(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "tiny"))


def test_a_capture_is_read_whole(recorded: Path) -> None:
    capture = open_capture(recorded)
    assert (len(capture.images), len(capture.cameras), len(capture.motion)) == (8, 2, 4)
    assert sorted(capture.split("train") + capture.split("test")) == list(range(8))
    assert capture.split("test") == (3, 7)
    assert capture.environment is not None
    assert capture.environment.radiance.shape == (64, 128, 3)
    assert capture.motion.rotations.shape == (4, len(capture.joint_names), 3)
    image = capture.rgba(0)
    assert image.shape == (32, 32, 4)
    assert 0.1 < (image[..., 3] > 128).mean() < 0.9


def test_resizing_moves_image_and_camera_together(recorded: Path) -> None:
    capture = open_capture(recorded)
    whole, half = capture.rgba(1).astype(float), capture.rgba(1, (16, 16)).astype(float)
    expected = whole.reshape(16, 2, 16, 2, 4).mean((1, 3))
    assert np.abs(half - expected).max() <= 0.51
    camera = capture.camera_of(1, (16, 16))
    np.testing.assert_allclose(camera.K[:2], capture.camera_of(1).K[:2] / 2)
    assert (camera.width_px, camera.height_px) == (16, 16)
    wide = scaled_camera(front_camera(64), (96, 32))
    assert (wide.K[0, 0], wide.K[1, 1]) == (front_camera(64).K[0, 0] * 1.5, front_camera(64).K[1, 1] / 2)
    assert capture.train_size(16) == (16, 16)
    assert capture.train_size(640) == (32, 32)


def test_area_filter_keeps_means_for_any_ratio() -> None:
    image = np.random.default_rng(0).integers(0, 256, (15, 21, 4)).astype(np.uint8)
    small = area_resize(image, (8, 5))
    assert small.shape == (5, 8, 4)
    assert np.abs(small.astype(float).mean((0, 1)) - image.mean((0, 1))).max() < 0.6
    np.testing.assert_array_equal(area_resize(image, (21, 15)), image)
    one = area_resize(np.full((3, 3, 4), 200, np.uint8), (1, 1))
    assert (one == 200).all()


def test_premultiplying_rounds_and_clears_what_is_transparent() -> None:
    straight = np.array([[[255, 100, 3, 255], [255, 100, 3, 0], [255, 100, 3, 128]]], np.uint8)
    assert premultiply(straight).tolist() == [[[255, 100, 3, 255], [0, 0, 0, 0], [128, 50, 2, 128]]]


def edit(folder: Path, change: Callable[[dict], None]) -> None:
    document = json.loads((folder / "capture.json").read_text())
    change(document)
    (folder / "capture.json").write_text(json.dumps(document))


def edit_arrays(folder: Path, change: Callable[[dict], None]) -> None:
    with np.load(folder / "parameters.npz") as file:
        arrays = {name: file[name] for name in file.files}
    change(arrays)
    np.savez(folder / "parameters.npz", **arrays)


def skewed(pose: np.ndarray) -> np.ndarray:
    changed = pose.copy()
    changed[0, :3, 0] *= 1.3
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "capture.json").unlink(), "there is no capture"),
        (lambda f: (f / "capture.json").write_text("no"), "is no JSON"),
        (lambda f: (f / "capture.json").write_text("{}"), "no Effigy capture"),
        (lambda f: edit(f, lambda d: d.update(version=9)), "another version"),
        (lambda f: edit(f, lambda d: d.pop("images")), "lacks 'images'"),
        (lambda f: edit(f, lambda d: d["images"][0].pop("camera")), "lacks 'camera'"),
        (lambda f: edit(f, lambda d: d["images"][0].update(frame=99)), "camera or frame the capture lacks"),
        (lambda f: edit(f, lambda d: d["images"][0].update(split="vall")), "unknown split"),
        (lambda f: edit(f, lambda d: [i.update(split="train") for i in d["images"]]), "no test images"),
        (lambda f: edit(f, lambda d: d["images"][0].update(file="../../x.png")), "outside its folder"),
        (lambda f: edit(f, lambda d: d["template"].update(id="flame")), "not known here"),
        (lambda f: edit(f, lambda d: d["template"].update(digest="0")), "has changed"),
        (lambda f: edit(f, lambda d: d["template"].update(preset="mann")), "did you mean 'man'"),
        (lambda f: edit(f, lambda d: d["joint_names"].pop()), "unequal counts"),
        (lambda f: edit(f, lambda d: d["joint_names"].reverse()), "not those of its template"),
        (lambda f: edit(f, lambda d: d["cameras"].pop()), "unequal counts"),
        (lambda f: edit(f, lambda d: d.update(width_px="wide")), "damaged"),
        (lambda f: edit_arrays(f, lambda a: a.update(expressions=a["expressions"][:-1])), "unequal counts"),
        (lambda f: edit_arrays(f, lambda a: a.update(rotations=a["rotations"] * np.nan)), "not finite"),
        (lambda f: edit_arrays(f, lambda a: a.update(rotations=a["rotations"][..., :2])), "wrong shape"),
        (lambda f: edit_arrays(f, lambda a: a.pop("K")), "lacks 'K'"),
        (lambda f: edit_arrays(f, lambda a: a.update(world_from_camera=skewed(a["world_from_camera"]))), "rigid"),
        (lambda f: (f / "parameters.npz").unlink(), "lacks parameters.npz"),
        (lambda f: (f / "parameters.npz").write_bytes(b"PK"), "is damaged"),
        (lambda f: next((f / "images").iterdir()).unlink(), "lacks 1 of its 8 images"),
        (lambda f: np.savez(f / "environment.npz", other=np.zeros(3)), "lacks 'radiance'"),
    ],
)
def test_every_inconsistency_is_named(folder: Path, change: Callable[[Path], None], message: str) -> None:
    change(folder)
    with pytest.raises(BadCapture, match=message):
        open_capture(folder)


def test_bad_pictures_are_named_when_read(folder: Path) -> None:
    capture = open_capture(folder)
    Image.new("RGBA", (8, 8)).save(capture.images[0].file)
    with pytest.raises(BadCapture, match="wrong size"):
        capture.rgba(0)
    capture.images[1].file.write_bytes(b"nothing")
    with pytest.raises(BadCapture, match="cannot be read"):
        capture.rgba(1)


def test_pictures_without_alpha_count_as_covered(folder: Path) -> None:
    capture = open_capture(folder)
    Image.new("RGB", (32, 32), (10, 20, 30)).save(capture.images[0].file, lossless=True)
    assert (capture.rgba(0) == (10, 20, 30, 255)).all()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(BadCapture, match="there is no capture"):
        open_capture("demo_heat")
    assert all(open_capture(name).images for name in embedded_captures())


def test_a_capture_read_otherwise_is_another(recorded: Path) -> None:
    capture = open_capture(recorded)
    assert capture.numbers_digest() == open_capture(recorded).numbers_digest()
    turned = tuple(replace(camera, K=camera.K * 1.001) for camera in capture.cameras)
    assert replace(capture, cameras=turned).numbers_digest() != capture.numbers_digest()
    offset = np.zeros((2, 3), np.float32)
    assert replace(capture, vertex_offset=offset).numbers_digest() != capture.numbers_digest()
