"""A followed performance as a motion file of Effigy's, which avatars and Blender take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from avatars.motion_file import write_motion_file
from shared.performance import on_frames
from shared.template import TemplateArrays
from shared.types import Motion, Pose


def recorded_motion(poses: Sequence[tuple[float, Pose]], fps: float) -> Motion:
    """Poses that came at times in s (rising), at every frame of `fps`."""
    times = [time_s for time_s, _ in poses]

    def of(name: str) -> np.ndarray:
        return on_frames(times, np.stack([getattr(pose, name) for _, pose in poses]), fps).astype(np.float32)

    return Motion(of("rotations"), of("translation"), of("expression"), fps)


def write_motion(path: Path, motion: Motion, arrays: TemplateArrays) -> None:
    """Into an .npz (docs/animation.md), whole or not at all; arrays: the template that it is of. Raises
    EnvironmentFailed."""
    write_motion_file(path, motion, arrays.joint_names, arrays.expression_names)
