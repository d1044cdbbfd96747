"""Poses of a recording as a teacher corrected them, kept with it: what it renders or teaches is in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from avatars.captures.capture import Capture

TURNS, SHIFTS = "poses.turns", "poses.shifts"


@dataclass(frozen=True, eq=False)
class CorrectedPoses:
    """digest: of the recording (`Capture.numbers_digest`). turns: [F, P, 3] rad added to the P `joints` of each frame;
    shifts: [F, 3] m added to its place. 0 where a frame was not trained on."""

    digest: str
    joints: tuple[str, ...]
    turns: NDArray[np.float32]
    shifts: NDArray[np.float32]

    def of(self, capture: Capture) -> Capture:
        """The recording in corrected poses; another one as it is."""
        motion = capture.motion
        if capture.numbers_digest() != self.digest or len(motion) != len(self.turns):
            return capture
        names = capture.template.open().joint_names
        rotations = np.array(motion.rotations, np.float32)
        rotations[:, [names.index(name) for name in self.joints]] += self.turns
        moved = np.asarray(motion.translations, np.float32) + self.shifts
        return replace(capture, motion=replace(motion, rotations=rotations, translations=moved))

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """What is stored beside the weights."""
        return {TURNS: self.turns, SHIFTS: self.shifts}

    @staticmethod
    def stored(digest: str, joints: tuple[str, ...], tensors: Mapping[str, Tensor]) -> CorrectedPoses | None:
        """Inverse of `tensors`; None where nothing was corrected. Raises KeyError, ValueError for what does not fit."""
        if not digest:
            return None
        turns, shifts = tensors[TURNS].float().cpu().numpy(), tensors[SHIFTS].float().cpu().numpy()
        if turns.shape != (len(shifts), len(joints), 3) or shifts.shape != (len(turns), 3):
            raise ValueError("its corrected poses are of different counts")
        if not (np.isfinite(turns).all() and np.isfinite(shifts).all()):
            raise ValueError("its corrected poses are not finite")
        return CorrectedPoses(digest, joints, turns, shifts)
