"""A tiny capture rendered by Cycles: format, projection, light, resume and cancel."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest

from blender_addon.synthesise import scene as stage
from blender_addon.synthesise.capture import CaptureResult, synthesise_capture
from blender_addon.synthesise.cli import parse
from blender_addon.synthesise.motion import talking_head
from blender_addon.synthesise.settings import CaptureSettings
from shared import template
from shared.errors import BadConfig, NotFound

TINY = CaptureSettings(frames=2, cameras=2, views_per_frame=2, size_px=64, samples=2, strands=400, test_every=2)


@pytest.fixture(scope="module")
def human() -> template.TemplateArrays:
    return template.load_template()


@pytest.fixture(scope="module")
def capture(human: template.TemplateArrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("capture") / "tiny"
    objects = set(bpy.data.objects.keys())
    result = synthesise_capture(TINY, human, folder, lambda done, total, message: True)
    assert result == CaptureResult(folder, rendered=4, kept=0, finished=True)
    assert set(bpy.data.objects.keys()) == objects, "the user's file keeps only what was in it"
    return folder


def read_pixels(path: Path, *, linear: bool = False) -> np.ndarray:
    """[H, W, 4] as stored (straight alpha), row 0 at the top."""
    image = bpy.data.images.load(str(path))
    if not linear:
        image.colorspace_settings.name = "Non-Color"
        image.alpha_mode = "CHANNEL_PACKED"
    width, height = image.size
    pixels = np.empty(width * height * 4, np.float32)
    image.pixels.foreach_get(pixels)
    bpy.data.images.remove(image)
    return pixels.reshape(height, width, 4)[::-1]


def test_folder_follows_the_format(capture: Path, human: template.TemplateArrays) -> None:
    about = json.loads((capture / "capture.json").read_text())
    bust = template.bust_view(human)
    assert (about["format"], about["version"], about["kind"]) == ("effigy-capture", 1, "head")
    assert about["template"] == {
        "id": "effigy_human",
        "digest": human.digest,
        "view": "bust",
        "preset": "man",
        "shape": [],
    }
    assert tuple(about["joint_names"]) == bust.joint_names
    assert tuple(about["expression_names"]) == bust.expression_names
    assert [image["split"] for image in about["images"]] == ["train", "train", "test", "test"]
    assert sorted(image["camera"] for image in about["images"]) == [0, 0, 1, 1]
    assert about["generator"]["settings"]["seed"] == TINY.seed
    parameters = np.load(capture / "parameters.npz")
    assert {name: parameters[name].shape for name in parameters.files} == {
        "rotations": (2, 10, 3),
        "translations": (2, 3),
        "expressions": (2, 52),
        "K": (2, 3, 3),
        "world_from_camera": (2, 4, 4),
    }
    assert (parameters["rotations"].dtype, parameters["K"].dtype) == (np.float32, np.float64)
    assert np.load(capture / "environment.npz")["radiance"].shape == (64, 128, 3)
    files = {"capture.json", "parameters.npz", "environment.npz", "images", "LICENSE.md"}
    assert {path.name for path in capture.iterdir()} == files
    for image in about["images"]:
        assert read_pixels(capture / image["file"]).shape == (64, 64, 4)


def test_parameters_reproduce_the_rendered_silhouette(capture: Path, human: template.TemplateArrays) -> None:
    about, parameters = json.loads((capture / "capture.json").read_text()), np.load(capture / "parameters.npz")
    bust = template.bust_view(human)
    face = bust.group_vertices("skin")
    face = face[bust.vertices[face, 2] > bust.joints[bust.joint("neck"), 2] + 0.06]
    for image in about["images"]:
        frame, camera = image["frame"], image["camera"]
        vertices, joints = template.rest(bust, preset="man", expression=parameters["expressions"][frame])
        skinning, _ = template.joint_transforms(
            parameters["rotations"][frame], joints, bust.parents, parameters["translations"][frame]
        )
        points = template.skin(vertices, bust.weights, skinning)[face]
        camera_from_world = np.linalg.inv(parameters["world_from_camera"][camera])
        seen = (points @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]) @ parameters["K"][camera].T
        column, row = np.floor(seen[:, :2] / seen[:, 2:]).astype(int).T
        mask = read_pixels(capture / image["file"])[..., 3] > 0.3
        assert mask[row, column].mean() >= 0.97
        assert 0.15 < mask.mean() < 0.75
        covered = np.zeros((64, 64), bool)
        covered[row, column] = True
        assert np.flatnonzero(mask.any(1))[0] <= np.flatnonzero(covered.any(1))[0], "hair lies over the skull"


def test_face_is_lit_and_not_clipped(capture: Path) -> None:
    picture = read_pixels(capture / "images/01_0000.webp")
    opaque = picture[picture[..., 3] > 0.95][:, :3]
    warm = opaque[(opaque[:, 0] > opaque[:, 1]) & (opaque[:, 1] > opaque[:, 2])]
    assert len(warm) > 200, "skin is there"
    assert 0.3 < warm.mean() < 0.85
    assert (opaque.min(axis=1) > 0.97).mean() < 0.02


def test_light_table_points_where_cycles_light_points() -> None:
    turn, strength = 0.7, 1.3
    table = stage.light_radiance("studio", turn, strength)
    assert table.mean() == pytest.approx(strength * stage.light_radiance("studio", 0.0, 1.0).mean(), rel=1e-3)
    scene = stage.new_scene("probe", 32, 8)
    stage.set_light(scene, "studio", turn, strength)
    scene.cycles.use_denoising = False
    scene.render.film_transparent = False
    scene.render.image_settings.file_format = "OPEN_EXR"
    camera = stage.add_camera(scene)
    path = Path(bpy.app.tempdir) / "probe.exr"
    scene.render.filepath = str(path)
    rows, columns = np.meshgrid((np.arange(64) + 0.5) / 64, (np.arange(128) + 0.5) / 128, indexing="ij")
    azimuth, polar = (0.5 - columns) * 2 * np.pi, rows * np.pi
    directions = np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], axis=-1)
    for towards in np.array([[1.0, 0, 0.2], [0, 1, 0.3], [-1, 0, 0.1], [0, -1, 0.4], [0.5, 0.5, 0.9]]):
        forward = towards / np.linalg.norm(towards)
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
        stage.aim_camera(camera, np.diag([32.0, 32.0, 1]), pose, 32)
        bpy.ops.render.render(write_still=True, scene=scene.name)
        picture = read_pixels(path, linear=True)[..., :3]
        local = directions @ pose[:3, :3]
        column, row = (32 * local[..., k] / np.maximum(local[..., 2], 1e-6) + 16 for k in (0, 1))
        inside = (local[..., 2] > 0) & (np.abs(column - 16) < 15) & (np.abs(row - 16) < 15)
        drawn = np.log(picture[row[inside].astype(int), column[inside].astype(int)].mean(1) + 0.01)
        told = np.log(table[inside].mean(1) + 0.01)  # logarithms: the lamps are a thousand times the walls
        assert np.corrcoef(drawn, told)[0, 1] > 0.9
        assert abs(np.mean(drawn - told)) < 0.15
    bpy.data.scenes.remove(scene)


def test_resume_renders_only_what_is_missing(capture: Path, human: template.TemplateArrays, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(capture, folder)
    (folder / "images/01_0001.webp").unlink()
    before = (folder / "images/00_0000.webp").stat().st_mtime_ns
    result = synthesise_capture(TINY, human, folder, lambda done, total, message: True)
    assert (result.rendered, result.kept, result.finished) == (1, 3, True)
    assert (folder / "images/00_0000.webp").stat().st_mtime_ns == before
    change = np.abs(read_pixels(folder / "images/01_0001.webp") - read_pixels(capture / "images/01_0001.webp"))
    assert change.mean() < 0.01, "a resumed picture is the picture"


def test_cancel_keeps_what_is_done_and_other_settings_start_over(
    human: template.TemplateArrays, tmp_path: Path
) -> None:
    folder = tmp_path / "stopped"
    seen: list[int] = []

    def stop_after_one(done: int, total: int, message: str) -> bool:
        seen.append(done)
        return done < 1

    result = synthesise_capture(TINY, human, folder, stop_after_one)
    assert (result.rendered, result.finished) == (1, False)
    assert not (folder / "capture.json").exists()
    assert len(list((folder / "images").iterdir())) == 1
    other = replace(TINY, seed=TINY.seed + 1)
    result = synthesise_capture(other, human, folder, lambda done, total, message: False)
    assert (result.kept, result.rendered) == (0, 0)
    assert seen == [0, 1]


def test_bad_input_is_one_sentence(human: template.TemplateArrays, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(BadConfig, match="holds other files"):
        synthesise_capture(TINY, human, tmp_path, lambda *_: True)
    with pytest.raises(BadConfig, match="size_px is out of range"):
        replace(TINY, size_px=0)
    with pytest.raises(BadConfig, match="views_per_frame"):
        replace(TINY, views_per_frame=3)
    with pytest.raises(NotFound, match="did you mean 'courtyard'"):
        stage.light_path("courtyrd")


def test_every_camera_gets_its_share_of_both_splits() -> None:
    settings = CaptureSettings()
    views = settings.views()
    assert len(views) == len(set(views)) == 240
    for split in ("train", "test"):
        assert {camera for frame, camera in views if settings.split(frame) == split} == set(range(8))


def test_performance_has_its_events_in_both_splits(human: template.TemplateArrays) -> None:
    bust, settings = template.bust_view(human), CaptureSettings()
    played = talking_head(bust, settings.frames, settings.seed)
    blink = played.expressions[:, bust.expression_names.index("eyeBlinkLeft")]
    jaw = played.rotations[:, bust.joint("jaw"), 0]
    yaw = played.rotations[:, [bust.joint("neck"), bust.joint("head")], 2].sum(1)
    test = np.array([settings.split(frame) == "test" for frame in range(settings.frames)])
    for chosen in (test, ~test):
        assert blink[chosen].max() == 1
        assert jaw[chosen].max() > 0.3
        assert jaw[chosen].min() < 0.03
        assert yaw[chosen].max() > 0.35
        assert yaw[chosen].min() < -0.2
    assert played.expressions.min() >= 0
    assert played.expressions.max() <= 1


def test_command_line_fills_the_settings(tmp_path: Path) -> None:
    words = ["--output", str(tmp_path), "--frames", "3", "--light-strength", "0.5", "--shape", "1", "-2"]
    settings, output, file, part = parse(words)
    assert settings == CaptureSettings(frames=3, light_strength=0.5, shape=(1.0, -2.0))
    assert (output, file, part) == (tmp_path, None, (0, 1))
    assert parse([*words, "--part", "2/8"])[3] == (2, 8)
    with pytest.raises(BadConfig, match="like 0/4"):
        parse([*words, "--part", "8/8"])
