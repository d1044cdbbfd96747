"""Which cameras and frames of the published body recordings MMLPHuman trains and tests on (bodies page A.8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

THINNED_RAD = 0.015
ACTORSHQ_FULL_BODY = (
    *(6, 7, 20, 21, 22, 23, 36, 37, 38, 39, 54, 55, 78, 79, 92, 93, 94, 95, 110, 111, 125, 126, 127, 130, 131, 134),
    *(135, 138, 139, 142, 143, 146, 147, 150, 151, 154, 155, 158, 159),
)


@dataclass(frozen=True)
class BodySplit:
    """What is learnt from and what is tested. Cameras are 0-based places in the calibration file, () is all of them.

    train_frames and test_frames: (first, one after the last); test_frames None: those of training (new views only).
    thin_rad: a training frame is kept if its pose differs by more than this from the last one kept, mean over 63
    numbers; 0 keeps all. skipped: (first, one after the last) of frames left out of training.
    """

    train_cameras: tuple[int, ...]
    train_frames: tuple[int, int]
    test_cameras: tuple[int, ...]
    test_frames: tuple[int, int] | None = None
    thin_rad: float = 0.0
    skipped: tuple[int, int] = (0, 0)


def _but(count: int, *left_out: int) -> tuple[int, ...]:
    return tuple(k for k in range(count) if k not in left_out)


def _actor(start: int, count: int, cameras: Sequence[int] = ACTORSHQ_FULL_BODY, **more: tuple[int, int]) -> BodySplit:
    return BodySplit(tuple(cameras), (start, start + count), (6,), None, THINNED_RAD, **more)


PUBLISHED: Mapping[str, BodySplit] = MappingProxyType(
    {
        "thuman4 subject00": BodySplit(_but(24, 7), (0, 2000), (18,), (2000, 2500)),
        "thuman4 subject01": BodySplit(_but(24, 7), (0, 2500), (18,), (2000, 2500)),
        "thuman4 subject02": BodySplit(_but(24), (385, 2500), (18,), (0, 500)),
        "avatarrex zzr": BodySplit(_but(16, 7, 13), (0, 2000), (1,)),
        "avatarrex lbn1": BodySplit(_but(16, 8, 13), (0, 1901), (1,)),
        "avatarrex lbn2": BodySplit(_but(16, 8, 13), (0, 1871), (1,)),
        "actorshq actor01": _actor(48, 2129),
        "actorshq actor02": _actor(237, 1920),
        "actorshq actor04": _actor(77, 2113, skipped=(1380, 1591)),
        "actorshq actor05": _actor(100, 2225, [k for k in ACTORSHQ_FULL_BODY if k not in (38, 39)]),
        "actorshq actor06": _actor(0, 2000, skipped=(1400, 1531)),
        "actorshq actor07": _actor(205, 1934),
        "actorshq actor08": _actor(63, 2311, sorted((*ACTORSHQ_FULL_BODY, 109))),
    }
)
"""Layout and subject -> split. The last frame of a skipped stretch counts as left out."""


def published_split(layout: str, folder_names: Sequence[str], cameras: int) -> tuple[str, BodySplit] | None:
    """The split of a known subject by the names of a folder and those above it, if its cameras are all there."""
    for key, split in PUBLISHED.items():
        known_layout, subject = key.split(" ")
        if known_layout == layout and any(subject in name.lower() for name in folder_names):
            return (key, split) if max((*split.train_cameras, *split.test_cameras)) < cameras else None
    return None


def thinned(body_rad: NDArray[np.floating], frames: Sequence[int], least_rad: float) -> list[int]:
    """Those of `frames` whose pose (rows of body_rad [N, 63]) moved by more than least_rad since the last one kept."""
    kept: list[int] = []
    for frame in frames:
        if not kept or least_rad <= 0 or np.abs(body_rad[frame] - body_rad[kept[-1]]).mean() > least_rad:
            kept.append(frame)
    return kept
