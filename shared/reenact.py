"""One person's motion made into another's (method page 11): functions of numpy arrays, so Blender can use them too.

θ is the driving vector of an avatar (expressions, rotations by six numbers, sometimes a translation). What a source
does relative to its own neutral face is done relative to the avatar's, then held to what the avatar did in training,
since a network asked for what it never saw tears the face.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import BadCapture
from .types import Float32, frozen_array

CALM_SHARE = 0.1
LEAST_SPREAD = 0.05
"""Numbers of θ that hardly moved in training count as if they had moved this much."""


@dataclass(frozen=True, eq=False)
class DrivingStatistics:
    """What θ did over an avatar's training.

    neutral, mean, sigma, low, high: [D]; neutral as in `neutral_of`, low and high the 1st and 99th percentile.
    components: [K, D] orthonormal rows, the principal directions of (θ - mean) / spread of the face; component_low,
    component_high: [K] percentiles along them. residual: how far from their span 99 % of training was, in the numbers
    that the components touch. K may be 0: no projection then.
    """

    neutral: Float32
    mean: Float32
    sigma: Float32
    low: Float32
    high: Float32
    components: Float32
    component_low: Float32
    component_high: Float32
    residual: float

    def __post_init__(self) -> None:
        def put(name: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
            array = frozen_array(getattr(self, name), np.float32, shape, f"DrivingStatistics.{name}")
            object.__setattr__(self, name, array)
            return array

        size = len(put("mean", (None,)))
        for name in ("neutral", "sigma", "low", "high"):
            put(name, (size,))
        rows = len(put("components", (None, size)))
        put("component_low", (rows,))
        put("component_high", (rows,))

    @property
    def spread(self) -> Float32:
        """[D], sigma, but at least LEAST_SPREAD."""
        spread: Float32 = np.maximum(self.sigma, np.float32(LEAST_SPREAD))
        return spread


def neutral_of(theta: ArrayLike, resting: ArrayLike, learned: Sequence[int], frame: int | None = None) -> Float32:
    """A person's neutral θ [D], found in θ [T, D]: at rest, but in the numbers `learned` the mean of the calmest tenth.

    resting: [D], θ of a template at rest. learned: the numbers of expressions that were learned from scans, such as
    FLAME's. Trackers put part of a person's own shape into those, so that a calm face is not zero there; a named
    expression or a turn that is zero means the same for everyone. Calm frames are those nearest to zero.
    frame: the one that the user says is neutral, in every number.
    """
    values, neutral = _finite(theta), np.array(resting, np.float32)
    columns = list(learned)
    if frame is None:
        if columns:
            calm = np.argsort(np.linalg.norm(values[:, columns] - neutral[columns], axis=1), kind="stable")
            neutral[columns] = values[calm[: max(1, round(len(values) * CALM_SHARE))]].mean(0)[columns]
        return neutral
    if not 0 <= frame < len(values):
        raise BadCapture("the neutral frame is not in the source", found=str(frame), expected=f"0 to {len(values) - 1}")
    chosen: Float32 = values[frame].astype(np.float32)
    return chosen


def transferred(
    theta: ArrayLike,
    source_neutral: ArrayLike,
    statistics: DrivingStatistics,
    *,
    strength: float = 1.0,
    clip: float = 1.0,
) -> Float32:
    """θ' [T, D] of the avatar for a source's θ [T, D]: neutral + strength (θ - source_neutral), held to training.

    clip: 1 holds θ' to the avatar's training (near the span of its principal directions, within their percentiles, and
    within those of each number); 1.5 allows ranges half as wide again; 0 holds nothing. What is in range stays as it
    is, so a source equal to the avatar's own motion comes out unchanged. Raises BadCapture where θ is not finite.
    """
    source = _finite(theta)
    if source.shape[1] != len(statistics.mean):
        raise BadCapture(
            "the source's driving vector is not the avatar's",
            found=f"{source.shape[1]} numbers",
            expected=f"{len(statistics.mean)}",
        )
    moved = statistics.neutral + strength * (source - np.asarray(source_neutral, np.float64))
    return np.asarray(held(moved, statistics, clip), np.float32)


def held(theta: NDArray[np.float64], statistics: DrivingStatistics, clip: float) -> NDArray[np.float64]:
    """θ [T, D] brought near to what the avatar's training showed; `clip` as in `transferred`."""
    if clip <= 0:
        return theta
    components = statistics.components.astype(np.float64)
    if len(components):
        touched = (components != 0).any(0)
        standard = (theta - statistics.mean) / statistics.spread * touched
        along = standard @ components.T
        beside = standard - along @ components
        middle = (statistics.component_low + statistics.component_high) / 2
        reach = (statistics.component_high - statistics.component_low) / 2 * clip
        kept = np.clip(along, middle - reach, middle + reach)
        length = np.linalg.norm(beside, axis=1, keepdims=True)
        most = statistics.residual * clip
        factor = np.where(length > most, most / np.maximum(length, 1e-12), 1.0)
        # what is in range is not computed anew, so that it stays as it was to the bit
        change = (kept - along) @ components + (factor - 1.0) * beside
        theta = theta + change * statistics.spread
    middle = (statistics.low.astype(np.float64) + statistics.high) / 2
    reach = (statistics.high.astype(np.float64) - statistics.low) / 2 * clip
    held_in: NDArray[np.float64] = np.clip(theta, middle - reach, middle + reach)
    return held_in


