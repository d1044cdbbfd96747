"""How far the template's joints go, and where they rest: plain human ranges, in the template's T-pose axes.

Angles are components of axis-angle vectors about x (bend), y (side) and z (turn) in degrees for the left side; the
right side is the mirror image: its y and z change sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Triple = tuple[float, float, float]
FREE: Triple = (1e6, 1e6, 1e6)
LIMITS: dict[str, tuple[Triple, Triple, Triple, Triple]] = {
    # joint: rest, spread, low, high
    "spine1": ((0, 0, 0), (14, 10, 10), (-30, -30, -35), (45, 30, 35)),
    "spine2": ((0, 0, 0), (12, 10, 10), (-30, -30, -35), (45, 30, 35)),
    "spine3": ((0, 0, 0), (10, 10, 10), (-25, -30, -35), (40, 30, 35)),
    "neck": ((0, 0, 0), (14, 10, 18), (-45, -35, -60), (45, 35, 60)),
    "head": ((0, 0, 0), (14, 10, 18), (-45, -35, -60), (45, 35, 60)),
    "collar": ((0, 2, 0), (5, 9, 7), (-20, -30, -30), (20, 25, 30)),
    "shoulder": ((0, 45, 0), (45, 45, 40), (-150, -110, -130), (90, 95, 110)),
    "elbow": ((0, 0, -30), (12, 14, 50), (-60, -50, -155), (60, 50, 4)),
    "wrist": ((0, 0, 0), (30, 25, 18), (-85, -80, -45), (85, 80, 45)),
    "hip": ((-12, -2, 0), (40, 16, 18), (-140, -55, -55), (45, 35, 55)),
    "knee": ((18, 0, 0), (50, 4, 6), (-2, -12, -20), (160, 12, 20)),
    "ankle": ((0, 2, 0), (18, 8, 10), (-45, -30, -35), (55, 30, 35)),
    "foot": ((0, 0, 0), (8, 2, 2), (-45, -5, -5), (30, 5, 5)),
    "thumb": ((0, 0, 0), (14, 14, 14), (-60, -60, -60), (60, 60, 60)),
    "finger": ((0, 18, 0), (7, 30, 9), (-25, -20, -28), (25, 110, 28)),
}


@dataclass(frozen=True, eq=False)
class JointLimits:
    """rest, spread, low, high: [J, 3] rad."""

    rest: Array
    spread: Array
    low: Array
    high: Array


def limits_of(names: Sequence[str]) -> JointLimits:
    """Of a skeleton's joints by name; a joint that `LIMITS` does not know goes anywhere and is pulled nowhere."""
    rest, spread, low, high = (np.zeros((len(names), 3)) for _ in range(4))
    for row, name in enumerate(names):
        part = name.removeprefix("left_").removeprefix("right_")
        if part.rstrip("123") in ("index", "middle", "ring", "pinky"):
            part = "finger"
        elif part.startswith("thumb"):
            part = "thumb"
        values = LIMITS.get(part, ((0, 0, 0), FREE, (-1e6, -1e6, -1e6), FREE))
        rest[row], spread[row], low[row], high[row] = np.radians(np.array(values, np.float64))
        if name.startswith("right_"):
            rest[row, 1:] *= -1
            low[row, 1:], high[row, 1:] = -high[row, 1:].copy(), -low[row, 1:].copy()
    return JointLimits(rest, spread, low, high)
