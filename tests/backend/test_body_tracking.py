"""From a clip of a whole person to a capture: the whole way on recorded detections, and the real detector."""

from __future__ import annotations

import json
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from avatars.captures.opening import open_capture
from avatars.templates.opening import embedded_template
from avatars.tracking.body_calibrating import true_body
from avatars.tracking.body_fitting import BodyFitSettings
from avatars.tracking.body_measuring import measure_body_track
from backend.body_tracking_run import BodyTrackSettings, track_body
from backend.cli import main
from backend.clip_source import open_clip
from backend.detector import Detector, FoundBody
from backend.tracker_environment import tracker_python
from backend.tracking_errands import track_video
from shared.errors import BadCapture, BadConfig, Cancelled
from shared.track_messages import StartTrack
from tests.failing_clip import before_wall
from tests.recorded import read_recorded_bodies, turning_pictures

SIZE_PX, SHARE = 256, 0.5
QUICK = BodyFitSettings(shape_rounds=4, frame_rounds=2)


class RecordedDetector:
    """Answers as the real one did for these pictures at twice the size; the first picture shows nobody."""

    def __init__(self, pictures: list[np.ndarray], masks: list[np.ndarray]) -> None:
        found = read_recorded_bodies()
        self.asked = 0
        self.rows = {picture.tobytes(): row for row, picture in enumerate(pictures)}
        self.found, self.masks = found, masks

    def body(self, picture: np.ndarray) -> FoundBody | None:
        self.asked += 1
        row = self.rows.get(picture.tobytes())
        if row is None:
            return None
        points = np.nan_to_num(self.found.points[row]) * [SHARE, SHARE, 1]
        body = np.concatenate((points[:33, :2], np.zeros((33, 1)), points[:33, 2:]), 1).astype(np.float32)
        return FoundBody(body, self.found.world[row, :33], {})

    def mask(self, picture: np.ndarray, *, whole_body: bool = False) -> np.ndarray:
        assert whole_body
        return np.where(picture.std(2) > 4, 255, 0).astype(np.uint8)


def test_a_turning_man_becomes_a_capture_that_checks_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capture, images = turning_pictures()
    clip, pictures = tmp_path / "clip", []
    clip.mkdir()
    for place, index in enumerate(images):
        rgba = capture.rgba(index, (SIZE_PX, SIZE_PX)).astype(np.float64)
        pictures.append((rgba[..., :3] + 128 * (1 - rgba[..., 3:] / 255) + 0.5).astype(np.uint8))
        Image.fromarray(pictures[-1]).save(clip / f"{place + 1}.png")
    Image.new("RGB", (SIZE_PX, SIZE_PX), (128, 128, 128)).save(clip / "0.png")
    detector = RecordedDetector(pictures, [])
    settings = BodyTrackSettings(focal_px=625.8 * SHARE, size_px=200, subject="Bo", body_fit=QUICK)
    output, stop = tmp_path / "out", threading.Event()

    def stop_at_fit(stage: str, done: int, of: int) -> None:
        if stage == "fit":
            stop.set()

    with pytest.raises(Cancelled, match="go on"):
        track_body(open_clip(clip), output, detector, settings, stop_at_fit, stop)  # type: ignore[arg-type]
    assert not (output / "capture.json").exists()
    asked = detector.asked
    result = track_body(open_clip(clip), output, detector, settings)  # type: ignore[arg-type]
    assert detector.asked == asked  # what was detected before the stop is not asked again
    assert result.report["dropped"] == {"no person found": 1}
    assert result.report["dropped_stretches"][0]["from"] == 0
    assert json.loads((output / "tracking/report.json").read_text())["kept"] == len(images)
    tracked = open_capture(output)
    assert (tracked.kind, tracked.subject, len(tracked.joint_names)) == ("body", "Bo", 55)
    pairs = [(place, index) for place, index in enumerate(images)]
    crop = result.report["crop"]
    measured = measure_body_track(tracked, capture, pairs, (crop["left"], crop["top"]))
    assert measured["joints_after_similarity_mm"] < 55
    assert measured["joints_mm"] < 85
    up = tracked.cameras[0].world_from_camera[:3, 1]  # the picture's down in the world
    assert up[2] < -0.95
    assert main(["capture", "check", str(output), "--output", str(tmp_path / "checked"), "--frames", "2"]) == 0
    capsys.readouterr()
    assert "the knees never bend" in (tmp_path / "checked" / "capture_check.json").read_text()


