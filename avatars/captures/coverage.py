"""What a recording shows of a head: from where, and which expressions; and what it never shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatars.captures.capture import Capture
from avatars.training.views import view_angles_deg

BIN_DEG = 15
MOST_IMAGES = 2000
SIDE_YAW_DEG, TILT_DEG = 20.0, 8.0
"""Less than this to a side, up or down, and that side of the head is guessed."""
OPEN_JAW_DEG, CLOSED_LID, GAZE_DEG = 8.0, 0.6, 5.0
FEW_FRAMES = 150
ACTIVE_RANGE = 0.5
LIDS = ("eyelid_left", "eyelid_right", "eyeBlinkLeft", "eyeBlinkRight")
JAW_OPENERS = ("jawOpen",)


@dataclass(frozen=True, eq=False)
class Coverage:
    """What training pictures show.

    yaw and pitch: of the camera seen from the head, bins of 15 degrees (lower edge -> pictures).
    ranges: name -> 1st and 99th percentile (jaw, gaze in degrees; expressions in their own unit). active: expressions
    that move by half a unit or more. held_out_beyond: share of the numbers of held-out frames outside the range of
    training. missing: sentences about what is never shown.
    """

    yaw: dict[int, int]
    pitch: dict[int, int]
    ranges: dict[str, tuple[float, float]]
    active: int
    held_out_beyond: float
    missing: tuple[str, ...]


def evenly(items: Sequence[int], most: int) -> list[int]:
    """At most `most` of `items`, evenly spread, the first and last among them."""
    rows = np.unique(np.linspace(0, len(items) - 1, min(len(items), most)).round().astype(int)) if items else []
    return [items[row] for row in rows]


def measure_coverage(capture: Capture) -> Coverage:
    """Coverage of a capture's training pictures, from its parameters alone. Raises BadTemplate."""
    images = evenly(capture.split("train"), MOST_IMAGES)
    angles = view_angles_deg(capture, images)
    frames = sorted({capture.images[index].frame for index in images})
    ranges = _ranges(capture, frames)
    names = capture.expression_names
    spans = [ranges[name][1] - ranges[name][0] for name in names]
    active = int(sum(span >= ACTIVE_RANGE for span in spans))
    missing = [*_missing_views(angles), *_missing_expressions(capture, frames, ranges)]
    if len(capture.training_frames()) < FEW_FRAMES:
        missing.append(f"only {len(capture.training_frames())} moments to learn from: a minute of video is 1,500")
    if names and active == 0:
        missing.append("the face hardly moves: no expression changes by half a unit")
    held_out = sorted({capture.images[index].frame for index in capture.split("test")})
    return Coverage(
        _histogram(angles[:, 0]),
        _histogram(angles[:, 1]),
        ranges,
        active,
        _beyond(capture, list(capture.training_frames()), held_out),
        tuple(missing),
    )


def _histogram(angles: NDArray[np.float64]) -> dict[int, int]:
    bins, counts = np.unique(np.floor(angles / BIN_DEG).astype(int) * BIN_DEG, return_counts=True)
    return {int(low): int(count) for low, count in zip(bins, counts, strict=True)}


def _missing_views(angles: NDArray[np.float64]) -> list[str]:
    """angles [M, 2]: positive yaw sees the head's left side, positive pitch its top."""
    if not len(angles):
        return []
    found = []
    for column, limit, sides in (
        (0, SIDE_YAW_DEG, ("its right side", "its left side")),
        (1, TILT_DEG, ("the underside of the chin", "the top of the head")),
    ):
        low, high = np.percentile(angles[:, column], (1, 99))
        for reach, side in zip((-low, high), sides, strict=True):
            if reach < limit:
                found.append(f"{side} is seen at {max(reach, 0):.0f} degrees at most: it will be guessed")
    return found


def _ranges(capture: Capture, frames: list[int]) -> dict[str, tuple[float, float]]:
    """1st and 99th percentile of jaw and gaze in degrees and of every expression."""
    motion = capture.motion
    values: dict[str, NDArray[np.floating]] = {}
    if "jaw" in capture.joint_names:
        turned = motion.rotations[frames, capture.joint_names.index("jaw")]
        values["jaw_deg"] = np.degrees(np.linalg.norm(turned, axis=1))
    eyes = [capture.joint_names.index(name) for name in ("left_eye", "right_eye") if name in capture.joint_names]
    if eyes:
        gaze = np.degrees(motion.rotations[frames][:, eyes].mean(1))
        values["gaze_yaw_deg"], values["gaze_pitch_deg"] = gaze[:, 2], gaze[:, 0]
    for column, name in enumerate(capture.expression_names):
        values[name] = motion.expressions[frames, column]
    ends = {name: np.percentile(value, (1, 99)) for name, value in values.items()}
    return {name: (round(float(low), 3), round(float(high), 3)) for name, (low, high) in ends.items()}


def _missing_expressions(capture: Capture, frames: list[int], ranges: dict[str, tuple[float, float]]) -> list[str]:
    found = []
    opened = [ranges[name][1] for name in JAW_OPENERS if name in ranges]
    if "jaw_deg" in ranges and ranges["jaw_deg"][1] < OPEN_JAW_DEG and max(opened, default=0.0) < ACTIVE_RANGE:
        found.append(f"the mouth never opens wide (jaw {ranges['jaw_deg'][1]:.0f} degrees): teeth will be guessed")
    lids = [name for name in LIDS if name in ranges]
    if lids and max(float(capture.motion.expressions[frames, _column(capture, n)].max()) for n in lids) < CLOSED_LID:
        found.append("the eyes never close: blinks will be guessed")
    if "gaze_yaw_deg" in ranges and ranges["gaze_yaw_deg"][1] - ranges["gaze_yaw_deg"][0] < GAZE_DEG:
        found.append("the eyes hardly look aside")
    return found


def _column(capture: Capture, name: str) -> int:
    return capture.expression_names.index(name)


def _beyond(capture: Capture, frames: list[int], held_out: list[int]) -> float:
    """Share of expression numbers of held-out frames below the least or above the greatest of training."""
    table = capture.motion.expressions
    if not held_out or not frames or not table.shape[1]:
        return 0.0
    low, high = table[frames].min(0), table[frames].max(0)
    outside = (table[held_out] < low - 1e-6) | (table[held_out] > high + 1e-6)
    return round(float(outside.mean()), 4)
