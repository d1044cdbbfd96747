"""Lists of frame numbers the way people write them."""

from __future__ import annotations

from collections.abc import Iterable


def ranges(frames: Iterable[int]) -> str:
    """`1-3, 7, 9-12` for a set of frame numbers; an empty text for none."""
    runs: list[list[int]] = []
    for frame in sorted(set(frames)):
        if runs and frame == runs[-1][1] + 1:
            runs[-1][1] = frame
        else:
            runs.append([frame, frame])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def sub_frames(frame: float, samples: int, shutter: float, position: str) -> list[float]:
    """The S instants, in frames, that motion blur averages: the centres of equal parts of the open shutter.

    position: 'START' opens the shutter at the frame, 'CENTER' around it, 'END' closes it there (Blender's names).
    """
    if samples <= 1 or shutter <= 0:
        return [frame]
    begin = {"START": 0.0, "CENTER": -0.5, "END": -1.0}[position]
    return [frame + shutter * (begin + (index + 0.5) / samples) for index in range(samples)]
