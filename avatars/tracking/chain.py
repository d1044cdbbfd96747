"""Least squares over a chain of frames that are tied to their neighbours: one block-tridiagonal solve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def solve_chain(blocks: Array, right: Array, ties: Array) -> Array:
    """x [F, U] of A x = right, where A has `blocks` [F, U, U] on its diagonal and -diag(ties[f]) between f and f + 1.

    blocks: symmetric, positive definite with the ties. ties: [F - 1, U] >= 0, 0 where two frames are not tied. right:
    [F, U]. Block elimination forwards, then back (Thomas' algorithm).
    """
    frames, size = right.shape
    carried = np.zeros((max(frames - 1, 0), size, size))
    solved = np.zeros((frames, size))
    for frame in range(frames):
        block, value = blocks[frame], right[frame]
        if frame:
            tie = ties[frame - 1]
            block = block - tie[:, None] * carried[frame - 1]
            value = value + tie * solved[frame - 1]
        if frame < frames - 1:
            both = np.linalg.solve(block, np.concatenate((np.diag(ties[frame]), value[:, None]), 1))
            carried[frame], solved[frame] = both[:, :size], both[:, size]
        else:
            solved[frame] = np.linalg.solve(block, value)
    for frame in range(frames - 2, -1, -1):
        solved[frame] += carried[frame] @ solved[frame + 1]
    return solved
