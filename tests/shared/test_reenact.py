"""The pure rules of reenactment: relative, held to training, sized by focal length, smoothed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from shared.errors import BadCapture, EffigyError
from shared.reenact import DrivingStatistics, matched_places, neutral_of, one_euro, transferred

SIZE = 6


def statistics(rows: int = 2, reach: float = 2.0, residual: float = 0.5) -> DrivingStatistics:
    """θ of six numbers whose first `rows` are the principal directions; sigma 0.1, limits ± 0.3 around 1."""
    mean = np.ones(SIZE, np.float32)
    return DrivingStatistics(
        neutral=mean,
        mean=mean,
        sigma=np.full(SIZE, 0.1, np.float32),
        low=mean - 0.3,
        high=mean + 0.3,
        components=np.eye(SIZE, dtype=np.float32)[:rows],
        component_low=np.full(rows, -reach, np.float32),
        component_high=np.full(rows, reach, np.float32),
        residual=residual,
    )


def test_in_range_the_own_motion_is_unchanged_to_the_bit() -> None:
    random = np.random.default_rng(0)
    theta = (1 + 0.015 * random.uniform(-1, 1, (40, SIZE))).astype(np.float32)
    found = transferred(theta, np.ones(SIZE), statistics())
    assert (found == theta).all()


def test_strength_scales_what_differs_from_neutral() -> None:
    theta = np.ones((1, SIZE)) + 0.04
    theirs = np.full(SIZE, 0.99)
    found = transferred(theta, theirs, statistics(rows=0), strength=2.0)
    assert np.allclose(found, 1 + 2 * 0.05)
    assert np.allclose(transferred(theta, theirs, statistics(rows=0), strength=0.0), 1.0)


def test_what_is_out_of_range_is_held() -> None:
    theta = np.full((1, SIZE), 9.0)
    plain = statistics(rows=0)
    assert np.allclose(transferred(theta, np.ones(SIZE), plain), 1.3)
    assert np.allclose(transferred(theta, np.ones(SIZE), plain, clip=2.0), 1.6)
    assert np.allclose(transferred(theta, np.ones(SIZE), plain, clip=0.0), 9.0)


def test_along_principal_directions_the_percentiles_hold() -> None:
    theta = np.ones((1, SIZE))
    theta[0, 0] = 1.29  # inside its own limits, beyond two spreads along the direction
    found = transferred(theta, np.ones(SIZE), statistics())
    assert found[0, 0] == pytest.approx(1.2)
    assert np.allclose(found[0, 1:], 1.0)


def test_away_from_the_principal_directions_only_so_far_as_training() -> None:
    components = np.zeros((1, SIZE), np.float32)
    components[0, 1:] = 1 / np.sqrt(SIZE - 1)
    one = dataclasses.replace(
        statistics(), components=components, component_low=np.full(1, -9.0), component_high=np.full(1, 9.0)
    )
    theta = np.ones((1, SIZE))
    theta[0, 4:] = 1.2, 0.8  # 2.8 spreads away from the span, where training went half of one
    found = transferred(theta, np.ones(SIZE), one)
    assert np.allclose(found[0], (1, 1, 1, 1, 1 + 0.05 / np.sqrt(2), 1 - 0.05 / np.sqrt(2)), atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused_with_their_frame(bad: float) -> None:
    theta = np.ones((5, SIZE))
    theta[3, 2] = bad
    for act in (
        lambda: transferred(theta, np.ones(SIZE), statistics()),
        lambda: neutral_of(theta, np.ones(SIZE), range(SIZE)),
        lambda: one_euro(theta, 25.0),
    ):
        with pytest.raises(BadCapture, match="frame 3"):
            act()


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadCapture, match="not the avatar's"):
        transferred(np.ones((2, 4)), np.ones(4), statistics())
    with pytest.raises(BadCapture, match="no frames"):
        neutral_of(np.zeros((0, 3)), np.zeros(3), [0])
    with pytest.raises(BadCapture, match="neutral frame"):
        neutral_of(np.zeros((2, 3)), np.zeros(3), [0], 2)
    with pytest.raises(EffigyError, match="wrong shape"):
        DrivingStatistics(**(vars(statistics()) | {"low": np.zeros(3)}))


def test_neutral_is_calm_in_learned_expressions_and_rest_elsewhere() -> None:
    """Twenty frames of a face whose learned expressions (two numbers) rest at 0.1; the third is always turned."""
    theta = np.full((20, 3), 0.1)
    theta[:, 2] = 0.7
    theta[5:, 0] = np.linspace(1, 2, 15)
    resting = np.array((0.0, 0.0, 0.2))
    assert np.allclose(neutral_of(theta, resting, [0, 1]), (0.1, 0.1, 0.2))
    assert np.allclose(neutral_of(theta, resting, []), resting)
    assert np.allclose(neutral_of(theta, resting, [0, 1], 19), theta[19])


def test_numbers_outside_the_face_are_held_by_themselves() -> None:
    """A head turned far beyond training does not calm the face down."""
    theta = np.ones((1, SIZE)) + 0.04
    theta[0, 5] = 50.0
    held_face = statistics()
    components = held_face.components.copy()
    components[:, 4:] = 0
    found = transferred(theta, np.ones(SIZE), held_face)
    assert np.allclose(found[0, :2], 1.04, atol=1e-6)
    assert found[0, 5] == pytest.approx(1.3)


def lens(focal: float, centre: float = 50.0) -> np.ndarray:
    return np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1.0]])


def test_the_same_camera_leaves_places() -> None:
    places = np.array([[0.1, -0.2, 1.0], [0.0, 0.0, 2.0]])
    assert np.allclose(matched_places(places, lens(500), lens(500)), places, atol=1e-12)


def test_another_focal_length_moves_the_head_and_keeps_its_picture() -> None:
    places = np.array([[0.1, -0.2, 1.0]])
    source, avatar = lens(500, 50), lens(1000, 40)
    found = matched_places(places, source, avatar)
    assert found[0, 2] == pytest.approx(2.0)
    before, after = places @ source.T, found @ avatar.T
    assert np.allclose(before[:, :2] / before[:, 2:], after[:, :2] / after[:, 2:])
    assert 500 * 0.2 / places[0, 2] == pytest.approx(1000 * 0.2 / found[0, 2])  # a head 0.2 m wide
    assert matched_places(places, source, source, head_size=1.5)[0, 2] == pytest.approx(1.5)


def test_a_head_behind_the_camera_is_refused() -> None:
    with pytest.raises(BadCapture, match=r"behind its camera \(found frame 1\)"):
        matched_places(np.array([[0, 0, 1.0], [0, 0, -1.0]]), lens(500), lens(500))


def test_smoothing_calms_noise_and_follows_movement() -> None:
    random = np.random.default_rng(1)
    still = random.normal(0, 0.01, (200, 3))
    calm = one_euro(still, 25.0, min_cutoff_hz=0.5, beta=0.0)
    assert calm[50:].std() < 0.4 * still.std()
    constant = np.full((20, 2), 0.7)
    assert np.allclose(one_euro(constant, 25.0), constant)
    step = np.concatenate((np.zeros((10, 1)), np.ones((30, 1))))
    slow = one_euro(step, 25.0, min_cutoff_hz=0.5, beta=0.0)
    fast = one_euro(step, 25.0, min_cutoff_hz=0.5, beta=2.0)
    assert fast[15] > slow[15]
    assert fast[-1] > 0.95
    with pytest.raises(BadCapture, match="out of range"):
        one_euro(step, 25.0, min_cutoff_hz=0.0)
