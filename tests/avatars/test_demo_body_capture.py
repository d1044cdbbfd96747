"""The shipped body capture: whole, small, made with the shipped template; its parameters lie on its pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import avatars
from avatars.captures.body_coverage import coverage_of
from avatars.captures.capture import Capture
from avatars.captures.opening import open_capture
from avatars.templates.template import Template

FOLDER = Path(avatars.__file__).parent / "captures/data/demo_body"


@pytest.fixture(scope="module")
def capture() -> Capture:
    return open_capture("demo_body")


def test_it_is_whole_and_small(capture: Capture) -> None:
    assert (capture.kind, capture.template.view, len(capture.joint_names)) == ("body", "body", 55)
    assert (len(capture.images), len(capture.cameras), len(capture.motion)) == (400, 10, 40)
    assert {name: len(capture.split(name)) for name in ("train", "val", "test")} == {
        "train": 272,
        "val": 68,
        "test": 60,
    }
    seen = {name: {(i.camera, i.frame) for i in capture.images if i.split == name} for name in ("train", "val", "test")}
    assert not {frame for _, frame in seen["test"]} & {frame for _, frame in seen["train"]}
    assert not {camera for camera, _ in seen["val"]} & {camera for camera, _ in seen["train"]}
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 6 << 20
    assert (FOLDER / "LICENSE.md").is_file()


def test_every_side_is_seen_and_joints_bend(capture: Capture) -> None:
    found = coverage_of(capture)
    assert found.missing == ()
    assert found.ranges["left_knee_deg"][1] > 90
    assert found.ranges["left_arm_height"][1] > 0.8
    assert np.ptp(found.ranges["twist_deg"]) > 60


def test_projected_hands_and_head_lie_on_the_masks(capture: Capture) -> None:
    template = Template(capture.template.open())
    arrays = template.arrays
    joints = [arrays.joint(name) for name in ("head", "left_wrist", "right_wrist")]
    rows = np.flatnonzero(arrays.weights[:, joints].sum(1) > 0.9)
    rows = np.intersect1d(rows, arrays.group_vertices("skin"))
    for index in range(0, 400, 23):
        image = capture.images[index]
        motion = capture.motion
        posed = template(
            *(
                torch.from_numpy(part[image.frame : image.frame + 1].copy())
                for part in (motion.rotations, motion.translations)
            ),
            torch.from_numpy(motion.expressions[image.frame : image.frame + 1].copy()),
            preset=capture.template.preset,
        )
        camera = capture.camera_of(index)
        from_world = camera.camera_from_world()
        seen = (posed.vertices[0, rows].double().numpy() @ from_world[:3, :3].T + from_world[:3, 3]) @ camera.K.T
        column, row = np.floor(seen[:, :2] / seen[:, 2:]).astype(int).T
        picture = np.asarray(Image.open(image.file))
        assert picture.shape == (512, 512, 4)
        assert (picture[row, column, 3] > 127).mean() > 0.93
        edge = np.concatenate((picture[0, :, 3], picture[:, 0, 3], picture[:, -1, 3]))
        assert not edge.any(), "the person is in the picture; the tip of a shoe may touch its lower edge"
