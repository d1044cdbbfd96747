"""What is told of a track: nothing is wrong with the truth, and known errors are found as large as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from avatars.captures.capture import Capture
from avatars.captures.opening import open_capture
from avatars.templates.opening import embedded_template
from avatars.tracking.calibrating import FAR_M, best_triangle, covariance, mirrored, predicted, regressed, true_view
from avatars.tracking.correspondences import embedded_correspondences
from avatars.tracking.measuring import measure_track
from shared.rotations import axis_angles_from_matrices
from shared.template import rotation_matrices
from shared.types import Motion

PICTURES = tuple(range(0, 600, 60))


def exact_landmarks(capture: Capture) -> dict[int, np.ndarray]:
    where, _ = embedded_correspondences()
    found = {}
    for index in PICTURES:
        view = true_view(capture, embedded_template("body"), index)
        points = (view.vertices[where.vertices] * where.weights[..., None]).sum(1)
        found[index] = (view.focal_px * points[:, :2] / points[:, 2:] + view.centre_px).astype(np.float32)
    return found


@pytest.fixture(scope="module")
def capture() -> Capture:
    return open_capture("talking_head")


def test_errors_are_found_as_large_as_they_are(capture: Capture) -> None:
    where, _ = embedded_correspondences()
    landmarks = exact_landmarks(capture)
    pairs = [(index, index) for index in PICTURES]
    same = measure_track(capture, capture, pairs, landmarks, where)
    for name in ("rotation_deg", "jaw_deg", "face_mm", "landmarks_px", "gaze_deg"):
        assert same[name] == pytest.approx(0, abs=1e-2), name
    assert same["mask_iou"] == 1
    assert same["expression_r"] == pytest.approx(1, abs=1e-3)
    # the head turned by 3 degrees about its own axis in every picture, the jaw by 2 more, landmarks 4 px beside
    turned = np.array(capture.motion.rotations)
    head, jaw = (capture.joint_names.index(name) for name in ("head", "jaw"))
    more = rotation_matrices([0, 0, np.radians(3)])
    turned[:, head] = axis_angles_from_matrices(rotation_matrices(turned[:, head]) @ more)
    turned[:, jaw, 0] += np.radians(2)
    motion = Motion(turned, capture.motion.translations, capture.motion.expressions, 25.0)
    beside = {index: points + np.float32([4, 0]) for index, points in landmarks.items()}
    worse = measure_track(replace(capture, motion=motion), capture, pairs, beside, where)
    assert worse["rotation_deg"] == pytest.approx(3, abs=0.01)
    assert worse["rotation_less_constant_deg"] == pytest.approx(0, abs=0.01)
    assert worse["jaw_deg"] == pytest.approx(2, abs=0.01)
    assert worse["landmarks_px"] == pytest.approx(4, abs=0.01)
    assert 0.1 < worse["face_mm"] < 3
    assert worse["expression_r"] == pytest.approx(1, abs=1e-3)


def test_a_landmark_is_found_in_its_triangle() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(20, 6, 2)) * 0.02  # six vertices in twenty pictures, m
    triangles = np.array([[0, 1, 2], [2, 3, 4], [3, 4, 5]])
    weights = np.array([0.2, 0.5, 0.3])
    seen = np.einsum("fvc,v->fc", flat[:, [2, 3, 4]], weights) + rng.normal(size=(20, 2)) * 1e-5
    seen[3] += 0.02  # one picture went astray
    chosen, found, spread = best_triangle(triangles, flat, np.ones((20, 6)), seen)
    assert chosen.tolist() == [2, 3, 4]
    np.testing.assert_allclose(found, weights, atol=2e-3)
    assert 0 < spread < 0.005
    unseen = best_triangle(triangles, flat, np.zeros((20, 6)), seen)
    assert unseen[2] == FAR_M  # no picture shows any: the widest spread, so it hardly counts


def test_a_response_that_was_put_in_comes_back() -> None:
    rng = np.random.default_rng(1)
    terms = np.concatenate((np.ones((120, 1)), rng.normal(size=(120, 3)), np.zeros((120, 1))), 1)
    planes = rotation_matrices(rng.normal(size=(120, 3)) * 0.4)[:, :2]
    true = rng.normal(size=(4, 5, 3)) * 1e-3
    true[:, 4] = 0
    error = predicted(true, terms, planes)
    found = regressed(terms, planes, error)
    np.testing.assert_allclose(found, true, atol=4e-4)  # ridge shrinks it a little
    assert np.corrcoef(found.ravel(), true.ravel())[0, 1] > 0.995
    own, modes = covariance(rng.normal(size=(300, 4, 2)) * [1e-3, 2e-3])
    whole = np.diag(own) + modes @ modes.T
    np.testing.assert_allclose(np.sqrt(np.diag(whole)), np.tile([1e-3, 2e-3], 4), rtol=0.15)


def test_a_mirrored_view_is_what_the_mirrored_picture_shows(capture: Capture) -> None:
    body = embedded_template("body")
    view = true_view(capture, body, 100)
    other = mirrored(view, body)
    left, right = (np.flatnonzero(body.weights[:, body.joint(f"{side}_eye")] > 0.5) for side in ("left", "right"))
    np.testing.assert_allclose(other.vertices[left].mean(0), view.vertices[right].mean(0) * [-1, 1, 1], atol=1e-3)
    names = body.expression_names
    for name, twin in (("mouthSmileLeft", "mouthSmileRight"), ("jawOpen", "jawOpen")):
        assert other.expressions[names.index(name)] == view.expressions[names.index(twin)]
    assert np.linalg.det(other.rotation) == pytest.approx(1)
    np.testing.assert_allclose(mirrored(other, body).rotation, view.rotation)
