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
                    low, high, left, right = before[x0, y], before[x1, y], before[x, y0], before[x, y1]
                    own, held = before[x, y], fixed[x, y]
                    for z in range(1, last):  # no branch inside, so that it runs in vectors
                        mean = (low[z] + high[z] + left[z] + right[z] + own[z - 1] + own[z + 1]) / np.float32(6)
                        now[x, y, z] = own[z] if held[z] else mean
                    if not held[0]:
                        now[x, y, 0] = (low[0] + high[0] + left[0] + right[0] + own[0] + own[1]) / np.float32(6)
                    if not held[last]:
                        ends = own[last - 1] + own[last]
                        now[x, y, last] = (low[last] + high[last] + left[last] + right[last] + ends) / np.float32(6)
