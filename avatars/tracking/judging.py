"""Which pictures of a tracked clip can be learned from, and why the others cannot.

A face mesh always answers with a face and never says how sure it is, so this looks at what it said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatars.tracking.detections import Detections
from avatars.tracking.fitting import ClipFit

WIDEST_YAW_DEG = 50.0
SURE_YAW_DEG = 25.0
SECOND_FACE = 0.35
BLURRED_SHARE = 0.25
CUT_LEVEL, CUT_TIMES = 20.0, 6.0
FAR_RESIDUAL_M, RESIDUAL_TIMES = 0.004, 2.2
JUMP_FACES = 0.6
HAND_POINTS = 3
COVERED_SHARE, FAR_COLOUR, FEWEST_COLOURS = 0.12, 0.35, 8
REASONS: Mapping[str, str] = {
    "no_face": "no face found",
    "two_faces": "a second face of similar size",
    "beside": "the face is cut off by the picture's edge",
    "profile": f"the head is turned by more than {WIDEST_YAW_DEG:.0f} degrees",
    "blur": "motion blur",
    "hand": "a hand before the face",
    "covered": "something before the face",
    "misfit": "the landmarks do not fit a face (the detector went astray)",
    "no_body": "no person found",
    "two_bodies": "a second person",
    "cut_off": "head or feet are outside of the picture",
    "unsure": "too little of the person is seen",
    "not_a_pose": "the landmarks do not fit a body (something before it, or the detector went astray)",
}
"""Why a picture is dropped, in the order they are asked."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """reason: [F] keys of `REASONS`, "" for pictures that are kept. yaw_deg, pitch_deg: [F] of the head towards the
    camera; positive yaw shows its left side, positive pitch its top."""

    reason: tuple[str, ...]
    yaw_deg: NDArray[np.float64]
    pitch_deg: NDArray[np.float64]

    @property
    def kept(self) -> NDArray[np.int64]:
        """Rows of the pictures that are kept."""
        return np.array([row for row, reason in enumerate(self.reason) if not reason], np.int64)


def find_cuts(found: Detections) -> NDArray[np.bool_]:
    """[F - 1] whether a picture shows another scene than the one before: the whole picture changes at once."""
    if len(found) < 2:
        return np.zeros(0, np.bool_)
    change = np.abs(np.diff(found.thumbnail.astype(np.float64), axis=0)).mean((1, 2))
    usual = np.median(change)
    cut = (change > CUT_LEVEL) & (change > CUT_TIMES * usual)
    both = found.seen[1:] & found.seen[:-1]
    size = np.maximum(np.ptp(np.nan_to_num(found.landmarks), axis=1).max(1), 1e-6)
    moved = np.linalg.norm(np.diff(np.nan_to_num(found.landmarks).mean(1), axis=0), axis=1) / size[1:]
    result: NDArray[np.bool_] = cut | (both & (moved > JUMP_FACES))
    return result


def before_fit(found: Detections, size_px: tuple[int, int]) -> tuple[str, ...]:
    """Reasons that need no fit, one for each picture, "" for none. size_px: width and height of the pictures."""
    sharp = found.sharpness[found.seen]
    blurred = BLURRED_SHARE * float(np.median(sharp)) if len(sharp) else 0.0
    reasons = []
    for row in range(len(found)):
        points = found.landmarks[row]
        if not found.seen[row]:
            reasons.append("no_face")
        elif found.second[row] > SECOND_FACE:
            reasons.append("two_faces")
        elif (points.min() < 0) or (points.max(0) > size_px).any():
            reasons.append("beside")
        elif found.sharpness[row] < blurred:
            reasons.append("blur")
        elif found.hand[row] >= HAND_POINTS:
            reasons.append("hand")
        else:
            reasons.append("")
    good = np.array([not reason for reason in reasons], np.bool_)
    for row in np.flatnonzero(covered_share(found.colours, good) > COVERED_SHARE):
        reasons[row] = reasons[row] or "covered"
    return tuple(reasons)


def covered_share(colours: NDArray[np.uint8], good: NDArray[np.bool_]) -> NDArray[np.float64]:
    """[F] share of the landmarks whose colour [F, N, 3] is far from what it usually is in the clip, each picture
    being made as bright as usual first; 0 for pictures that are not `good` [F], and where those are few."""
    share = np.zeros(len(colours))
    rows = np.flatnonzero(good)
    if len(rows) < FEWEST_COLOURS:
        return share
    seen = colours[rows].astype(np.float64) + 8
    usual = np.median(seen, axis=0)
    level = np.median(seen / usual, axis=1, keepdims=True)
    apart = np.abs(np.log(seen / (usual * level))).max(2)
    spread = np.median(apart, axis=0)
    share[rows] = (apart > FAR_COLOUR + 3 * spread).mean(1)
    return share


def judge(found: Detections, fit: ClipFit, size_px: tuple[int, int]) -> Verdict:
    """The verdict over a fitted clip."""
    facing = -fit.state.rotation[:, :, 1]
    yaw = -np.degrees(np.arctan2(facing[:, 0], -facing[:, 2]))
    pitch = np.degrees(np.arcsin(np.clip(facing[:, 1], -1, 1)))
    reasons = list(before_fit(found, size_px))
    usual = np.nanmedian(fit.residual_m)
    for row, reason in enumerate(reasons):
        if reason:
            continue
        if abs(yaw[row]) > WIDEST_YAW_DEG:
            reasons[row] = "profile"
        elif not fit.residual_m[row] < max(FAR_RESIDUAL_M, RESIDUAL_TIMES * usual):
            reasons[row] = "misfit"
    return Verdict(tuple(reasons), yaw, pitch)


def confidence(residual_m: NDArray[np.float64], yaw_deg: NDArray[np.float64]) -> NDArray[np.float32]:
    """[F] in 0..1 of kept frames: how far to trust them. residual_m: of the landmarks; yaw_deg: turn of the head.

    1 for the usual residual or less, falling with its square beyond; far sides of turned heads are guessed.
    """
    usual = np.nanmedian(residual_m) if len(residual_m) else 1.0
    beyond = np.clip(np.nan_to_num(residual_m, nan=np.inf) / max(usual, 1e-9) - 1, 0, 10)
    sideways = np.clip((np.abs(yaw_deg) - SURE_YAW_DEG) / (WIDEST_YAW_DEG - SURE_YAW_DEG), 0, 1)
    found: NDArray[np.float32] = ((1 - 0.7 * sideways) / (1 + 2 * beyond**2)).astype(np.float32)
    return found


def stretches(numbers: NDArray[np.int64], reason: tuple[str, ...], step: int) -> list[dict[str, object]]:
    """Dropped pictures as stretches: [{"from", "to" (numbers in the video), "pictures", "why"}]."""
    found: list[dict[str, object]] = []
    last = ("", -1)
    for number, why in zip(numbers.tolist(), reason, strict=True):
        if why:
            if last == (why, number - step) and found:
                found[-1]["to"] = number
                found[-1]["pictures"] = int(str(found[-1]["pictures"])) + 1
            else:
                found.append({"from": number, "to": number, "pictures": 1, "why": REASONS[why]})
        last = (why, number)
    return found
