"""No face, two faces, profiles, cuts, blur, hands and things before the face: seen in real pictures, and said."""

from __future__ import annotations

import numpy as np
import pytest

from avatars.templates.opening import embedded_template
from avatars.tracking.correspondences import embedded_correspondences
from avatars.tracking.detections import Detections, inside
from avatars.tracking.fitting import ClipFitter, FitSettings
from avatars.tracking.judging import COVERED_SHARE, REASONS, before_fit, covered_share, find_cuts, judge, stretches
from avatars.tracking.landmark_model import LandmarkModel
from backend.tracker_environment import tracker_python
from tests.failing_clip import SIZE_PX, failing_clip
from tests.recorded import detect, read_recorded

QUICK = FitSettings(keyframes=8, keyframe_rounds=3, personal_rounds=1, frame_rounds=3)
SIZE = (SIZE_PX, SIZE_PX)
EXPECTED = [""] * 20 + [
    reason for name in ("no_face", "two_faces", "profile", "blur", "hand", "covered") for reason in (name, name, "")
]
EXPECTED += [""] * 4
CUT_AFTER = 37


def verdict_of(found: Detections) -> list[str]:
    """The reasons after a quick fit, as a track takes it."""
    where, response = embedded_correspondences()
    model = LandmarkModel(embedded_template("body"), where, identity_modes=4, response=response)
    usable = np.array([not reason for reason in before_fit(found, SIZE)])
    landmarks = np.where(usable[:, None, None], found.landmarks, np.nan).astype(np.float64)
    middle = (SIZE_PX / 2, SIZE_PX / 2)
    fitter = ClipFitter(model, landmarks, middle, 1408.0, found.number / 25, cuts=find_cuts(found), settings=QUICK)
    return list(judge(found, fitter.run(), SIZE).reason)


def test_recorded_failures_are_seen_and_listed() -> None:
    found = read_recorded()
    reasons = verdict_of(found)
    assert reasons == EXPECTED
    assert CUT_AFTER in np.flatnonzero(find_cuts(found))
    listed = stretches(found.number, tuple(reasons), 1)
    assert [(run["from"], run["to"], run["why"]) for run in listed] == [
        (20 + 3 * place, 21 + 3 * place, REASONS[name])
        for place, name in enumerate(("no_face", "two_faces", "profile", "blur", "hand", "covered"))
    ]


@pytest.mark.skipif(tracker_python() is None, reason="the tracker's environment is not there")
def test_the_real_detector_on_real_pictures_gives_the_same_reasons() -> None:
    pictures, expected, cut = failing_clip()
    assert (expected, cut) == (EXPECTED, CUT_AFTER)
    python = tracker_python()
    assert python is not None
    found = detect(pictures, python)
    assert verdict_of(found) == expected
    kept = read_recorded()  # else: python -m tests.recorded
    np.testing.assert_allclose(found.landmarks, kept.landmarks, atol=3.0)
    assert (np.abs(found.hand - kept.hand) <= 3).all()


def test_colours_tell_what_is_before_a_face_but_not_light_or_lips() -> None:
    rng = np.random.default_rng(0)
    colours = np.tile(rng.integers(60, 200, (1, 100, 3)), (20, 1, 1)).astype(np.float64)
    colours += rng.normal(0, 3, colours.shape)
    colours[3] *= 0.6  # a shadow over all
    colours[::2, :10] *= 0.5  # lips that open and close
    colours[7, 40:70] = 25  # a phone
    good = np.ones(20, np.bool_)
    good[9] = False
    share = covered_share(np.clip(colours, 0, 255).astype(np.uint8), good)
    assert share[7] > 0.25
    assert (np.delete(share, 7) < COVERED_SHARE).all()
    assert share[9] == 0
    assert not covered_share(np.zeros((3, 4, 3), np.uint8), np.ones(3, np.bool_)).any()  # too few to judge


def test_points_of_a_hand_inside_of_a_face() -> None:
    square = np.array([[0.0, 0], [10, 0], [10, 10], [0, 10]])
    points = np.array([[5.0, 5], [-1, 5], [11, 5], [5, -1], [9, 9.5]])
    assert inside(square, points).tolist() == [True, False, False, False, True]
    assert not inside(square[:0], points).any()
