"""What a person's mask says of a template without hair and clothes: it has to lie inside.

Hair, collars and clothes make the mask larger than the template, so a mask that goes on beyond the template says
nothing. A template that sticks out of the mask is wrong wherever it does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avatars.tracking.photometric import Floats

Array = NDArray[np.float64]
FAR_PX = 24.0
"""A point farther outside counts as a hole of the mask and is left alone."""


def outside_distance(mask: NDArray[np.uint8]) -> Floats:
    """[H, W] px to the nearest pixel of a mask [H, W] that is more than half full, 0 within; all 0 where none is."""
    from scipy.ndimage import distance_transform_edt

    inside = mask > 127
    if not inside.any():
        return np.zeros(mask.shape, np.float32)
    found: Floats = distance_transform_edt(~inside).astype(np.float32)
    return found


def inside_equations(
    derivative: Array, away: Floats, slope: Floats, slack_px: float, weight: float
) -> tuple[Array, Array]:
    """J^T W J [U, U] and J^T W e [U] that pull points into a mask.

    derivative: [N, 2, U] px; away: [N] px, of `outside_distance` at the points; slope: [N, 2] of it; slack_px: how far
    outside is no error; weight: per px^2.
    """
    beyond = away.astype(np.float64) - slack_px
    chosen = np.flatnonzero((beyond > 0) & (away < FAR_PX))
    rows = (slope[chosen, None].astype(np.float64) @ derivative[chosen])[:, 0]
    return weight * rows.T @ rows, -weight * rows.T @ beyond[chosen]
