"""A performance that came in live, put onto the frames of a scene: plain functions of numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

GAP_S = 0.5
"""Where nothing came for longer than this, the last value is held instead of gliding to the next."""


def on_frames(times_s: Sequence[float], values: ArrayLike, fps: float, gap_s: float = GAP_S) -> NDArray[np.float64]:
    """[F, ...] at every frame of `fps` from the first to the last of times_s [T], which rise, of values [T, ...].

    Values between two times are mixed by their distance; rotation vectors of joints are near enough for that.
    """
    times, found = np.asarray(times_s, np.float64), np.asarray(values, np.float64)
    if not len(times):
        return found
    wanted = times[0] + np.arange(int(np.floor((times[-1] - times[0]) * fps + 1e-6)) + 1) / fps
    after = np.clip(np.searchsorted(times, wanted, side="right"), 1, max(len(times) - 1, 1))
    if len(times) == 1:
        return found
    before = after - 1
    span = times[after] - times[before]
    share = np.clip((wanted - times[before]) / np.maximum(span, 1e-9), 0, 1)
    share = np.where(span > gap_s, (share >= 1).astype(np.float64), share)
    share = share.reshape(-1, *(1,) * (found.ndim - 1))
    mixed: NDArray[np.float64] = found[before] * (1 - share) + found[after] * share
    return mixed


def softened(values: ArrayLike, frames: float) -> NDArray[np.float64]:
    """[F, ...] smoothed along the first axis by a Gaussian of `frames` standard deviation; 0 leaves them."""
    found = np.asarray(values, np.float64)
    if frames <= 0 or len(found) < 2:
        return found
    reach = int(np.ceil(3 * frames))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / frames) ** 2)
    weights /= weights.sum()
    ends = [(reach, reach)] + [(0, 0)] * (found.ndim - 1)
    padded = np.pad(found, ends, mode="edge")
    return sum((weight * padded[at : at + len(found)] for at, weight in enumerate(weights)), np.zeros_like(found))


def needed_frames(values: ArrayLike, tolerance: float) -> NDArray[np.int64]:
    """Rows of [F, D] values that lines between them suffice for, everything being within `tolerance` (Ramer, Douglas
    and Peucker, along time). The first and the last always; all of them for a tolerance of 0 or less."""
    found = np.asarray(values, np.float64)
    if tolerance <= 0 or len(found) < 3:
        return np.arange(len(found))
    kept, open_spans = {0, len(found) - 1}, [(0, len(found) - 1)]
    while open_spans:
        first, last = open_spans.pop()
        if last - first < 2:
            continue
        share = (np.arange(first + 1, last) - first)[:, None] / (last - first)
        line = found[first] * (1 - share) + found[last] * share
        apart = np.abs(found[first + 1 : last] - line).max(1)
        worst = int(apart.argmax())
        if apart[worst] > tolerance:
            middle = first + 1 + worst
            kept.add(middle)
            open_spans += [(first, middle), (middle, last)]
    return np.array(sorted(kept), np.int64)