class Told:
    """What an errand tells the server."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.more: dict[str, Any] = {}

    def say(self, message: str) -> None:
        self.said.append(message)

    def count(self, done: int, total: int) -> None:
        assert done <= total

    def picture(self, image: np.ndarray) -> None:
        assert image.ndim == 3

    def done(self, message: str, **more: Any) -> None:
        self.said.append(message)
        self.more = more


def test_the_server_tracks_a_body_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capture, images = turning_pictures()
    clip, pictures = tmp_path / "clip", []
    clip.mkdir()
    for place, index in enumerate(images[:11]):
        pictures.append(before_wall(capture.rgba(index, (SIZE_PX, SIZE_PX))))
        Image.fromarray(pictures[-1]).save(clip / f"{place}.png")
    monkeypatch.setattr("backend.detector.Detector", lambda python: nullcontext(RecordedDetector(pictures, [])))
    monkeypatch.setattr("backend.tracker_environment.make_tracker_environment", lambda tell: Path())
    asked = StartTrack("k", str(clip), str(tmp_path / "out"), 44.0, size_px=128, subject="Bo", body=True, height_m=1.9)
    for wrong in (replace(asked, height_m=9.0), replace(asked, height_m=-1.0), replace(asked, body=False)):
        with pytest.raises(BadConfig, match="height does not fit"):
            track_video(wrong, Told())
    told = Told()
    track_video(asked, told)
    assert told.said[0] == "Finding the body"
    assert told.said[-1] == "11 of 11 pictures kept"
    assert any(finding.name == "film again" for finding in told.more["findings"])
    tracked = open_capture(tmp_path / "out")
    assert (tracked.kind, tracked.subject) == ("body", "Bo")
    report = json.loads((tmp_path / "out" / "tracking" / "report.json").read_text())
    assert report["height_m"] == pytest.approx(1.9, abs=0.05)
    assert sum(report["coverage"]["yaw"].values()) == report["train"]
    assert report["coverage"]["ranges"]["left_knee_deg"][1] < 40


def test_too_few_bodies_are_said(tmp_path: Path) -> None:
    for place in range(12):
        Image.new("RGB", (128, 128), (128, 128, 128)).save(tmp_path / f"{place}.png")
    nobody = RecordedDetector([], [])
    with pytest.raises(BadCapture, match="head to feet"):
        track_body(open_clip(tmp_path), tmp_path / "out", nobody)  # type: ignore[arg-type]


@pytest.mark.skipif(tracker_python() is None, reason="the tracker's environment is not there")
def test_the_real_detector_finds_body_hands_and_mask() -> None:
    capture, images = turning_pictures()
    python = tracker_python()
    assert python is not None
    picture, exact = before_wall(capture.rgba(images[0])), true_body(capture, embedded_template("body"), images[0])
    with Detector(python) as detector:
        found, mask = detector.body(picture), detector.mask(picture, whole_body=True)
        assert detector.body(np.full((256, 256, 3), 128, np.uint8)) is None
        rgba = capture.rgba(images[0])
        two = detector.body(before_wall(np.concatenate((rgba[:, 110:400], capture.rgba(images[5])[:, 110:400]), 1)))
    assert found is not None
    assert two is not None
    assert found.second == 0
    assert two.second > 0.7
    assert set(found.hands) == {"left", "right"}
    names = list(embedded_template("body").joint_names)
    for landmark, name in ((25, "left_knee"), (26, "right_knee"), (13, "left_elbow"), (27, "left_ankle")):
        at = exact.joints[names.index(name)]
        seen = exact.focal_px * at[:2] / at[2] + exact.centre_px
        assert np.linalg.norm(found.points[landmark, :2] - seen) < 14
    wrist = exact.joints[names.index("left_wrist")]
    assert (
        np.linalg.norm(found.hands["left"][0][0, :2] - (exact.focal_px * wrist[:2] / wrist[2] + exact.centre_px)) < 20
    )
    true_mask = capture.rgba(images[0])[..., 3] > 127
    assert ((mask > 127) & true_mask).sum() / ((mask > 127) | true_mask).sum() > 0.94
