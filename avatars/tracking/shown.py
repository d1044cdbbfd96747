"""Which of a face's movements a tracked clip shows, and what it should show besides."""

from __future__ import annotations

from collections.abc import Mapping

SHOWN, GAZE_UP_DOWN_DEG = 0.25, 4.0
"""Less than this, the tracker's damped answers allowed for, and a movement counts as never shown."""
MOVEMENTS: Mapping[str, tuple[str, ...]] = {
    "a smile": ("mouthSmileLeft", "mouthSmileRight"),
    "raised brows": ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    "lowered brows": ("browDownLeft", "browDownRight"),
    "pursed lips": ("mouthPucker", "mouthFunnel"),
    "a mouth drawn down": ("mouthFrownLeft", "mouthFrownRight"),
    "a wrinkled nose": ("noseSneerLeft", "noseSneerRight"),
}


def never_shown(ranges: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """Sentences about movements that a head's pictures lack. ranges: of `captures.coverage.Coverage`; those of another
    template or of a body, which name none of these, give none."""
    lacking = [
        title
        for title, names in MOVEMENTS.items()
        if (known := [ranges[name][1] for name in names if name in ranges]) and max(known) < SHOWN
    ]
    found = [f"the face never shows {', '.join(lacking)}"] if lacking else []
    pitch = ranges.get("gaze_pitch_deg")
    if pitch is not None and pitch[1] - pitch[0] < GAZE_UP_DOWN_DEG:
        found.append("the eyes hardly look up and down")
    return tuple(found)
