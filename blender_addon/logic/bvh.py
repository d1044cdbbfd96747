"""Looks through a BVH file before Blender's importer, which trusts it, makes bones and keys of it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from .._shared import errors

MAX_BYTES = 256 << 20
MOST_JOINTS, MOST_DEPTH, MOST_FRAMES, MOST_CHANNELS = 2000, 200, 200_000, 6
_CHANNEL = re.compile(r"[XYZxyz](position|rotation)")


def bvh_fps(path: Path) -> float:
    """Frames a second of a BVH file that holds what its header says. Raises BadCapture."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise errors.BadCapture(f"{path.name} is too large", expected=f"at most {MAX_BYTES} bytes")
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise errors.BadCapture(f"{path} cannot be read", found=error.strerror or str(error)) from error
    mark = re.search(r"^\s*MOTION\s*$", text, re.MULTILINE)
    try:
        if mark is None:
            raise ValueError("no MOTION")
        return _fps(text[mark.end() :], _channels(text[: mark.start()].split()))
    except (ValueError, IndexError) as error:
        raise errors.BadCapture(
            f"{path.name} is no intact BVH file",
            found=str(error)[:120],
            expected="a HIERARCHY, then MOTION with a line 'Frame Time: 0.0333' and a row of numbers for each frame",
        ) from error


def _channels(words: list[str]) -> int:
    """Channels of all joints of a hierarchy. Raises ValueError, IndexError."""
    if words[:2] != ["HIERARCHY", "ROOT"]:
        raise ValueError("no HIERARCHY with a ROOT")
    at, joints, channels, depth = 1, 0, 0, 0
    while at < len(words):
        word = words[at]
        if word in ("ROOT", "JOINT", "End"):
            joints += word != "End"
            brace = next((place for place in range(at + 1, min(at + 20, len(words))) if words[place] == "{"), 0)
            if not brace or joints > MOST_JOINTS or depth >= MOST_DEPTH:
                raise ValueError(f"joint {joints} is not opened, or there are too many")
            at, depth = brace + 1, depth + 1
        elif word == "OFFSET":
            if not np.isfinite([float(one) for one in words[at + 1 : at + 4]]).all() or at + 3 >= len(words):
                raise ValueError("an OFFSET that is not finite")
            at += 4
        elif word == "CHANNELS":
            count = int(words[at + 1])
            names = words[at + 2 : at + 2 + count]
            if not 0 <= count <= MOST_CHANNELS or len(names) != count or not all(map(_CHANNEL.fullmatch, names)):
                raise ValueError("CHANNELS that are none")
            channels, at = channels + count, at + 2 + count
        elif word == "}" and depth:
            at, depth = at + 1, depth - 1
        else:
            raise ValueError(f"{word[:40]!r} in the hierarchy")
    if depth:
        raise ValueError("a joint that is not closed")
    return channels


def _fps(motion: str, channels: int) -> float:
    match = re.match(r"\s*Frames:\s*(\d{1,9})\s+Frame\s+Time:\s*([0-9.eE+-]{1,40})\s", motion)
    if match is None:
        raise ValueError("no 'Frames:' and 'Frame Time:'")
    frames, seconds = int(match[1]), float(match[2])
    if not (1e-4 <= seconds <= 10 and 0 < frames <= MOST_FRAMES):
        raise ValueError(f"{frames} frames of {seconds:g} s")
    numbers = np.array(motion[match.end() :].split(), np.float64)
    if numbers.size != frames * channels or not np.isfinite(numbers).all():
        raise ValueError(f"{numbers.size} numbers for {frames} frames of {channels} channels")
    return 1.0 / seconds
