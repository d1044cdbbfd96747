"""FLAME's axes into ours, rotations between their codings, and readings of camera numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from avatars.captures.flame_axes import (
    MODEL_FROM_FLAME,
    matrices_from_six,
    rigid,
    rotations_to_model,
    to_flame,
    to_model,
)
from avatars.captures.reading import (
    EFFIGY_READING,
    INSTA_READING,
    NERSEMBLE_READING,
    Reading,
    camera_from_flame,
    candidates,
    intrinsic_candidates,
    intrinsics,
    intrinsics_in_file,
    matrix_in_file,
)
from shared.rotations import axis_angles_from_matrices
from shared.template import rotation_matrices


def test_up_and_forward_go_where_they_should() -> None:
    np.testing.assert_array_equal(to_model((0, 1, 0)), (0, 0, 1))
    np.testing.assert_array_equal(to_model((0, 0, 1)), (0, -1, 0))
    assert np.linalg.det(MODEL_FROM_FLAME) == 1
    points = np.random.default_rng(0).normal(size=(7, 3))
    np.testing.assert_allclose(to_flame(to_model(points)), points)


def test_an_axis_angle_vector_turns_like_its_matrix() -> None:
    vectors = np.random.default_rng(1).normal(size=(9, 3))
    np.testing.assert_allclose(
        rotation_matrices(to_model(vectors)), rotations_to_model(rotation_matrices(vectors)), atol=1e-12
    )


def test_axis_angles_are_scipys_near_zero_and_near_a_half_turn() -> None:
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(200, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors *= rng.choice((0.0, 1e-9, 1e-4, 0.5, 2.0, np.pi - 1e-6, np.pi), 200)[:, None]
    matrices = Rotation.from_rotvec(vectors).as_matrix()
    np.testing.assert_allclose(rotation_matrices(axis_angles_from_matrices(matrices)), matrices, atol=1e-9)
    short = np.linalg.norm(vectors, axis=1) < 3
    np.testing.assert_allclose(axis_angles_from_matrices(matrices)[short], vectors[short], atol=1e-9)
    assert axis_angles_from_matrices(np.eye(3)).tolist() == [0, 0, 0]


def test_six_numbers_are_rows_and_survive_noise() -> None:
    matrices = Rotation.random(20, random_state=3).as_matrix()
    six = matrices[:, :2].reshape(-1, 6)
    np.testing.assert_allclose(matrices_from_six(six), matrices, atol=1e-12)
    scaled = six * np.repeat((3.0, 0.2), 3)  # any length, and the second vector leaning onto the first
    scaled[:, 3:] += 0.3 * scaled[:, :3]
    np.testing.assert_allclose(matrices_from_six(scaled), matrices, atol=1e-12)
    assert not np.isfinite(matrices_from_six(np.zeros(6))).all()


@pytest.mark.parametrize("reading", [*candidates(INSTA_READING)], ids=Reading.sentence)
def test_every_reading_of_a_matrix_is_undone(reading: Reading) -> None:
    camera = rigid(Rotation.random(random_state=5).as_matrix(), (0.1, -0.2, 0.9))
    np.testing.assert_allclose(camera_from_flame(matrix_in_file(camera, reading), reading), camera, atol=1e-12)


def test_readings_differ_and_begin_with_the_files_own() -> None:
    for own in (INSTA_READING, NERSEMBLE_READING, EFFIGY_READING):
        tried = candidates(own)
        assert tried[0] == own
        assert len(set(tried)) == len(tried) == 8
        assert [one.intrinsics for one in intrinsic_candidates(own)] == ["as_is", "transposed", "half_pixel", "swapped"]
    flame_point = np.array((0.0, 0.1, 0.2, 1.0))
    opengl = rigid(np.eye(3), (0.0, 0.0, 1.0))  # camera at z = 1 looking along -z with y up: it looks at the face
    seen = camera_from_flame(opengl, NERSEMBLE_READING) @ flame_point
    np.testing.assert_allclose(seen[:3], (0.0, -0.1, 0.8))


def test_k_is_read_in_four_ways() -> None:
    K = np.array([[500.0, 0, 250], [0, 480, 200], [0, 0, 1]])
    for kind in ("as_is", "transposed", "half_pixel", "swapped"):
        reading = Reading(intrinsics=kind)
        np.testing.assert_array_equal(intrinsics(intrinsics_in_file(K, reading), reading), K)
    assert intrinsics(K, Reading(intrinsics="half_pixel"))[0, 2] == 250.5
    swapped = intrinsics(K, Reading(intrinsics="swapped"))
    assert swapped.tolist() == [[480, 0, 200], [0, 500, 250], [0, 0, 1]]
    assert intrinsics(K.T, Reading(intrinsics="transposed")).tolist() == K.tolist()
