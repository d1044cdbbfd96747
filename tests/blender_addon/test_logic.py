"""The plain rules: rotations, frame lists, shutter, performance, addresses."""

from __future__ import annotations

import numpy as np
import pytest

from blender_addon.logic import frames, linear_maps, talking
from blender_addon.logic.settings import is_local
from shared import template

from . import people


def test_scale_and_mirroring_are_taken_out_of_a_rotation() -> None:
    turn = template.rotation_matrices(np.array([[0.3, -0.4, 0.5], [1.0, 0.0, 0.2]]))
    np.testing.assert_allclose(linear_maps.nearest_rotations(turn * [[[2.0]], [[0.1]]]), turn, atol=1e-9)
    np.testing.assert_allclose(linear_maps.nearest_rotations(turn), turn, atol=1e-9)
    mirrored = linear_maps.nearest_rotations(turn[0] @ np.diag([1.0, 1.0, -1.0]))
    assert np.linalg.det(mirrored) == pytest.approx(1)
    assert linear_maps.nearest_rotations(np.empty((0, 3, 3))).shape == (0, 3, 3)


def test_frame_lists_are_short() -> None:
    assert frames.ranges([]) == ""
    assert frames.ranges([9, 1, 2, 3, 7, 3]) == "1-3, 7, 9"


def test_the_shutter_opens_where_blender_says() -> None:
    assert frames.sub_frames(5, 1, 0.5, "CENTER") == [5]
    assert frames.sub_frames(5, 4, 0.0, "CENTER") == [5]
    np.testing.assert_allclose(frames.sub_frames(5, 2, 1.0, "CENTER"), [4.75, 5.25])
    np.testing.assert_allclose(frames.sub_frames(5, 2, 0.5, "START"), [5.125, 5.375])
    np.testing.assert_allclose(frames.sub_frames(5, 2, 0.5, "END"), [4.625, 4.875])


def test_the_performance_talks_blinks_and_stays_in_range() -> None:
    bust = people.bust()
    rest = np.zeros((len(bust.joint_names), 3))
    rest[bust.joint("left_shoulder"), 1] = 0.8
    motion = talking.performance(bust.joint_names, bust.expression_names, rest, 96, 24)
    assert len(motion) == 96
    assert motion.expressions.min() >= 0
    assert motion.expressions.max() <= 1
    jaw = motion.rotations[:, bust.joint("jaw"), 0]
    assert np.ptp(jaw) > 0.1
    assert np.abs(np.diff(motion.rotations, axis=0)).max() < 0.12, "nothing jumps between frames"
    assert motion.expressions[:, bust.expression_names.index("eyeBlinkLeft")].max() > 0.9
    np.testing.assert_allclose(
        motion.rotations[:, bust.joint("left_shoulder")],
        rest[None, bust.joint("left_shoulder")].repeat(96, 0),
        atol=1e-6,
    )
    names = talking.moving_expressions(motion, bust.expression_names)
    assert "mouthFunnel" in names
    assert "tongueOut" not in names
    foreign = talking.performance(("root",), ("smile",), np.zeros((1, 3)), 3, 24)
    assert not foreign.expressions.any()


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("tcp://127.0.0.1:47615", True),
        ("tcp://localhost:1", True),
        ("tcp://[::1]:47615", True),
        ("ipc:///run/effigy", True),
        ("tcp://10.1.2.3:47615", False),
        ("tcp://farm.example:47615", False),
    ],
)
def test_only_a_backend_of_this_machine_is_started(address, local) -> None:
    assert is_local(address) is local
