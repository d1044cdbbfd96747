"""The fit of a clip: its parts against plain references, the whole against exact landmarks of known truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from avatars.captures.opening import open_capture
from avatars.templates.opening import embedded_template, reference_of
from avatars.tracking.calibrating import TrueView, true_view
from avatars.tracking.chain import solve_chain
from avatars.tracking.correspondences import embedded_correspondences, landmark_file, read_correspondences
from avatars.tracking.first_pose import first_poses
from avatars.tracking.fitting import ClipFit, ClipFitter, FitSettings
from avatars.tracking.landmark_model import FrameState, LandmarkModel
from avatars.tracking.tracked_capture import template_shape, tracked_motion
from shared.errors import BadCapture, BadTemplate
from shared.template import joint_transforms, rest, rotation_matrices, skin

UPRIGHT = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # a camera that sees a head from the front
CENTRE_PX = (256.0, 250.0)
EXACT = FitSettings(keyframes=12, personal_rounds=0, frame_rounds=5, independent_share=1.0)
EVERY = 24


@pytest.fixture(scope="module")
def exact_model() -> LandmarkModel:
    where, _ = embedded_correspondences()
    return LandmarkModel(embedded_template("body"), replace(where, spread_m=np.full(478, 4e-4)), identity_modes=24)


@pytest.fixture(scope="module")
def truth() -> list[TrueView]:
    capture = open_capture("talking_head")
    return [true_view(capture, embedded_template("body"), index) for index in range(0, 600, EVERY)]


@pytest.fixture(scope="module")
def landmarks(exact_model: LandmarkModel, truth: list[TrueView]) -> np.ndarray:
    where = exact_model.where
    points = np.stack([(view.vertices[where.vertices] * where.weights[..., None]).sum(1) for view in truth])
    return truth[0].focal_px * points[..., :2] / points[..., 2:] + truth[0].centre_px


@pytest.fixture(scope="module")
def fit(exact_model: LandmarkModel, truth: list[TrueView], landmarks: np.ndarray) -> ClipFit:
    seen = landmarks.copy()
    seen[5] = np.nan
    times = np.arange(len(seen)) * EVERY / 25
    return ClipFitter(exact_model, seen, tuple(truth[0].centre_px), truth[0].focal_px, times, settings=EXACT).run()


def random_state(model: LandmarkModel, frames: int, seed: int = 0) -> FrameState:
    rng = np.random.default_rng(seed)
    return FrameState(
        rotation_matrices(rng.normal(size=(frames, 3)) * 0.2) @ UPRIGHT,
        np.array([0.0, 0.05, 1.0]) + rng.normal(size=(frames, 3)) * 0.05,
        rng.normal(size=(frames, 6)) * 0.3,
        rng.uniform(0, 0.6, (frames, len(model.expression_names))),
    )


def test_derivatives_are_those_of_finite_differences() -> None:
    where, response = embedded_correspondences()
    model = LandmarkModel(embedded_template("body"), where, identity_modes=5)
    state, identity = random_state(model, 2), np.random.default_rng(1).normal(size=5)
    found = model.linearised(state, identity, 900.0, CENTRE_PX, shared=True)
    np.testing.assert_allclose(found.pixels, model.project(state, identity, 900.0, CENTRE_PX)[0])
    step = np.random.default_rng(2).normal(size=(2, model.frame_size)) * 1e-6
    ahead, behind = (model.project(state.moved(s), identity, 900.0, CENTRE_PX)[0] for s in (step, -step))
    np.testing.assert_allclose(np.einsum("fnju,fu->fnj", found.of_frame, step), (ahead - behind) / 2, rtol=0, atol=1e-8)
    assert found.of_shared is not None
    more = np.random.default_rng(3).normal(size=6) * 1e-6
    values = [
        model.project(state, identity + sign * more[:5], 900.0 * np.exp(sign * more[5]), CENTRE_PX)[0]
        for sign in (1, -1)
    ]
    np.testing.assert_allclose(found.of_shared @ more, (values[0] - values[1]) / 2, rtol=0, atol=1e-8)
    offsets = model.of_offsets(state, identity, 900.0)
    model.offsets = model.offsets + [1e-6, 2e-6, -1e-6]
    moved = model.project(state, identity, 900.0, CENTRE_PX)[0]
    np.testing.assert_allclose(offsets @ [1e-6, 2e-6, -1e-6], moved - found.pixels, rtol=0, atol=1e-7)
    # a measured response bends the jaw's and the actions' derivatives too; the view's terms count as constant
    assert response is not None
    bent = LandmarkModel(
        embedded_template("body"), where, identity_modes=5, response=replace(response, view=0 * response.view)
    )
    found = bent.linearised(state, identity, 900.0, CENTRE_PX, shared=False)
    ahead, behind = (bent.project(state.moved(s), identity, 900.0, CENTRE_PX)[0] for s in (step, -step))
    np.testing.assert_allclose(np.einsum("fnju,fu->fnj", found.of_frame, step), (ahead - behind) / 2, rtol=0, atol=1e-8)


def test_chain_is_the_dense_solve() -> None:
    rng = np.random.default_rng(4)
    frames, size = 5, 3
    blocks = np.stack([np.eye(size) * 9 + (a := rng.normal(size=(size, size))) @ a.T for _ in range(frames)])
    right, ties = rng.normal(size=(frames, size)), rng.uniform(0, 2, (frames - 1, size))
    ties[2] = 0  # a cut
    dense = np.zeros((frames * size, frames * size))
    for frame in range(frames):
        here = slice(frame * size, (frame + 1) * size)
        dense[here, here] = blocks[frame]
        if frame < frames - 1:
            after = slice((frame + 1) * size, (frame + 2) * size)
            dense[here, after] = dense[after, here] = -np.diag(ties[frame])
    np.testing.assert_allclose(
        solve_chain(blocks, right, ties).ravel(), np.linalg.solve(dense, right.ravel()), rtol=1e-10
    )
    np.testing.assert_allclose(solve_chain(blocks[:1], right[:1], ties[:0])[0], np.linalg.solve(blocks[0], right[0]))


def test_first_poses_of_exact_points() -> None:
    rng = np.random.default_rng(5)
    points = rng.normal(size=(40, 3)) * 0.06
    rotation = rotation_matrices(rng.normal(size=(3, 3)) * 0.4) @ UPRIGHT
    place = np.array([[0.0, 0, 0.9], [0.1, -0.05, 1.2], [-0.1, 0.1, 0.7]])
    seen = points @ rotation.transpose(0, 2, 1) + place[:, None]
    pixels = 800 * seen[..., :2] / seen[..., 2:] + CENTRE_PX
    turned, there = first_poses(points, pixels, 800.0, CENTRE_PX, np.ones(40))
    np.testing.assert_allclose(turned, rotation, atol=2e-3)
    np.testing.assert_allclose(there, place, atol=3e-3)


def test_exact_landmarks_give_the_truth(fit: ClipFit, exact_model: LandmarkModel, truth: list[TrueView]) -> None:
    seen = np.arange(len(truth)) != 5
    rotation = np.stack([view.rotation for view in truth])[seen]
    angle = np.degrees(
        np.arccos(np.clip((np.trace(apart(fit.state.rotation[seen], rotation), axis1=1, axis2=2) - 1) / 2, -1, 1))
    )
    assert angle.mean() < 0.3  # apart from one constant tilt of the head
    jaw = np.array([view.jaw for view in truth])
    assert np.degrees(np.abs(fit.state.turns[:, 0] - jaw))[seen].mean() < 1.0
    expressions = np.stack([view.expressions for view in truth])[seen]
    rows = [
        row
        for row, name in enumerate(exact_model.expression_names)
        if expressions[:, row].std() > 0.05 and name != "tongueOut"
    ]
    r = [np.corrcoef(fit.state.weights[seen][:, row], expressions[:, row])[0, 1] for row in rows]
    assert len(rows) > 25
    assert np.mean(r) > 0.93
    assert np.nanmedian(fit.residual_m) < 5e-4
    assert np.isnan(fit.residual_m[5])
    assert np.isfinite(fit.state.rotation[5]).all()  # what lies between its neighbours


def apart(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Rotations between two sequences, without their mean."""
    between = found.transpose(0, 2, 1) @ true
    left, _, right = np.linalg.svd(between.mean(0))
    return (left @ right).T @ between


