"""Which pictures of a clip of a body can be learned from, and why the others cannot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatars.tracking.body_detections import BodyDetections
from avatars.tracking.body_fitting import BodyFit
from avatars.tracking.body_landmarks import BODY
from avatars.tracking.judging import BLURRED_SHARE, CUT_LEVEL, CUT_TIMES

ENDS = (0, 7, 8, 27, 28, 29, 30, 31, 32)
"""Landmarks of face, ears, ankles, heels and toes: where one of them is outside, so is a part of the body."""
OUTSIDE_SHARE = 0.01
LIMBS = (11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
LEAST_SURE, SECOND_BODY = 0.45, 0.4
FAR_M, FAR_TIMES = 0.05, 3.0
JUMP_BODIES = 0.5


@dataclass(frozen=True, eq=False)
class BodyVerdict:
    """reason: [F] keys of `judging.REASONS`, "" for pictures that are kept. yaw_deg: [F] of the camera around the body:
    0 in front, positive to its left."""

    reason: tuple[str, ...]
    yaw_deg: NDArray[np.float64]

    @property
    def kept(self) -> NDArray[np.int64]:
        """Rows of the pictures that are kept."""
        return np.array([row for row, reason in enumerate(self.reason) if not reason], np.int64)


def body_cuts(found: BodyDetections) -> NDArray[np.bool_]:
    """[F - 1] whether a picture shows another scene than the one before, or the person somewhere else at once."""
    if len(found) < 2:
        return np.zeros(0, np.bool_)
    change = np.abs(np.diff(found.thumbnail.astype(np.float64), axis=0)).mean((1, 2))
    cut = (change > CUT_LEVEL) & (change > CUT_TIMES * np.median(change))
    points = np.nan_to_num(found.points[:, :BODY, :2].astype(np.float64))
    tall = np.maximum(np.ptp(points, axis=1).max(1), 1e-6)
    moved = np.linalg.norm(np.diff(points.mean(1), axis=0), axis=1) / tall[1:]
    result: NDArray[np.bool_] = cut | (found.seen[1:] & found.seen[:-1] & (moved > JUMP_BODIES))
    return result


def before_body_fit(found: BodyDetections, size_px: tuple[int, int]) -> tuple[str, ...]:
    """Reasons that need no fit, one for each picture, "" for none. size_px: width and height of the pictures."""
    seen = found.seen
    sharp = found.sharpness[seen]
    blurred = BLURRED_SHARE * float(np.median(sharp)) if len(sharp) else 0.0
    second = second_persons(found.second)
    margin = OUTSIDE_SHARE * max(size_px)
    reasons = []
    for row in range(len(found)):
        points = found.points[row]
        ends = points[list(ENDS), :2]
        if not seen[row]:
            reasons.append("no_body")
        elif second[row]:
            reasons.append("two_bodies")
        elif (ends < -margin).any() or (ends > np.asarray(size_px) + margin).any():
            reasons.append("cut_off")
        elif points[list(LIMBS), 2].mean() < LEAST_SURE:
            reasons.append("unsure")
        elif found.sharpness[row] < blurred:
            reasons.append("blur")
        else:
            reasons.append("")
    return tuple(reasons)


def second_persons(share: NDArray[np.floating]) -> NDArray[np.bool_]:
    """[F] whether a second person of similar size is in a picture; one that is missed between two counts as seen."""
    found: NDArray[np.bool_] = share > SECOND_BODY
    between = np.zeros_like(found)
    between[1:-1] = found[:-2] & found[2:]
    return found | between


def judge_body(found: BodyDetections, fit: BodyFit, size_px: tuple[int, int]) -> BodyVerdict:
    """The verdict over a fitted clip."""
    reasons = list(before_body_fit(found, size_px))
    usual = np.nanmedian(fit.residual_m)
    for row, reason in enumerate(reasons):
        if not reason and not fit.residual_m[row] < max(FAR_M, FAR_TIMES * usual):
            reasons[row] = "not_a_pose"
    towards = (fit.state.rotations[:, 0].transpose(0, 2, 1) @ -fit.state.place[..., None])[..., 0]
    return BodyVerdict(tuple(reasons), np.degrees(np.arctan2(towards[:, 0], -towards[:, 1])))
