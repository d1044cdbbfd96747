"""The check before training, of bodies: overlap, wrong camera conventions, sides and bends that are never shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avatars.captures.body_coverage import bend_ranges, coverage_of, measure_body_coverage, unseen_sides
from avatars.captures.check import CaptureCheck, check_folder
from avatars.captures.opening import open_capture
from avatars.captures.options import amend_options
from shared.types import Motion
from tests.body_set_files import Truth, write_avatarrex, write_thuman4


def finding(check: CaptureCheck, name: str) -> tuple[str, str]:
    found = next(item for item in check.findings if item.name == name)
    return found.state, found.found


@pytest.fixture(scope="module")
def thuman4(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return write_thuman4(tmp_path_factory.mktemp("sets") / "thuman4", frames=6, cameras=4)


def test_a_good_folder_fits(thuman4: Truth) -> None:
    check = check_folder(thuman4.folder, 4)
    assert check.fits[0][1] > 0.9, "the template covers the masks"
    states = {item.name: item.state for item in check.findings}
    assert states["camera axes"] == states["camera matrix K"] == states["mask"] == "ok"
    assert "body at" in finding(check, "distance")[1]
    state, text = finding(check, "coverage")
    assert state == "doubtful"
    assert "joints move" in text
    assert "poses that differ" in text


@pytest.mark.parametrize("write", [write_thuman4, write_avatarrex], ids=["upright", "upside_down"])
def test_matrices_the_other_way_round_are_found_and_mended(write: object, tmp_path: Path) -> None:
    truth = write(tmp_path / "set", frames=4, cameras=3)  # type: ignore[operator]
    path = next(truth.folder.glob("calibration*.json"))
    cameras = json.loads(path.read_text())
    for camera in cameras.values():
        R, T = np.array(camera["R"]).reshape(3, 3), np.array(camera["T"])
        camera["R"], camera["T"] = R.T.ravel().tolist(), (-R.T @ T).tolist()
    path.write_text(json.dumps(cameras))
    check = check_folder(truth.folder, 3)
    assert finding(check, "camera axes")[0] == "bad"
    assert check.options()["reading"]["matrix"] == "world_from_camera"
    amend_options(truth.folder, check.options())
    mended = check_folder(truth.folder, 3)
    assert finding(mended, "camera axes")[0] == "ok"
    assert mended.fits[0][1] > 0.9


def test_coverage_says_what_never_happens(thuman4: Truth) -> None:
    capture = open_capture(thuman4.folder)
    names = capture.joint_names
    rotations = np.zeros((100, len(names), 3), np.float32)
    still = replace(capture, motion=Motion(rotations, np.zeros((100, 3)), np.zeros((100, 52)), 25.0))
    missing = "; ".join(measure_body_coverage(still).missing)
    for words in ("elbows never bend", "knees never bend", "arms are never raised", "never hang", "hardly twists"):
        assert words in missing
    moved = rotations.copy()
    swing = np.linspace(0, 1, 100)
    moved[:, names.index("left_elbow"), 2] = -1.5 * swing
    moved[:, names.index("left_shoulder"), 1] = 1.4 - 2.4 * swing
    moved[:, names.index("spine2"), 2] = swing - 0.5
    lively = replace(capture, motion=Motion(moved, np.zeros((100, 3)), np.zeros((100, 52)), 25.0))
    ranges = bend_ranges(lively, list(range(100)))
    assert ranges["left_elbow_deg"][1] == pytest.approx(85, abs=2)
    assert ranges["left_arm_height"] == pytest.approx((-0.98, 0.83), abs=0.03)
    assert ranges["twist_deg"] == pytest.approx((-28, 28), abs=2)
    assert coverage_of(capture).active > 0
    assert unseen_sides(np.array([-60.0, 0, 60])) == [
        "no camera within 240 degrees around the back: it will be guessed"
    ]
    assert unseen_sides(np.array([0.0, 72, 144, 216, 288])) == []
