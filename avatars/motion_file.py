"""A motion as a file of Effigy's (docs/animation.md), which avatars and Blender take."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatars.files import write_atomically
from shared.types import Motion


def write_motion_file(
    path: Path,
    motion: Motion,
    joint_names: Sequence[str],
    expression_names: Sequence[str],
    **more: NDArray[np.floating],
) -> None:
    """Into an .npz, whole or not at all. more: arrays beside the motion's, which its readers pass over. Raises
    EnvironmentFailed."""
    content = io.BytesIO()
    np.savez_compressed(
        content,
        rotations=motion.rotations,
        translations=motion.translations,
        expressions=motion.expressions,
        fps=np.float64(motion.fps),
        joint_names=np.array(joint_names),
        expression_names=np.array(expression_names),
        **more,
    )
    write_atomically(path, content.getvalue())
