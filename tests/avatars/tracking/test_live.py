"""A face followed frame by frame: against known motion, and where nothing sensible comes in."""

from __future__ import annotations

import numpy as np
import pytest

from avatars.templates.opening import embedded_template, reference_of
from avatars.tracking.correspondences import embedded_correspondences
from avatars.tracking.landmark_model import FrameState, LandmarkModel
from avatars.tracking.live import LiveFitter, LivePose, LiveSettings
from avatars.tracking.live_measuring import head_turn
from avatars.tracking.measuring import angles_deg
from avatars.tracking.smoothing import OneEuro
from shared.performance import needed_frames, on_frames, softened
from shared.template import rotation_matrices

FPS, CALM, MOVING, SIZE_PX, FOCAL_PX = 12.5, 12, 24, (640, 480), 700.0
UPRIGHT = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
QUICK = LiveSettings(start_s=0.8, start_frames=8)


@pytest.fixture(scope="module")
def model() -> LandmarkModel:
    where, response = embedded_correspondences()
    return LandmarkModel(embedded_template("body"), where, identity_modes=0, response=response)


def state_at(model: LandmarkModel, frame: int) -> FrameState:
    moving = max(0, frame - CALM)
    names = model.expression_names
    weights = np.zeros((1, len(names)))
    weights[0, names.index("mouthSmileLeft")] = weights[0, names.index("mouthSmileRight")] = min(1.0, moving / 12)
    turns = np.zeros((1, 6))
    turns[0, 0] = 0.1 * (1 - np.cos(moving / 4))
    turn = rotation_matrices(np.array([[0.0, 0, 0.35 * np.sin(moving / 8)]]))
    return FrameState(UPRIGHT @ turn, np.array([[0.002 * moving, 0.03, 0.75]]), turns, weights)


@pytest.fixture(scope="module")
def landmarks(model: LandmarkModel) -> np.ndarray:
    centre = (SIZE_PX[0] / 2, SIZE_PX[1] / 2)
    return np.stack(
        [model.project(state_at(model, k), np.zeros(0), FOCAL_PX, centre)[0][0] for k in range(CALM + MOVING)]
    )


def fitter_of(model: LandmarkModel) -> LiveFitter:
    reference = reference_of("effigy_human")
    return LiveFitter(model, embedded_template("bust"), reference, SIZE_PX, FOCAL_PX, QUICK)


def followed(fitter: LiveFitter, landmarks: np.ndarray) -> list[LivePose | None]:
    return [fitter.add(points, frame / FPS) for frame, points in enumerate(landmarks)]


@pytest.fixture(scope="module")
def clean(model: LandmarkModel, landmarks: np.ndarray) -> list[LivePose | None]:
    return followed(fitter_of(model), landmarks)


def test_known_motion_is_followed(model: LandmarkModel, landmarks: np.ndarray, clean: list[LivePose | None]) -> None:
    bust = embedded_template("bust")
    assert clean[:11] == [None] * 11  # the calm look: 0.8 s at 12.5 pictures a second
    errors, jaws, smiles = [], [], []
    for frame in range(CALM, CALM + MOVING):
        pose, true = clean[frame], state_at(model, frame)
        assert pose is not None
        seen = pose.world_from_camera[:3, :3].T @ head_turn(pose.pose, bust)
        errors.append(angles_deg(seen.T @ true.rotation[0]))
        jaws.append((pose.pose.rotations[bust.joint("jaw"), 0], true.turns[0, 0]))
        row = bust.expression_names.index("mouthSmileLeft")
        smiles.append((pose.pose.expression[row], true.weights[0, row]))
        assert pose.residual_m < 0.002
    assert np.mean(errors) < 2.0  # of turns up to 20 degrees, a frame's lag of the smoothing included
    assert np.corrcoef(np.array(jaws).T)[0, 1] > 0.95
    assert np.corrcoef(np.array(smiles).T)[0, 1] > 0.95
    last = clean[-1]
    assert last is not None
    moved = last.pose.translation - clean[CALM].pose.translation  # type: ignore[union-attr]
    assert moved[0] == pytest.approx(0.002 * (MOVING - 1), abs=0.008)


