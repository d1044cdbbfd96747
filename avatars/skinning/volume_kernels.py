"""The compiled sweeps behind `harmonic_volume`."""

from __future__ import annotations

from typing import Any

import numpy as np

from avatars.rendering.jit import kernel


@kernel
def relax(worker: int, workers: int, values: Any, fixed: Any, sweeps: int) -> None:
    """Jacobi: every voxel of values [J, N, N, N] that is not `fixed` becomes the mean of its six neighbours, in place.

    Outside the cube the border repeats. Each worker has its own joints.
    """
    size = fixed.shape[0]
    last = size - 1
    before = np.empty((size, size, size), np.float32)
    for joint in range(worker, values.shape[0], workers):
        now = values[joint]
        for _ in range(sweeps):
            before[:] = now
            for x in range(size):
                x0, x1 = max(x - 1, 0), min(x + 1, last)
                for y in range(size):
                    y0, y1 = max(y - 1, 0), min(y + 1, last)
                    for z in range(size):
                        if not fixed[x, y, z]:
                            z0, z1 = max(z - 1, 0), min(z + 1, last)
                            now[x, y, z] = (
                                before[x0, y, z]
                                + before[x1, y, z]
                                + before[x, y0, z]
                                + before[x, y1, z]
                                + before[x, y, z0]
                                + before[x, y, z1]
                            ) / np.float32(6)
