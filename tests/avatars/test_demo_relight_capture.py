"""The shipped relighting capture: whole, small, its truth lies on its pictures, its lights differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import avatars
from avatars.captures.capture import Capture
from avatars.captures.opening import open_capture
from avatars.evaluation.relit_maps import TrueSubject, images_to_measure

FOLDER = Path(avatars.__file__).parent / "captures/data/demo_relight"


@pytest.fixture(scope="module")
def capture() -> Capture:
    return open_capture("demo_relight")


def test_it_is_whole_and_small(capture: Capture) -> None:
    assert (capture.kind, capture.template.view, len(capture.cameras), len(capture.motion)) == ("body", "body", 2, 58)
    assert [len(capture.split(name)) for name in ("train", "val", "test")] == [100, 0, 48]
    lights = [capture.images[index].light for index in images_to_measure(capture)]
    names = [None if light is None else light.stem for light in lights]
    assert [names.count(name) for name in (None, "noon", "neon")] == [16, 16, 16]
    with_truth = [index for index in capture.split("train") if capture.images[index].aovs]
    assert len(with_truth) == 20
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 4 << 20
    assert "CC0" in (FOLDER / "LICENSE.md").read_text(encoding="utf-8")


def test_truth_lies_on_the_pictures(capture: Capture) -> None:
    size = (256, 256)
    for index in images_to_measure(capture, 3):
        maps = TrueSubject(capture).maps(index, size)
        assert maps.albedo is not None
        assert maps.normals is not None
        assert maps.roughness is not None
        assert maps.metallic is not None
        solid = maps.alpha > 0.98
        assert solid.sum() > 1500
        known = np.linalg.norm(maps.normals[solid], axis=-1) > 0.5
        assert known.mean() > 0.9, "all but hair has a normal"
        camera = capture.camera_of(index)
        away = camera.world_from_camera[:3, 2]
        assert (maps.normals[solid][known] @ away < 0.2).mean() > 0.97, "what is seen faces the camera"
        assert maps.albedo[solid].mean() > 0.05
        assert np.ptp(maps.roughness[solid]) > 0.5
        assert (maps.metallic[solid] > 0.8).sum() > 10, "the belt"


def test_one_pose_looks_different_in_every_light(capture: Capture) -> None:
    frame = capture.images[capture.split("test")[0]].frame
    same = [index for index in capture.split("test") if capture.images[index].frame == frame]
    same = [index for index in same if capture.images[index].camera == 0]
    pictures = [TrueSubject(capture).maps(index, (128, 128)) for index in same]
    assert len(pictures) == 3
    solid = pictures[0].alpha > 0.98
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(pictures[first].colour - pictures[second].colour)[solid].mean() > 0.04
        assert np.abs(pictures[first].alpha - pictures[second].alpha).max() < 0.02
    radiance = [light.radiance for index in same if (light := capture.light(index)) is not None]
    assert len(radiance) == 3
    brightest = [float(picture.max() / picture.mean()) for picture in radiance]
    assert max(brightest) > 100, "a sun"
