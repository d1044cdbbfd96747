"""A recording made worse on purpose: what tracking and cameras do to real ones, to measure what mends it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.captures.capture import Capture
from shared.types import Motion

SHIFT_M_PER_DEG = 0.0025
FINE = ("index", "middle", "ring", "pinky", "thumb", "eye", "jaw")
"""Joints whose names hold one of these keep their pose."""


@dataclass(frozen=True, eq=False)
class GainedCapture(Capture):
    """A capture whose training pictures were taken with uneven cameras. gains [cameras, 3] multiply their colours."""

    gains: NDArray[np.float64] | None = None

    def rgba(self, index: int, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """As `Capture.rgba`."""
        found = super().rgba(index, size)
        image = self.images[index]
        if self.gains is None or image.split != "train":
            return found
        changed = found.astype(np.float64)
        changed[..., :3] = np.minimum(changed[..., :3] * self.gains[image.camera], changed[..., 3:])
        return (changed + 0.5).astype(np.uint8)


def disturbed(capture: Capture, *, noise_deg: float = 0.0, gain_spread: float = 0.0, seed: int = 0) -> Capture:
    """The same with noise on training frames' body joints (standard deviation, deg; 2.5 mm of place for each degree).

    gain_spread: each camera's red, green and blue are multiplied by something between 1 - spread and 1 + spread, in
    training pictures alone. Pictures kept back and the frames of held-out poses stay what they are.
    """
    rng, found = np.random.default_rng(seed), capture
    if noise_deg > 0:
        motion, frames = capture.motion, list(capture.training_frames())
        turned, moved = np.array(motion.rotations), np.array(motion.translations)
        body = [row for row, name in enumerate(capture.joint_names) if not any(part in name for part in FINE)]
        spread = np.deg2rad(noise_deg)
        turned[np.ix_(frames, body)] += rng.normal(0, spread, (len(frames), len(body), 3))
        moved[frames] += rng.normal(0, SHIFT_M_PER_DEG * noise_deg, (len(frames), 3))
        noisy = Motion(turned.astype(np.float32), moved.astype(np.float32), motion.expressions, motion.fps)
        found = replace(found, motion=noisy)
    if gain_spread > 0:
        gains = rng.uniform(1 - gain_spread, 1 + gain_spread, (len(capture.cameras), 3))
        parts: dict[str, Any] = {entry.name: getattr(found, entry.name) for entry in fields(Capture)}
        found = GainedCapture(**parts, gains=gains)
    return found
