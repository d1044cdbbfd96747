"""From a clip to a capture: the whole way on exact landmarks, and the real detector where its environment is."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avatars.captures.capture import Capture
from avatars.captures.opening import open_capture
from avatars.templates.opening import embedded_template
from avatars.tracking.calibrating import true_view
from avatars.tracking.correspondences import embedded_correspondences
from avatars.tracking.fitting import FitSettings
from backend.cli import main
from backend.clip_source import open_clip
from backend.detector import Detector
from backend.tracker_environment import tracker_python
from backend.tracking_run import TrackSettings, track_clip
from shared.errors import BadCapture, BadConfig, Cancelled, WorkerFailed

SIZE_PX, EVERY, FRAMES = 128, 2, 14
QUICK = FitSettings(keyframes=6, keyframe_rounds=3, personal_rounds=1, frame_rounds=3)
WITHOUT = "the tracker's environment is not there (python install.py tracker makes it, about a minute)"


class ExactDetector:
    """Answers with the landmarks and masks that the pictures of `demo` have, in turn, and counts how often."""

    def __init__(self, demo: Capture, pictures: list[int]) -> None:
        where, _ = embedded_correspondences()
        self.asked = 0
        self.faces_of: dict[bytes, np.ndarray] = {}
        for index in pictures:
            view = true_view(demo, embedded_template("body"), index)
            points = (view.vertices[where.vertices] * where.weights[..., None]).sum(1)
            pixels = (view.focal_px * points[:, :2] / points[:, 2:] + view.centre_px) * SIZE_PX / 512
            face = np.concatenate((pixels, points[:, 2:]), 1)[None].astype(np.float32)
            self.faces_of[picture_of(demo, index).tobytes()] = face

    def faces(self, picture: np.ndarray) -> np.ndarray:
        self.asked += 1
        return self.faces_of.get(picture.tobytes(), np.zeros((0, 478, 3), np.float32))

    def hands(self, picture: np.ndarray) -> np.ndarray:
        return np.zeros((0, 21, 3), np.float32)

    def mask(self, picture: np.ndarray) -> np.ndarray:
        return np.where(np.abs(picture.astype(int) - 128).sum(2) > 6, 255, 0).astype(np.uint8)


def picture_of(demo: Capture, index: int) -> np.ndarray:
    rgba = demo.rgba(index, (SIZE_PX, SIZE_PX)).astype(np.float64)
    return (rgba[..., :3] + 128 * (1 - rgba[..., 3:] / 255) + 0.5).astype(np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExactDetector]:
    """A folder of pictures of the talking head, one of them of nobody."""
    demo, folder = open_capture("talking_head"), tmp_path_factory.mktemp("clip é")
    pictures = list(range(0, FRAMES * EVERY, EVERY))
    for place, index in enumerate(pictures):
        Image.fromarray(picture_of(demo, index)).save(folder / f"{place}.png")
    Image.new("RGB", (SIZE_PX, SIZE_PX), (128, 128, 128)).save(folder / f"{FRAMES}.png")
    return folder, ExactDetector(demo, pictures)


def test_a_clip_becomes_a_capture_that_checks_and_resumes(
    clip: tuple[Path, ExactDetector], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, detector = clip
    source = open_clip(folder)
    assert (source.pictures, source.fps, source.size_px) == (FRAMES + 1, 25.0, (SIZE_PX, SIZE_PX))
    settings = TrackSettings(focal_px=1408 * SIZE_PX / 512, size_px=96, fit=QUICK, subject="Ada")
    output, stop = tmp_path / "out", threading.Event()

    def stop_at_fit(stage: str, done: int, of: int) -> None:
        if stage == "fit":
            stop.set()

    with pytest.raises(Cancelled, match="go on"):
        track_clip(source, output, detector, settings, stop_at_fit, stop)  # type: ignore[arg-type]
    assert not (output / "capture.json").exists()
    asked, heard = detector.asked, []
    result = track_clip(
        source,
        output,
        detector,
        settings,
        lambda stage, done, of: heard.append((stage, done == of)),  # type: ignore[arg-type]
    )
    assert detector.asked == asked  # what was detected before the stop is not asked again
    assert ("cut out", True) in heard
    assert ("fit", True) in heard
    report = result.report
    assert (report["pictures"], report["kept"]) == (FRAMES + 1, FRAMES)
    assert report["dropped"] == {"no face found": 1}
    assert report["dropped_stretches"] == [{"from": FRAMES, "to": FRAMES, "pictures": 1, "why": "no face found"}]
    assert json.loads((output / "tracking/report.json").read_text())["focal_from"] == "given"
    capture = open_capture(output)
    assert capture.subject == "Ada"
    assert len(capture.images) == FRAMES
    assert capture.rgba(0).shape == (96, 96, 4)
    assert capture.split("test")
    assert main(["capture", "check", str(output), "--output", str(tmp_path / "checked"), "--frames", "3"]) == 0
    assert "overlap" in capsys.readouterr().out
    times = {path: path.stat().st_mtime_ns for path in (output / "images").iterdir()}
    track_clip(source, output, detector, settings)  # type: ignore[arg-type]
    assert {path: path.stat().st_mtime_ns for path in (output / "images").iterdir()} == times


def test_what_cannot_be_tracked_is_said(clip: tuple[Path, ExactDetector], tmp_path: Path) -> None:
    folder, detector = clip
    with pytest.raises(BadCapture, match="no pictures"):
        open_clip(tmp_path)
    with pytest.raises(BadConfig, match="--step"):
        open_clip(folder, 0)
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    with pytest.raises(BadConfig, match="holds other files"):
        track_clip(open_clip(folder), full, detector)  # type: ignore[arg-type]
    assert (full / "thesis.txt").read_text() == "mine"
    with pytest.raises(BadCapture, match=r"Only [0-4] of 4 pictures can be used"):
        track_clip(open_clip(folder, 4), tmp_path / "few", detector)  # type: ignore[arg-type]
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0.png").write_bytes(b"no picture")
    with pytest.raises(BadCapture, match=r"0\.png cannot be read"):
        open_clip(tmp_path / "bad")
    small = tmp_path / "small"
    small.mkdir()
    Image.new("RGB", (40, 40)).save(small / "0.png")
    with pytest.raises(BadCapture, match="too small"):
        open_clip(small)


def test_the_lens_of_a_photo_is_read(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 26
    Image.new("RGB", (200, 100)).save(tmp_path / "0.jpg", exif=exif)
    assert open_clip(tmp_path).focal_35mm == 26


def test_a_detector_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(WorkerFailed, match="does not start"):
        Detector(tmp_path / "nothing")
    with pytest.raises(WorkerFailed, match=r"mediapipe|cv2"):  # this environment must not have it
        Detector(Path(sys.executable))


@pytest.mark.skipif(tracker_python() is None, reason=WITHOUT)
def test_the_real_detector_finds_face_irises_and_mask() -> None:
    demo = open_capture("talking_head")
    where, _ = embedded_correspondences()
    view = true_view(demo, embedded_template("body"), 0)
    points = (view.vertices[where.vertices] * where.weights[..., None]).sum(1)
    expected = view.focal_px * points[:, :2] / points[:, 2:] + view.centre_px
    rgba = demo.rgba(0).astype(np.float64)
    picture = (rgba[..., :3] + 128 * (1 - rgba[..., 3:] / 255) + 0.5).astype(np.uint8)
    python = tracker_python()
    assert python is not None
    with Detector(python) as detector:
        assert detector.version == "0.10.21"
        faces, mask = detector.faces(picture), detector.mask(picture)
        assert len(detector.faces(np.full((256, 256, 3), 128, np.uint8))) == 0
    assert len(faces) == 1
    distance = np.linalg.norm(faces[0, :, :2] - expected, axis=1)
    assert distance.mean() < 8
    assert distance[468:].mean() < 6  # the irises
    true_mask = rgba[..., 3] > 127
    assert ((mask > 127) & true_mask).sum() / ((mask > 127) | true_mask).sum() > 0.95