def test_fit_is_written_as_poses_of_the_bust(fit: ClipFit, exact_model: LandmarkModel, landmarks: np.ndarray) -> None:
    body, bust = embedded_template("body"), embedded_template("bust")
    reference = reference_of(body.template_id, shape=template_shape(exact_model, fit))
    rows = np.array([0, 3, 8, 20])
    motion = tracked_motion(fit, rows, bust, reference)
    camera_from_world = np.linalg.inv(motion.world_from_camera)
    expected = exact_model.project(
        replace(fit.state.at(rows), weights=np.clip(fit.state.at(rows).weights, 0, 1)),
        fit.identity,
        fit.focal_px,
        CENTRE_PX,
    )[0]
    for row in range(len(rows)):
        full = np.zeros((len(body.joint_names), 3))
        full[[body.joint(name) for name in bust.joint_names]] = motion.rotations[row]
        vertices, joints = rest(body, shape=reference.shape, expression=motion.expressions[row])
        # the whole template hangs on its pelvis, the bust on its chest; both rest where they are
        skinning = joint_transforms(full, joints, body.parents, motion.translations[row])[0]
        posed = skin(vertices, body.weights, skinning)
        where = exact_model.where
        points = (posed[where.vertices] * where.weights[..., None]).sum(1)
        seen = points @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
        pixels = fit.focal_px * seen[:, :2] / seen[:, 2:] + CENTRE_PX
        # neck weights at the jaw's edge are the only part that the fit does not turn
        assert np.median(np.linalg.norm(pixels - expected[row], axis=1)) < 0.2


