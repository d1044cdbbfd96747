"""The shipped hard capture: whole, one fixed camera, held-out stretches, and its parameters lie on its pictures."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import avatars
from avatars.captures.opening import open_capture
from shared import template

FOLDER = Path(avatars.__file__).parent / "captures/data/talking_head"


@pytest.fixture(scope="module")
def about() -> dict:
    return json.loads((FOLDER / "capture.json").read_text(encoding="utf-8"))


def test_it_is_whole_and_opens(about: dict) -> None:
    capture = open_capture("talking_head")
    assert about["template"]["digest"] == template.load_template().digest
    assert (len(capture.images), len(capture.split("test")), len(about["cameras"])) == (600, 120, 1)
    assert (about["width_px"], about["height_px"], about["fps"]) == (512, 512, 25)
    assert all((FOLDER / image["file"]).is_file() for image in about["images"])
    assert (FOLDER / "LICENSE.md").is_file()
    splits = [image["split"] for image in about["images"]]
    assert sum(a != b for a, b in itertools.pairwise(splits)) == 9, "five stretches of time"
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 20 << 20


def test_projected_skin_lies_on_the_masks(about: dict) -> None:
    parameters = np.load(FOLDER / "parameters.npz")
    bust = template.bust_view(template.load_template())
    head = bust.group_vertices("skin")
    head = head[bust.vertices[head, 2] > bust.joints[bust.joint("neck"), 2] + 0.06]
    shape = np.array(about["template"]["shape"])
    camera_from_world = np.linalg.inv(parameters["world_from_camera"][0])
    for image in about["images"][::41]:
        frame = image["frame"]
        rest = template.rest(
            bust, preset=about["template"]["preset"], shape=shape, expression=parameters["expressions"][frame]
        )
        moved = parameters["rotations"][frame], rest[1], bust.parents, parameters["translations"][frame]
        points = template.skin(rest[0], bust.weights, template.joint_transforms(*moved)[0])[head]
        seen = (points @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]) @ parameters["K"][0].T
        column, row = np.floor(seen[:, :2] / seen[:, 2:]).astype(int).T
        picture = np.asarray(Image.open(FOLDER / image["file"]))
        assert picture.shape == (512, 512, 4)
        assert (picture[row, column, 3] > 127).mean() >= 0.97
