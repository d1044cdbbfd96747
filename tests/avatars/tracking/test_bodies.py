"""The skeleton's derivatives, the fit on exact and on recorded detections, limits, judging, and the table's making."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avatars.captures.opening import open_capture
from avatars.templates.opening import embedded_template
from avatars.tracking.body_calibrating import calibrate_bodies, mirrored_body, true_body
from avatars.tracking.body_capture import choose_body_crop, up_rotation
from avatars.tracking.body_detections import BodyDetections
from avatars.tracking.body_fitting import BodyFit, BodyFitSettings, BodyFitter
from avatars.tracking.body_judging import before_body_fit, body_cuts, judge_body
from avatars.tracking.body_landmarks import (
    BODY,
    MAIN_JOINTS,
    POINTS,
    BodyLandmarks,
    body_landmark_file,
    embedded_body_landmarks,
    mirrored_points,
    point_owners,
    ray_rotations,
    read_body_landmarks,
)
from avatars.tracking.body_limits import limits_of
from avatars.tracking.body_measuring import similar_mm
from avatars.tracking.body_model import BodyModel, BodyState
from avatars.tracking.measuring import angles_deg
from shared.errors import BadCapture, BadTemplate
from shared.template import rotation_matrices
from tests.recorded import read_recorded_bodies, turning_pictures

SIZE_PX, FOCAL_PX, CENTRE_PX = (512, 512), 625.8, (256.0, 256.0)
QUICK = BodyFitSettings(shape_rounds=6, frame_rounds=3)


def posed_state(frames: int, seed: int = 0, spread: float = 0.25) -> BodyState:
    """A person three metres away who turns, limbs anywhere near their rest."""
    body = embedded_template("body")
    rng = np.random.default_rng(seed)
    limits = limits_of(body.joint_names)
    vectors = limits.rest + spread * rng.normal(size=(frames, len(body.joint_names), 3)) * np.minimum(
        limits.spread, 0.5
    )
    vectors = np.clip(vectors, limits.low, limits.high)
    vectors[:, [body.joint(name) for name in ("jaw", "left_eye", "right_eye")]] = 0
    rotations = rotation_matrices(vectors)
    upright = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    turns = np.stack([np.zeros(frames), np.zeros(frames), np.linspace(0, 2, frames)], 1)
    rotations[:, 0] = upright @ rotation_matrices(turns)
    return BodyState(np.tile([0.05, -0.1, 3.2], (frames, 1)), rotations)


def plain_landmarks() -> BodyLandmarks:
    """A detector that knows the main joints: its places in space are theirs."""
    where = embedded_body_landmarks()
    straight = np.zeros((3 * BODY + 1, 3 * MAIN_JOINTS))
    straight[: 3 * MAIN_JOINTS] = np.eye(3 * MAIN_JOINTS)
    return replace(where, from_world=straight)


def exact_detections(model: BodyModel, state: BodyState, shape: np.ndarray) -> BodyDetections:
    """What such a detector says of a state."""
    posed = model.posed(state, shape)
    frames = len(state)
    points = np.ones((frames, POINTS, 3))
    points[..., :2] = FOCAL_PX * posed.points[..., :2] / posed.points[..., 2:] + CENTRE_PX
    rays = ray_rotations(points[:, 23:25, :2].mean(1), FOCAL_PX, CENTRE_PX)
    world = np.zeros((frames, POINTS, 3))
    world[:, :MAIN_JOINTS] = (posed.joints[:, :MAIN_JOINTS] - posed.joints[:, :1]) @ rays
    world[:, BODY:] = (posed.points[:, BODY:] - posed.points[:, 33:34]) @ rays
    return BodyDetections(
        np.arange(frames),
        points.astype(np.float32),
        world.astype(np.float32),
        np.zeros(frames, np.float32),
        np.full(frames, 0.5, np.float32),
        np.full((frames, 16, 16), 100, np.uint8),
    )


def test_derivatives_of_points_and_joints_are_right() -> None:
    model = BodyModel(embedded_template("body"), embedded_body_landmarks(), shape_modes=3)
    state, shape = posed_state(2, seed=3), np.array([0.3, -0.5, 0.2])
    posed = model.posed(state, shape, derivatives=True)
    assert posed.of_points is not None
    assert posed.of_joints is not None
    rng, tiny = np.random.default_rng(1), 1e-6
    for _ in range(3):
        step, change = rng.normal(size=(2, model.frame_size)), rng.normal(size=3)
        moved = model.posed(model.moved(state, tiny * step), shape + tiny * change)
        every = np.concatenate((step, np.tile(change, (2, 1))), 1)[:, None, :, None]
        np.testing.assert_allclose((moved.points - posed.points) / tiny, (posed.of_points @ every)[..., 0], atol=2e-4)
        joints = (moved.joints - posed.joints)[:, :MAIN_JOINTS] / tiny
        np.testing.assert_allclose(joints, (posed.of_joints @ every)[..., 0], atol=2e-4)


def test_exact_detections_give_the_truth_and_unseen_frames_are_bridged() -> None:
    model = BodyModel(embedded_template("body"), plain_landmarks(), shape_modes=3)
    state, shape = posed_state(8, spread=0.1), np.array([0.5, -0.4, 0.3])
    state = BodyState(state.place, state.rotations[[0] * 8])
    state.rotations[:, 0] = posed_state(8).rotations[:, 0]
    found = exact_detections(model, state, shape)
    used = np.ones(8, np.bool_)
    used[4] = False
    found.points[4], found.world[4] = np.nan, np.nan
    settings = replace(QUICK, shape_rounds=10, alike=0.05, smooth=0.2)
    fit = BodyFitter(model, found, used, CENTRE_PX, FOCAL_PX, np.arange(8) / 5, settings=settings).run()
    ours, theirs = model.posed(fit.state, fit.shape), model.posed(state, shape)
    apart = np.linalg.norm(ours.joints - theirs.joints, axis=2)[used, :MAIN_JOINTS]
    assert apart.mean() < 0.02
    turns = angles_deg(ours.frames.transpose(0, 1, 3, 2) @ theirs.frames)[:, :MAIN_JOINTS]
    assert turns[used].mean() < 5
    assert turns[4].mean() < 15
    assert np.isnan(fit.residual_m[4])
    assert np.nanmax(fit.residual_m) < 0.01


def test_recorded_detections_of_a_turning_man_give_his_joints() -> None:
    capture, images = turning_pictures()
    found, body = read_recorded_bodies(), embedded_template("body")
    model = BodyModel(body, embedded_body_landmarks())
    used = np.array([not reason for reason in before_body_fit(found, SIZE_PX)])
    assert used.all()
    tall = replace(QUICK, height_m=1.963)
    fits = [
        BodyFitter(model, found, used, CENTRE_PX, FOCAL_PX, np.arange(len(found)) * 0.6, settings=settings).run()
        for settings in (QUICK, tall)
    ]
    exact = [true_body(capture, body, index) for index in images]
    theirs = np.stack([one.joints[:MAIN_JOINTS] for one in exact])
    apart = []
    for fit in fits:
        ours = model.posed(fit.state, fit.shape)
        apart.append(
            np.linalg.norm((ours.joints - ours.joints[:, :1])[:, :MAIN_JOINTS] - theirs + theirs[:, :1], axis=2)
        )
        frames = np.stack([one.frames for one in exact])
        turns = angles_deg(ours.frames.transpose(0, 1, 3, 2) @ frames)[:, :MAIN_JOINTS]
        assert turns.mean() < 16
        assert turns[:, 0].mean() < 16  # the pelvis: the whole turn is followed
        assert np.mean([similar_mm(a, b) for a, b in zip(ours.joints[:, :22], theirs, strict=True)]) < 48
    assert apart[1].mean() < apart[0].mean() < 0.075  # a known height helps
    assert model.height(fits[1].shape)[0] == pytest.approx(1.963, abs=0.02)
    verdict = judge_body(found, fits[0], SIZE_PX)
    assert len(verdict.kept) == len(found)
    assert np.ptp(verdict.yaw_deg) > 250


def test_knees_do_not_bend_forwards() -> None:
    body = embedded_template("body")
    limits = limits_of(body.joint_names)
    left, right = body.joint("left_elbow"), body.joint("right_elbow")
    np.testing.assert_allclose(limits.rest[left], limits.rest[right] * [1, -1, -1])
    np.testing.assert_allclose(limits.low[left, 1:], -limits.high[right, 1:])
    model = BodyModel(body, plain_landmarks(), shape_modes=1)
    state = posed_state(2, spread=0.0)
    bent = state.rotations.copy()
    bent[:, body.joint("left_knee")] = rotation_matrices([-0.7, 0, 0])
    found = exact_detections(model, BodyState(state.place, bent), np.zeros(1))
    fit = BodyFitter(model, found, np.ones(2, np.bool_), CENTRE_PX, FOCAL_PX, np.arange(2.0), settings=QUICK).run()
    knee = fit.state.rotations[:, body.joint("left_knee")]
    assert (np.arcsin(np.clip(knee[:, 2, 1], -1, 1)) > -0.35).all()


def test_failures_of_bodies_are_named() -> None:
    found = read_recorded_bodies()
    points, sharp = found.points.copy(), found.sharpness.copy()
    points[1] = np.nan
    points[2, :, 1] += 120  # the feet leave the picture
    points[3, :33, 2] = 0.2
    sharp[4] *= 0.1
    second = found.second.copy()
    assert not second.any()
    second[[7, 9, 12, 13]] = 0.9, 1.2, 0.3, 0.7  # the detector misses the one in 8, and far behind in 12 is nobody's
    changed = replace(found, points=points, sharpness=sharp, second=second)
    reasons = before_body_fit(changed, SIZE_PX)
    assert reasons[:6] == ("", "no_body", "cut_off", "unsure", "blur", "")
    assert [row for row, reason in enumerate(reasons) if reason == "two_bodies"] == [7, 8, 9, 13]
    count = len(found)
    residual = np.full(count, 0.009)
    residual[6] = 0.2
    state = BodyState(np.tile([0, 0, 3.0], (count, 1)), np.tile(np.eye(3), (count, 55, 1, 1)))
    verdict = judge_body(found, BodyFit(state, np.zeros(1), FOCAL_PX, residual), SIZE_PX)
    assert verdict.reason[6] == "not_a_pose"
    assert len(verdict.kept) == count - 1
    assert not body_cuts(found).any()
    found.thumbnail[9:] = 255 - found.thumbnail[9:]
    assert body_cuts(found)[8]
    model = BodyModel(embedded_template("body"), embedded_body_landmarks())
    with pytest.raises(BadCapture, match="whole person"):
        BodyFitter(model, found, np.zeros(count, np.bool_), CENTRE_PX, FOCAL_PX, np.arange(count))


def test_the_table_is_measured_and_its_file_read(tmp_path: Path) -> None:
    capture, images = turning_pictures()
    body, found = embedded_template("body"), read_recorded_bodies()
    exact = [true_body(capture, body, index) for index in images]
    made = calibrate_bodies(exact, found, [0] * len(exact), body, {"people": 1})
    flip = np.array([-1, 1, 1])
    mirror = mirrored_points()
    np.testing.assert_allclose(made.offsets[mirror] * flip, made.offsets, atol=2e-3)  # left as right
    assert (mirror[mirror] == np.arange(POINTS)).all()
    again = mirrored_body(mirrored_body(exact[0], body), body)
    np.testing.assert_allclose(again.joints, exact[0].joints)
    np.testing.assert_allclose(again.frames, exact[0].frames)
    assert len(point_owners()) == POINTS
    assert np.linalg.norm(made.offsets[point_owners().index("left_knee")]) < 0.1
    path = tmp_path / "table.npz"
    path.write_bytes(body_landmark_file(made))
    np.testing.assert_allclose(read_body_landmarks(path).offsets, made.offsets, atol=1e-6)
    path.write_bytes(b"nonsense")
    with pytest.raises(BadTemplate, match="table"):
        read_body_landmarks(path)
    assert embedded_body_landmarks().digest == body.digest


def test_the_crop_holds_the_body_and_backs_point_up() -> None:
    found = read_recorded_bodies()
    crop = choose_body_crop(found, np.arange(len(found)), SIZE_PX, 256)
    assert 250 <= max(crop.stored_size) <= 256
    assert crop.height_px > crop.side_px * 0.9
    low, high = found.points[:, :33, :2].min((0, 1)), found.points[:, :33, :2].max((0, 1))
    assert (low >= [crop.left, crop.top]).all()
    assert (high <= [crop.left + crop.side_px, crop.top + crop.height_px]).all()
    upright = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    tilted = rotation_matrices([0.2, 0, 0]) @ upright
    turned = tilted @ rotation_matrices(np.stack([np.zeros(9), np.zeros(9), np.linspace(0, 5, 9)], 1))
    world = up_rotation(turned, np.tile(np.eye(3), (9, 1, 1)))
    np.testing.assert_allclose(world @ tilted[:, 2], [0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(world @ world.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(world) > 0


def test_detections_are_kept_in_files(tmp_path: Path) -> None:
    found = read_recorded_bodies()
    found.write(tmp_path / "00000.npz")
    again = BodyDetections.read(tmp_path / "00000.npz")
    np.testing.assert_array_equal(again.points, found.points)
    nobody = BodyDetections.of_picture(3, np.zeros((64, 64, 3), np.uint8), None, None, {})
    assert not nobody.seen.any()
    (tmp_path / "00000.npz").write_bytes(b"")
    with pytest.raises(BadCapture):
        BodyDetections.read(tmp_path / "00000.npz")
    assert open_capture("demo_relight").kind == "body"
