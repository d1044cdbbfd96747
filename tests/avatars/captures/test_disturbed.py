"""Recordings made worse on purpose: only what training sees changes, and by as much as was asked."""

from __future__ import annotations

import numpy as np

from avatars.captures.disturbed import disturbed
from avatars.captures.opening import open_capture


def test_noise_is_on_training_frames_body_joints_alone() -> None:
    capture = open_capture("demo_body")
    found = disturbed(capture, noise_deg=2)
    away = np.rad2deg(found.motion.rotations - capture.motion.rotations)
    train = np.isin(np.arange(len(away)), capture.training_frames())
    assert not away[~train].any()
    assert not (found.motion.translations - capture.motion.translations)[~train].any()
    fingers = [row for row, name in enumerate(capture.joint_names) if "index" in name or "eye" in name]
    assert not away[:, fingers].any()
    assert abs(away[train][:, capture.joint_names.index("left_knee")].std() - 2) < 0.6


def test_gains_are_of_training_pictures_alone_and_never_above_white() -> None:
    capture = open_capture("demo_body")
    found = disturbed(capture, gain_spread=0.2)
    index, held = capture.split("train")[0], capture.split("val")[0]
    assert np.array_equal(found.rgba(held), capture.rgba(held))
    before, after = capture.rgba(index).astype(float), found.rgba(index).astype(float)
    assert (after[..., :3] <= after[..., 3:]).all()
    assert np.array_equal(after[..., 3], before[..., 3])
    middle = (before[..., 3] == 255) & (before[..., :3].max(-1) < 200) & (before[..., :3].min(-1) > 20)
    shares = (after[..., :3] / np.maximum(before[..., :3], 1))[middle]
    assert np.ptp(np.median(shares, 0)) > 0.01
    assert np.abs(np.median(shares, 0) - 1).max() < 0.21
