"""The shipped demo capture: whole, made with the shipped template, and its parameters lie on its pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import avatars
from shared import template

FOLDER = Path(avatars.__file__).parent / "captures/data/demo_head"


@pytest.fixture(scope="module")
def about() -> dict:
    return json.loads((FOLDER / "capture.json").read_text(encoding="utf-8"))


def test_it_is_whole_and_fits_the_template(about: dict) -> None:
    assert about["template"]["digest"] == template.load_template().digest
    assert len(about["images"]) == 240
    assert all((FOLDER / image["file"]).is_file() for image in about["images"])
    assert (FOLDER / "LICENSE.md").is_file()
    held_out = {image["frame"] for image in about["images"] if image["split"] == "test"}
    assert not held_out & {image["frame"] for image in about["images"] if image["split"] == "train"}
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 8 << 20


def test_projected_skin_lies_on_the_masks(about: dict) -> None:
    parameters = np.load(FOLDER / "parameters.npz")
    bust = template.bust_view(template.load_template())
    head = bust.group_vertices("skin")
    head = head[bust.vertices[head, 2] > bust.joints[bust.joint("neck"), 2] + 0.06]
    for image in about["images"][::19]:
        frame, camera = image["frame"], image["camera"]
        vertices, joints = template.rest(bust, preset="man", expression=parameters["expressions"][frame])
        moved = parameters["rotations"][frame], joints, bust.parents, parameters["translations"][frame]
        points = template.skin(vertices, bust.weights, template.joint_transforms(*moved)[0])[head]
        camera_from_world = np.linalg.inv(parameters["world_from_camera"][camera])
        seen = (points @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]) @ parameters["K"][camera].T
        column, row = np.floor(seen[:, :2] / seen[:, 2:]).astype(int).T
        picture = np.asarray(Image.open(FOLDER / image["file"]))
        assert picture.shape == (about["height_px"], about["width_px"], 4)
        assert (picture[row, column, 3] > 127).mean() >= 0.97
