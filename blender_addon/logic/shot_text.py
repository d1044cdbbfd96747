"""What a render will be, told to the user: frames, size, time, and the command a farm runs."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Sequence

from .frames import ranges


def summary(
    frames: Sequence[int], size_px: tuple[int, int], views: int, layers: int, recent_s: Sequence[float], missing: int
) -> str:
    """Such as `48 frames (1-48) of 1920 x 1080 px, 12 missing, about 40 s`; the time from what the last ones took."""
    count = len(frames)
    parts = [f"{count} {'frame' if count == 1 else 'frames'} ({ranges(frames)}) of {size_px[0]} x {size_px[1]} px"]
    if views > 1:
        parts.append(f"{views} views")
    if layers > 1:
        parts.append(f"{layers} view layers")
    if 0 < missing < count:
        parts.append(f"{missing} missing")
    elif not missing and count:
        parts.append("all there")
    if recent_s and missing:
        parts.append(f"about {_duration(statistics.median(recent_s) * layers * missing)}")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def command(blend: str, frames: Sequence[int], *, windows: bool) -> str:
    """The batch command for a saved file, quoted for the shell of the system Blender runs on."""
    words = [
        "blender",
        "-b",
        blend,
        "--command",
        "effigy_render",
        "--frames",
        ranges(frames).replace(" ", ""),
        "--missing",
    ]
    if windows:
        return " ".join(f'"{word}"' if " " in word else word for word in words)
    return shlex.join(words)
