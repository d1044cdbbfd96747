"""Lists of frame numbers the way people write them, and how a farm deals them out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .._shared import errors

MAX_FRAMES = 1_000_000


def ranges(frames: Iterable[int]) -> str:
    """`1-3, 7, 9-12` for a set of frame numbers; an empty text for none."""
    runs: list[list[int]] = []
    for frame in sorted(set(frames)):
        if runs and frame == runs[-1][1] + 1:
            runs[-1][1] = frame
        else:
            runs.append([frame, frame])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def parsed(text: str) -> list[int]:
    """The frames of `1-3, 7, 10-20x2` (or `1..3`) in order, each once. Raises EffigyError."""
    found: set[int] = set()
    for part in filter(None, re.split(r"[,\s]+", text.strip())):
        match = re.fullmatch(r"(-?\d+)(?:(?:-|\.\.|:)(-?\d+)(?:x(\d+))?)?", part)
        first, last, step = match.groups() if match else ("", "", "")
        stop = int(last or first or 0)
        if not match or stop < int(first) or step == "0" or stop - int(first) >= MAX_FRAMES:
            raise errors.EffigyError(
                "A list of frames cannot be read", found=part, expected="frames and ranges such as 1-48, 60, 100-200x10"
            )
        found.update(range(int(first), stop + 1, int(step or 1)))
    if not found:
        raise errors.EffigyError("A list of frames is empty", expected="frames and ranges such as 1-48, 60")
    return sorted(found)


def chunk(frames: Sequence[int], index: int, count: int) -> list[int]:
    """Part `index` of `count`, from 1, of a list: runs of neighbours, their lengths at most one apart."""
    if not 1 <= index <= count:
        raise errors.EffigyError("There is no such part of the frames", found=f"{index} of {count}")
    return list(frames[len(frames) * (index - 1) // count : len(frames) * index // count])


def sub_frames(frame: float, samples: int, shutter: float, position: str) -> list[float]:
    """The S instants, in frames, that motion blur averages: the centres of equal parts of the open shutter.

    position: 'START' opens the shutter at the frame, 'CENTER' around it, 'END' closes it there (Blender's names).
    """
    if samples <= 1 or shutter <= 0:
        return [frame]
    begin = {"START": 0.0, "CENTER": -0.5, "END": -1.0}[position]
    return [frame + shutter * (begin + (index + 0.5) / samples) for index in range(samples)]
