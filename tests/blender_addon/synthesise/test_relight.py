"""A tiny relighting capture: lights, plain materials, ground truth that fits its picture, turning poses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest

from blender_addon.synthesise import scene as stage
from blender_addon.synthesise.capture import synthesise_capture
from blender_addon.synthesise.exr_passes import read_passes
from blender_addon.synthesise.motion_turn import turning
from blender_addon.synthesise.painted_lights import BRIGHTEST_WHITE, PAINTED, painted_radiance, radiance_file
from blender_addon.synthesise.settings import KNOWN, Shot
from shared import template
from shared.errors import EffigyError
from tests.blender_addon.synthesise.test_capture import read_pixels

BODY = template.load_template()
TINY = replace(
    KNOWN["demo_relight"], cameras=1, views_per_frame=1, frames=2, test_last=1, size_px=96, samples=2, strands=200
)


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("relight") / "tiny"
    assert synthesise_capture(TINY, BODY, folder, lambda done, total, message: True).finished
    return folder


def test_held_out_poses_are_lit_by_every_light_and_share_their_truth(capture: Path) -> None:
    images = json.loads((capture / "capture.json").read_text())["images"]
    assert [image["split"] for image in images] == ["train"] + ["test"] * 3
    relit = [image for image in images if "light" in image]
    assert sorted({image["light"] for image in relit}) == ["lights/neon.hdr", "lights/noon.hdr"]
    own = {(image["frame"], image["camera"]): image for image in images if "light" not in image}
    for image in relit:
        assert image["aovs"] == own[image["frame"], image["camera"]]["aovs"]
        here, there = (read_pixels(capture / one["file"]) for one in (image, own[image["frame"], image["camera"]]))
        assert np.abs(here - there)[there[..., 3] > 0.9][:, :3].mean() > 0.02, "another light"
    assert all((capture / file).is_file() for image in images for file in image.get("aovs", {}).values())
    assert "computed by the generator" in (capture / "LICENSE.md").read_text()


def test_truth_lies_on_the_person_and_is_exact(capture: Path) -> None:
    about, parameters = json.loads((capture / "capture.json").read_text()), np.load(capture / "parameters.npz")
    image = about["images"][1]
    covered = read_pixels(capture / image["file"])[..., 3] > 0.98
    maps = {name: read_pixels(capture / file)[covered] for name, file in image["aovs"].items()}
    assert (maps["albedo"][:, 3] > 0.9).mean() > 0.97
    normals = maps["normal"][:, :3] * 2 - 1
    known = np.linalg.norm(normals, axis=1) > 0.7
    assert 0.8 < known.mean() <= 1, "all but hair"
    towards = -parameters["world_from_camera"][image["camera"]][:3, 2]
    assert (normals[known] @ towards > -0.15).mean() > 0.97, "what is seen faces the camera"
    rough, metal = maps["roughness"][:, 0], maps["metallic"][:, 0]
    for wanted in (0.75, 0.55, 0.22):
        assert (np.abs(rough - wanted) < 0.04).sum() > 10, "jersey, denim, shoes"
    assert (metal > 0.8).sum() > 5, "the belt is metal"
    assert np.median(metal) < 0.05, "and nothing else"


def test_painted_lights_are_what_cycles_and_the_reader_see(capture: Path) -> None:
    for name in PAINTED:
        radiance = painted_radiance(name)
        assert radiance.shape == (64, 128, 3)
        assert 0 <= radiance.min() < radiance.mean()
        assert radiance.mean() > 0.02
        np.testing.assert_allclose(stage.light_radiance(name, 0.0, 1.0), radiance, rtol=1e-5)
        assert radiance.max() > 2 * BRIGHTEST_WHITE[name]
    stored = bpy.data.images.load(str(capture / "lights/noon.hdr"))
    pixels = np.empty(64 * 128 * 4, np.float32)
    stored.pixels.foreach_get(pixels)
    bpy.data.images.remove(stored)
    seen = pixels.reshape(64, 128, 4)[::-1, :, :3]
    noon = painted_radiance("noon")
    assert np.abs(seen - noon).max() <= noon.max() / 128
    assert np.unravel_index(seen.sum(-1).argmax(), (64, 128)) == np.unravel_index(noon.sum(-1).argmax(), (64, 128))
    black = radiance_file(np.zeros((2, 4, 3), np.float32))
    assert len(black.partition(b"+X 4\n")[2]) == 32


def test_the_person_turns_twice_and_then_poses() -> None:
    performance = turning(BODY, 12, 4)
    fronts = template.rotation_matrices(performance.rotations[:, BODY.joint("pelvis")])[:, :2, 1]
    yaws = np.unwrap(np.arctan2(-fronts[:8, 0], fronts[:8, 1]))
    np.testing.assert_allclose(np.diff(yaws), np.pi / 2, atol=0.05)
    arms = performance.rotations[:, BODY.joint("left_shoulder")]
    assert np.abs(arms[0] - arms[7]).max() > 0.1, "the second turn has other arms"
    assert np.isfinite(performance.rotations).all()
    shots = replace(TINY, cameras=2, views_per_frame=2, frames=12, test_last=4).shots()
    assert len(shots) == len(set(shots)) == 24 + 16
    assert Shot(3, 1, "noon").stem() == "01_0003_noon"


def test_passes_of_another_form_are_refused(tmp_path: Path) -> None:
    (tmp_path / "passes").write_bytes(b"no EXR at all, but long enough")
    with pytest.raises(EffigyError, match="unknown form"):
        read_passes(tmp_path / "passes")
