"""The performances a capture can be made of, by name."""

from __future__ import annotations

from .._shared import errors, template
from .motion import Performance, talking_head
from .motion_body import everyday
from .motion_wide import wide_performance

PERFORMANCES = {
    "talking_head": "speech, smiles, brows, blinks and mild head turns; the same story whatever the frame rate",
    "wide": "everything a face and a neck can do, at natural speed: 24 s, then again",
    "everyday": "for the whole body: walking, arms, squats, twists, leans, lunges and bows",
}


def perform(name: str, bust: template.TemplateArrays, frames: int, seed: int, fps: float) -> Performance:
    """Performance `name` at `frames` instants. Raises BadConfig for another name."""
    if name not in PERFORMANCES:
        raise errors.BadConfig(
            f"there is no performance {name!r}{errors.nearest(name, PERFORMANCES)}", expected=", ".join(PERFORMANCES)
        )
    if name == "everyday":
        return everyday(bust, frames, seed)
    return wide_performance(bust, frames, fps, seed) if name == "wide" else talking_head(bust, frames, seed)
