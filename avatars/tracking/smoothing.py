"""The one-Euro filter: still values are held still, quick ones followed at once (Casiez, Roussel and Vogel 2012)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SPEED_CUTOFF_HZ = 1.0


class OneEuro:
    """Smooths [D] values that come one after the other.

    cutoff_hz: [D], of what does not move. quickness: [D] Hz for each unit a second by which the cutoff rises.
    """

    def __init__(self, cutoff_hz: Array, quickness: Array) -> None:
        self.cutoff_hz, self.quickness = cutoff_hz, quickness
        self._last: tuple[Array, Array, float] | None = None

    def forget(self) -> None:
        """The next values have nothing to do with those before."""
        self._last = None

    def smoothed(self, values: Array, time_s: float) -> Array:
        """What came at time_s [D], smoothed; the first ones, and any not after the last, come back as they are."""
        if self._last is None or time_s <= self._last[2]:
            self._last = values, np.zeros_like(values), time_s
            return values
        before, speed, then_s = self._last
        gap_s = time_s - then_s
        speed = speed + _share(np.full_like(values, SPEED_CUTOFF_HZ), gap_s) * ((values - before) / gap_s - speed)
        found = before + _share(self.cutoff_hz + self.quickness * np.abs(speed), gap_s) * (values - before)
        self._last = found, speed, time_s
        return found


def _share(cutoff_hz: Array, gap_s: float) -> Array:
    """How much of a change goes through a low pass of first order."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff_hz * gap_s))
