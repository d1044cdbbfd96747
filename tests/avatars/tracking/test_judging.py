"""Which pictures are dropped, and that the reason is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from avatars.tracking.detections import Detections
from avatars.tracking.fitting import ClipFit
from avatars.tracking.judging import REASONS, before_fit, confidence, find_cuts, judge, stretches
from avatars.tracking.landmark_model import FrameState
from avatars.tracking.shown import MOVEMENTS, never_shown
from avatars.tracking.tracked_capture import choose_crop, splits
from shared.errors import BadCapture
from shared.template import rotation_matrices

SIZE_PX = (400, 300)
UPRIGHT = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def clip(frames: int = 12) -> Detections:
    rng = np.random.default_rng(0)
    face = np.array([150, 90]) + rng.uniform(0, 100, (478, 2))
    return Detections(
        np.arange(frames),
        np.tile(face, (frames, 1, 1)).astype(np.float32),
        np.zeros(frames, np.float32),
        np.full(frames, 0.5, np.float32),
        rng.integers(100, 104, (frames, 16, 16)).astype(np.uint8),
        np.zeros(frames, np.int64),
        np.full((frames, 478, 3), 128, np.uint8),
    )


def fitted(frames: int = 12) -> ClipFit:
    state = FrameState(
        np.tile(UPRIGHT, (frames, 1, 1)), np.zeros((frames, 3)), np.zeros((frames, 6)), np.zeros((frames, 52))
    )
    return ClipFit(state, np.zeros(0), 900.0, np.zeros((478, 3)), np.full(frames, 0.001))


def test_each_reason_is_seen_and_listed() -> None:
    found, fit = clip(), fitted()
    found.landmarks[1] = np.nan
    found.second[2] = 0.8
    found.landmarks[3] -= [160, 0]
    found.sharpness[4] = 0.05
    turned = fit.state.rotation.copy()
    turned[5:7] = UPRIGHT @ rotation_matrices([0, 0, np.radians(-60)])
    fit = replace(fit, state=replace(fit.state, rotation=turned))
    fit.residual_m[8] = 0.01
    fit.residual_m[1] = np.nan
    verdict = judge(found, fit, SIZE_PX)
    expected = ["", "no_face", "two_faces", "beside", "blur", "profile", "profile", "", "misfit", "", "", ""]
    assert list(verdict.reason) == expected
    assert verdict.kept.tolist() == [0, 7, 9, 10, 11]
    assert verdict.yaw_deg[5] == pytest.approx(60)  # turned to its own right: the camera sees its left side
    listed = stretches(found.number, verdict.reason, 1)
    assert [row["why"] for row in listed] == [REASONS[name] for name in expected if name and name != "profile"][:4] + [
        REASONS["profile"],
        REASONS["misfit"],
    ]
    assert (listed[4]["from"], listed[4]["to"], listed[4]["pictures"]) == (5, 6, 2)


def test_cuts_are_sudden_changes_of_everything_or_a_face_elsewhere() -> None:
    found = clip()
    found.thumbnail[7:] += 90
    assert np.flatnonzero(find_cuts(found)).tolist() == [6]
    jumped = clip()
    jumped.landmarks[4:] += [120, 0]
    assert np.flatnonzero(find_cuts(jumped)).tolist() == [3]
    assert not find_cuts(clip()).any()
    assert find_cuts(clip(1)).shape == (0,)


def test_second_faces_far_away_do_no_harm() -> None:
    found = clip()
    found.second[:] = 0.2
    assert set(before_fit(found, SIZE_PX)) == {""}


def test_detections_of_a_picture_and_their_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 255, (300, 400, 3)).astype(np.uint8)
    faces = np.stack([rng.uniform(100, 200, (478, 3)), rng.uniform(0, 50, (478, 3))]).astype(np.float32)
    sharp = Detections.of_picture(4, picture, faces)
    assert sharp.second[0] == pytest.approx(0.5, abs=0.05)
    smooth = np.repeat(np.repeat(picture[::20, ::20], 20, 0), 20, 1)
    assert Detections.of_picture(4, smooth, faces).sharpness[0] < 0.5 * sharp.sharpness[0]
    nobody = Detections.of_picture(5, picture, faces[:0])
    assert not nobody.seen[0]
    assert nobody.sharpness[0] == 0
    joined = Detections.joined([sharp, nobody])
    path = tmp_path / "00000.npz"
    joined.write(path)
    again = Detections.read(path)
    np.testing.assert_array_equal(again.landmarks, joined.landmarks)
    assert again.number.tolist() == [4, 5]
    path.write_bytes(b"nonsense")
    with pytest.raises(BadCapture, match=r"00000\.npz"):
        Detections.read(path)


def test_crop_holds_the_face_and_stays_inside() -> None:
    found = clip()
    crop = choose_crop(found.landmarks, SIZE_PX, 128)
    assert crop.left >= 0
    assert crop.top >= 0
    assert crop.left + crop.side_px <= 400
    assert crop.top + crop.side_px <= 300
    assert crop.stored_px == 128
    low, high = found.landmarks.min((0, 1)), found.landmarks.max((0, 1))
    assert (low >= [crop.left, crop.top]).all()
    assert (high <= [crop.left + crop.side_px, crop.top + crop.side_px]).all()


def test_splits_hold_out_stretches() -> None:
    assert splits(0) == ()
    assert splits(20).count("test") == 2
    many = splits(500)
    assert many.count("test") == 50
    assert many[90:100] == ("test",) * 10
    assert many[100] == "train"


def test_frames_of_large_residual_or_turn_are_trusted_less() -> None:
    residual_m = np.array([0.002, 0.002, 0.004, np.nan, 0.001])
    found = confidence(residual_m, np.array([0.0, 50.0, 0.0, 0.0, -20.0]))
    np.testing.assert_allclose(found[[0, 1, 4]], [1, 0.3, 1], atol=1e-6)
    assert 0 < found[3] < found[2] < 0.5
    assert confidence(np.zeros(0), np.zeros(0)).shape == (0,)


def test_what_a_clip_never_shows_is_said() -> None:
    every = {name: (0.0, 0.6) for names in MOVEMENTS.values() for name in names}
    assert never_shown(every | {"gaze_pitch_deg": (-4.0, 4.0)}) == ()
    stiff = every | {"mouthSmileLeft": (0.0, 0.1), "mouthSmileRight": (0.0, 0.2), "browDownLeft": (0.0, 0.1)}
    assert never_shown(stiff) == ("the face never shows a smile",)  # one lowered brow is enough
    still = {name: (0.0, 0.0) for name in every} | {"gaze_pitch_deg": (0.0, 1.0)}
    assert len(never_shown(still)) == 2
    assert "pursed lips" in never_shown(still)[0]
    assert never_shown({"left_knee_deg": (0.0, 3.0)}) == ()
