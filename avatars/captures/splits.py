"""Which pictures of a recording are held out."""

from __future__ import annotations

from shared.errors import BadCapture

SHARE_OF_SHORT = 5
"""A recording too short for the usual number of held-out frames keeps its last fifth back."""


def held_out_end(frames: int, wanted: int) -> tuple[int, str]:
    """How many of `frames` are for training, and a sentence about it: the last `wanted` are held out (method page 3.3).

    A recording with less than twice as many keeps its last fifth back instead. Raises BadCapture below two frames.
    """
    if frames < 2:
        raise BadCapture("a recording needs at least two tracked pictures", found=str(frames))
    if frames >= 2 * wanted:
        return frames - wanted, f"The last {wanted} frames are held out"
    kept_back = max(1, frames // SHARE_OF_SHORT)
    return frames - kept_back, f"The last {kept_back} frames are held out; {frames} are too few to hold out {wanted}"
