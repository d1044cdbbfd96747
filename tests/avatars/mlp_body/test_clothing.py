"""A clothed template from masks: its outlines fit better than the bare body's, and it is read as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatars.captures.capture import Capture
from avatars.captures.opening import open_capture
from avatars.mlp_body.clothing import (
    ClothedBody,
    ClothingSettings,
    clothed_body,
    clothing_sheet,
    write_clothed_template,
)
from avatars.mlp_body.initial import new_points, surface_triangles
from avatars.mlp_body.settings import DENSITY, MlpBodyConfig
from avatars.mlp_body.skeleton import Canonical, DrivingPose
from avatars.skinning.clothed import read_clothed_template
from shared.errors import BadCapture

FEW = ClothingSettings(pictures=16, longest_px=256, rounds=3)


@pytest.fixture(scope="module")
def capture() -> Capture:
    return open_capture("demo_body")


@pytest.fixture(scope="module")
def clothed(capture: Capture) -> ClothedBody:
    return clothed_body(capture, FEW)


def test_outlines_fit_better_also_in_pictures_it_has_not_seen(clothed: ClothedBody) -> None:
    assert clothed.before[0] < 0.88, "the demo person's clothes stand off the body"
    assert clothed.after[0] > 0.965
    assert clothed.after[1] > 0.955


def test_clothes_stand_off_where_they_are_and_hands_stay_bare(capture: Capture, clothed: ClothedBody) -> None:
    canonical = Canonical.of(capture.template)
    names, weights = canonical.arrays.joint_names, canonical.weights.numpy()
    thigh = weights[:, names.index("left_hip")] > 0.8
    finger = weights[:, names.index("left_index2")] > 0.8
    used = np.zeros(len(weights), bool)
    used[clothed.triangles] = True
    assert np.median(clothed.offsets[thigh & used]) > 0.008
    assert np.abs(clothed.offsets[finger & used]).max() < 0.002
    eyes = surface_triangles(canonical.arrays, {"eye_l": 1.0})[0]
    assert np.abs(clothed.offsets[eyes]).max() < 1e-4


def test_it_is_read_back_as_the_template_it_is(capture: Capture, clothed: ClothedBody, tmp_path: Path) -> None:
    write_clothed_template(clothed, tmp_path / "template.ply")
    canonical = Canonical.of(capture.template)
    skin = surface_triangles(canonical.arrays, DENSITY)[0]
    worn = read_clothed_template(tmp_path / "template.ply", canonical.vertices.numpy(), skin, canonical.weights.numpy())
    used = np.unique(clothed.triangles)
    np.testing.assert_allclose(worn.vertices, clothed.vertices[used], atol=1e-5)
    assert len(worn.triangles) == len(clothed.triangles)
    assert worn.copied > 0.8
    config = MlpBodyConfig(gaussians=3000, controls=100, anchors=20)
    driving = DrivingPose.of(canonical.arrays, hands=False, face=False)
    head = canonical.arrays.joint_names.index("head")
    bare, dressed = (
        float((new_points(canonical, driving, config, 0, file).weights[:, head] > 0.5).float().mean())
        for file in (None, tmp_path / "template.ply")
    )
    assert abs(dressed / bare - 1) < 0.2, "faces keep their share of the Gaussians"
    sheet = clothing_sheet(capture, clothed)
    assert sheet.ndim == 3
    assert sheet.std() > 20


def test_a_head_is_refused() -> None:
    with pytest.raises(BadCapture, match="recording of a head"):
        clothed_body(open_capture("demo_head"))