def one_euro(
    values: ArrayLike, fps: float, *, min_cutoff_hz: float = 1.0, beta: float = 0.5, slope_cutoff_hz: float = 1.0
) -> Float32:
    """Values [T, D] smoothed over time: much where they hardly move, little where they move fast.

    The One-Euro filter (Casiez, Roussel and Vogel, CHI 2012): an exponential filter whose cutoff is min_cutoff_hz +
    beta |slope|, the slope itself filtered with slope_cutoff_hz. Causal; the first value stays.
    """
    signal = _finite(values)
    if fps <= 0 or min_cutoff_hz <= 0 or slope_cutoff_hz <= 0 or beta < 0:
        raise BadCapture("the smoothing's numbers are out of range", expected="frequencies above 0 and beta 0 or more")
    smooth = signal.copy()
    slope = np.zeros(signal.shape[1])
    for step in range(1, len(signal)):
        now = (signal[step] - smooth[step - 1]) * fps
        slope = slope + _share(slope_cutoff_hz, fps) * (now - slope)
        share = _share(min_cutoff_hz + beta * np.abs(slope), fps)
        smooth[step] = smooth[step - 1] + share * (signal[step] - smooth[step - 1])
    return smooth.astype(np.float32)


def matched_places(
    places_m: ArrayLike, source_K: ArrayLike, avatar_K: ArrayLike, head_size: float = 1.0
) -> NDArray[np.float64]:
    """Where the avatar's head must be, [T, 3] m, so that its picture is as large and where the source's was.

    places_m: [T, 3] m, the source's head in its camera's axes (OpenCV). source_K, avatar_K: [3, 3] px of pictures of
    the same size. head_size: the avatar's head in source's heads. The result is in the avatar's camera's axes: another
    focal length moves the head nearer or farther instead of making it larger. Raises BadCapture for a head behind the
    camera.
    """
    places = _finite(places_m)
    source, avatar = np.asarray(source_K, np.float64), np.asarray(avatar_K, np.float64)
    if (places[:, 2] <= 0).any():
        raise BadCapture("the source's head is behind its camera", found=f"frame {int(np.argmax(places[:, 2] <= 0))}")
    depth = places[:, 2] * (avatar[0, 0] / source[0, 0]) * head_size
    pixels = places[:, :2] / places[:, 2:] * (source[0, 0], source[1, 1]) + source[:2, 2]
    across = (pixels - avatar[:2, 2]) / (avatar[0, 0], avatar[1, 1]) * depth[:, None]
    return np.concatenate((across, depth[:, None]), 1)


def _share(cutoff_hz: Any, fps: float) -> Any:
    """How much of a new value a first-order low-pass of that cutoff takes in at each step."""
    return 1.0 / (1.0 + fps / (2 * np.pi * cutoff_hz))


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.ndim != 2 or not len(array):
        raise BadCapture("the source has no frames", found=str(list(array.shape)), expected="[T, D]")
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise BadCapture(
            "the source holds numbers that are not finite",
            found=f"frame {int(np.argmax(bad))}",
            do="Track it again with FLAME files of the version that the tracker expects",
        )
    return array
