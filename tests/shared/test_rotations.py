"""Codings of rotations: there and back, at no turn, half a turn, and over time."""

from __future__ import annotations

import numpy as np

from shared import rotations, template


def test_axis_angles_come_back_also_at_no_turn_and_half_a_turn() -> None:
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(200, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    angles = np.concatenate([rng.uniform(0, np.pi - 1e-3, 190), [0, 1e-12, 1e-7, 1e-4, 0, 0, 0, 0, 0, 0]])
    vectors = axes * angles[:, None]
    np.testing.assert_allclose(
        rotations.axis_angles_from_matrices(template.rotation_matrices(vectors)), vectors, atol=1e-9
    )
    for half_turn in np.pi * np.eye(3):  # either sign of the axis is the same turn
        back = rotations.axis_angles_from_matrices(template.rotation_matrices(half_turn))
        np.testing.assert_allclose(np.abs(back), half_turn, atol=1e-7)


def test_quaternions_are_the_same_turns_and_stay_on_one_side() -> None:
    rng = np.random.default_rng(1)
    matrices = template.rotation_matrices(rng.normal(0, 2, (50, 3, 3)))
    quaternions = rotations.quaternions_from_matrices(matrices)
    np.testing.assert_allclose(rotations.matrices_from_quaternions(3.0 * quaternions), matrices, atol=1e-12)
    turns = np.linspace(0, 12, 60)[:, None, None] * np.array([[[0.0, 0.0, 1.0], [0.6, 0.8, 0.0]]])
    steady = rotations.continuous(rotations.quaternions_from_matrices(template.rotation_matrices(turns)))
    assert ((steady[1:] * steady[:-1]).sum(-1) > 0).all()
    np.testing.assert_allclose(
        rotations.matrices_from_quaternions(steady), template.rotation_matrices(turns), atol=1e-12
    )
    assert rotations.continuous(np.zeros((0, 4))).shape == (0, 4)
