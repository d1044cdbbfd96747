"""GetMotion: a capture's or a file's motion as it is, and carried over to an avatar."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shared import messages as m
from shared.client import BackendClient
from shared.errors import BadAvatar, BadCapture, BadConfig, NotFound

TIMEOUT_S = 150.0


def test_a_motion_arrives_as_it_is_or_with_strength_and_within_the_training(
    client: BackendClient, tmp_path: Path
) -> None:
    detail = client.request(m.GetAvatar("tiny"), timeout_s=TIMEOUT_S)
    joints, expressions = detail.rig.joint_names, detail.rig.expression_names
    rotations = np.zeros((4, len(joints), 3), np.float32)
    rotations[:, joints.index("head"), 2] = (0.0, 0.1, 0.2, 0.3)
    faces = np.zeros((4, len(expressions)), np.float32)
    faces[:, 0] = (0.0, 0.2, 0.4, 9.0)
    path = tmp_path / "other.npz"
    np.savez(path, rotations=rotations, translations=np.zeros((4, 3)), expressions=faces, fps=30.0)
    plain = client.request(m.GetMotion("tiny", str(path)), timeout_s=TIMEOUT_S)
    np.testing.assert_array_equal(plain.expressions, faces)
    np.testing.assert_array_equal(plain.rotations, rotations)
    assert plain.joint_names == joints
    assert plain.fps == 30.0
    free = client.request(m.GetMotion("tiny", str(path), True, clip=0.0), timeout_s=TIMEOUT_S)
    half = client.request(m.GetMotion("tiny", str(path), True, strength=0.5, clip=0.0), timeout_s=TIMEOUT_S)
    np.testing.assert_allclose(
        half.expressions - half.expressions[:1], (free.expressions - free.expressions[:1]) / 2, atol=1e-4
    )
    capture = client.request(m.GetMotion("tiny", "demo_head", True), timeout_s=TIMEOUT_S)
    assert len(capture.rotations) == 60
    assert capture.expression_names == expressions


def test_bad_requests_are_told_in_one_sentence(client: BackendClient, tmp_path: Path) -> None:
    with pytest.raises(BadCapture, match="cannot be read"):
        client.request(m.GetMotion("tiny", str(tmp_path / "none.npz")), timeout_s=TIMEOUT_S)
    with pytest.raises(BadConfig, match="strength is out of range"):
        client.request(m.GetMotion("tiny", "demo_head", True, strength=-1.0), timeout_s=TIMEOUT_S)
    with pytest.raises(NotFound):
        client.request(m.GetMotion("nobody", "demo_head"), timeout_s=TIMEOUT_S)
    with pytest.raises((BadAvatar, NotFound)):
        client.request(m.GetMotion("live-1", "demo_head"), timeout_s=TIMEOUT_S)