def test_nobody_to_fit(exact_model: LandmarkModel) -> None:
    with pytest.raises(BadCapture, match="No picture shows a face"):
        ClipFitter(exact_model, np.full((3, 478, 2), np.nan), CENTRE_PX, 900.0, np.arange(3.0))


def test_one_picture_alone_and_nonsense_stay_finite(exact_model: LandmarkModel, landmarks: np.ndarray) -> None:
    alone = ClipFitter(exact_model, landmarks[:1], (256, 256), 1408.0, np.zeros(1), settings=EXACT).run()
    assert alone.residual_m[0] < 1e-3
    noise = np.random.default_rng(6).uniform(0, 512, (4, 478, 2))
    short = replace(EXACT, keyframe_rounds=2, frame_rounds=2)
    found = ClipFitter(exact_model, noise, (256, 256), 1408.0, np.arange(4) / 25, settings=short).run()
    assert np.isfinite(found.state.rotation).all()
    assert np.nanmin(found.residual_m) > 0.004  # and is seen to be no face


def test_landmark_file_round_trip_and_damage(tmp_path) -> None:  # type: ignore[no-untyped-def]
    where, response = embedded_correspondences()
    path = tmp_path / "landmarks.npz"
    path.write_bytes(landmark_file(where, response))
    again, other = read_correspondences(path)
    np.testing.assert_array_equal(again.vertices, where.vertices)
    assert response is not None
    assert other is not None
    np.testing.assert_allclose(other.expressions, response.expressions)
    assert "mediapipe 0.10.21" in str(again.provenance["detector"])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(BadTemplate, match=r"landmarks\.npz"):
        read_correspondences(path)
    with pytest.raises(BadTemplate, match="another version"):
        LandmarkModel(embedded_template("body"), replace(where, digest="0" * 64))
