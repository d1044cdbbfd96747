"""What a curve says in a few numbers: a line a + b·x, and the power of x it grows by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Growth:
    """fixed + slope·x with the least relative error; power: of x, over all points and over the last two.

    worst: the largest relative error of the line at a point.
    """

    fixed: float
    slope: float
    power: float
    end_power: float
    worst: float

    def at(self, x: float) -> float:
        """The line's value."""
        return self.fixed + self.slope * x


def fitted(x: Sequence[float], y: Sequence[float]) -> Growth | None:
    """Of two points or more with different x, all above 0; None where there are not so many. Neither is below 0."""
    points = sorted((a, b) for a, b in zip(x, y, strict=True) if a > 0 and b > 0 and math.isfinite(a + b))
    if len({a for a, _ in points}) < 2:
        return None
    xs, ys = np.array(points, np.float64).T
    fixed, slope = np.linalg.lstsq(np.stack((1 / ys, xs / ys), 1), np.ones(len(ys)), rcond=None)[0]
    if slope < 0:  # falls with x: no cost of its own
        fixed, slope = _mean(ys), 0.0
    elif fixed < 0:
        fixed, slope = 0.0, float((xs / ys).sum() / ((xs / ys) ** 2).sum())
    worst = float(np.abs((fixed + slope * xs) / ys - 1).max())
    power = float(np.polyfit(np.log(xs), np.log(ys), 1)[0])
    end = math.log(ys[-1] / ys[-2]) / math.log(xs[-1] / xs[-2]) if xs[-1] > xs[-2] else power
    return Growth(float(fixed), float(slope), power, float(end), worst)


def _mean(ys: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """The constant with the least relative error."""
    return float((1 / ys).sum() / (1 / ys**2).sum())


def in_words(found: Growth, unit: str, what: str, per: float, what_per: str) -> str:
    """As people write it: '0.41 ms + 0.012 ms a thousand Gaussians (x^0.6; x^0.9 at the end)'."""
    line = f"{found.fixed:.3g} {unit} + {found.slope * per:.3g} {unit} {what_per}"
    off = f", off by up to {100 * found.worst:.0f} %"
    return f"{line}{off}; grows as {what}^{found.power:.2f}, at the end {what}^{found.end_power:.2f}"