def test_what_is_no_face_gives_no_pose_and_it_goes_on(model: LandmarkModel, landmarks: np.ndarray) -> None:
    fitter = fitter_of(model)
    assert fitter.start_share == 0
    assert followed(fitter, landmarks[:CALM])[-1] is not None
    assert fitter.started
    nothing = fitter.dropped["start"]
    time_s = CALM / FPS
    assert fitter.add(None, time_s) is None
    assert fitter.add(np.full((478, 2), np.nan), time_s + 0.01) is None
    assert fitter.add(landmarks[CALM] - 300, time_s + 0.02) is None
    assert fitter.add(landmarks[CALM], time_s + 0.03, second=0.9) is None
    scrambled = landmarks[CALM][np.random.default_rng(0).permutation(478)]
    assert fitter.add(scrambled, time_s + 0.04) is None
    assert fitter.dropped == {"start": nothing, "no_face": 2, "beside": 1, "two_faces": 1, "misfit": 1}
    back = fitter.add(landmarks[CALM], time_s + 5.0)  # after being away: from a first guess
    assert back is not None
    jumped = fitter.add(landmarks[CALM] + (150, 0), time_s + 5.08)
    assert jumped is not None
    assert abs(jumped.pose.translation[0] - back.pose.translation[0]) > 0.1  # at once, nothing was smoothed
    same = fitter.add(landmarks[CALM] + (150, 0), time_s + 5.08)  # a clock that stands still
    assert same is not None
    assert np.isfinite(same.pose.translation).all()


def test_a_bad_start_is_looked_at_again(model: LandmarkModel, landmarks: np.ndarray) -> None:
    fitter = fitter_of(model)
    scrambled = landmarks[0][np.random.default_rng(0).permutation(478)]
    followed(fitter, np.stack([scrambled] * 12))
    assert not fitter.started
    assert fitter.dropped["misfit"] + fitter.dropped["profile"] >= 8
    for frame in range(12):
        fitter.add(landmarks[0], 100 + frame / FPS)
    assert fitter.started


def test_one_euro_holds_still_and_follows() -> None:
    filter_ = OneEuro(np.full(1, 1.0), np.full(1, 10.0))
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.001, 200)
    still = np.array([filter_.smoothed(np.array([value]), k / 25)[0] for k, value in enumerate(noise)])
    assert still[20:].std() < 0.6 * noise[20:].std()
    ramp = [filter_.smoothed(np.array([k * 0.1]), 8 + k / 25)[0] for k in range(50)]
    assert abs(ramp[-1] - 4.9) < 0.1  # one frame behind at most
    filter_.forget()
    assert filter_.smoothed(np.array([7.0]), 20.0)[0] == 7.0
    assert filter_.smoothed(np.array([8.0]), 20.0)[0] == 8.0


def test_a_performance_is_put_on_frames() -> None:
    times = [0.0, 0.1, 0.3, 2.0]
    values = np.array([[0.0], [1.0], [3.0], [9.0]])
    found = on_frames(times, values, 10.0)
    np.testing.assert_allclose(found[:4, 0], [0, 1, 2, 3])
    np.testing.assert_allclose(found[4:-1, 0], 3)  # nothing came: held
    assert found[-1, 0] == 9
    assert len(found) == 21
    assert on_frames([1.0], [[4.0]], 25).tolist() == [[4.0]]
    assert on_frames([], np.zeros((0, 2)), 25).shape == (0, 2)
    np.testing.assert_allclose(softened(np.full((5, 2), 3.0), 2.0), 3.0)
    bump = softened(np.eye(9)[4][:, None], 1.0)[:, 0]
    assert bump.sum() == pytest.approx(1.0, abs=1e-3)
    assert bump.argmax() == 4
    line = np.concatenate((np.linspace(0, 1, 6), np.linspace(0.8, 0, 5)))[:, None]
    assert needed_frames(line, 0.01).tolist() == [0, 5, 10]
    assert len(needed_frames(line, 0)) == 11
