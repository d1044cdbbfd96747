"""The performances a capture can be made of, by name."""

from __future__ import annotations

from .._shared import errors, template
from .motion import Performance, talking_head
from .motion_body import everyday
from .motion_calibration import calibration
from .motion_turn import turning
from .motion_wide import wide_performance

PERFORMANCES = {
    "talking_head": "speech, smiles, brows, blinks and mild head turns; the same story whatever the frame rate",
    "wide": "everything a face and a neck can do, at natural speed: 24 s, then again",
    "calibration": "independent faces, one in each picture: for measuring landmark detectors",
    "everyday": "for the whole body: walking, arms, squats, twists, leans, lunges and bows",
    "turning": "for the whole body: two turns in an A-pose, then held-out poses of the everyday ones",
}


def perform(
    name: str, bust: template.TemplateArrays, frames: int, seed: int, fps: float, held_out: int = 0
) -> Performance:
    """Performance `name` at `frames` instants, of which "turning" holds so many out. Raises BadConfig for another."""
    if name not in PERFORMANCES:
        raise errors.BadConfig(
            f"there is no performance {name!r}{errors.nearest(name, PERFORMANCES)}", expected=", ".join(PERFORMANCES)
        )
    if name == "everyday":
        return everyday(bust, frames, seed)
    if name == "turning":
        return turning(bust, frames, held_out)
    if name == "calibration":
        return calibration(bust, frames, seed)
    return wide_performance(bust, frames, fps, seed) if name == "wide" else talking_head(bust, frames, seed)
