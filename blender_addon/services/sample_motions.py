"""The motions that come with Effigy: which there are for an avatar, read and repeated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..logic.motion_files import read_motion
from ..logic.motion_source import SourceMotion
from ..logic.rig_layout import RigInfo
from .rig_info import avatar_of, rig_of

FOLDER = Path(__file__).resolve().parents[1] / "motions"


@dataclass(frozen=True)
class Sample:
    """One shipped motion. needs: a joint without which it makes no sense; loops: it can be repeated without a seam."""

    label: str
    description: str
    needs: str
    loops: bool


SAMPLES = {
    "talk": Sample("Talk and Look Around", "A sentence, glances, blinks and a smile, 10 s", "jaw", False),
    "walk": Sample("Walk", "A calm walk straight ahead, one cycle of two steps", "left_ankle", True),
    "wave": Sample("Wave", "Standing, a wave of the right hand, 4 s", "left_ankle", False),
    "dance": Sample("Dance", "Side steps to 120 beats a minute, one cycle of eight beats", "left_ankle", True),
}
_ITEMS: list[tuple[str, str, str]] = []
"""Blender keeps no reference to the texts of a dynamic list, so this module does."""


def fitting(rig: RigInfo | None) -> tuple[str, ...]:
    """Names of the samples that suit a rig; all where there is none."""
    return tuple(name for name, one in SAMPLES.items() if rig is None or one.needs in rig.joint_names)


def items(self: Any, context: Any) -> list[tuple[str, str, str]]:
    """For an enum property: the samples that suit the selected avatar."""
    avatar = avatar_of(context.object) if context is not None else None
    names = fitting(rig_of(avatar)) if avatar is not None else tuple(SAMPLES)
    _ITEMS[:] = [(name, SAMPLES[name].label, SAMPLES[name].description) for name in names]
    return _ITEMS


def read(name: str, cycles: int = 1) -> SourceMotion:
    """A shipped motion; a loop as often as wanted, each time from where it ended. Raises BadCapture."""
    source = replace(read_motion(FOLDER / f"{name}.npz"), label=SAMPLES[name].label)
    if not SAMPLES[name].loops or cycles <= 1:
        return source
    # The last frame of a loop is the first of the next one.
    step = source.places[-1] - source.places[0]
    places = [source.places[:-1] + turn * step for turn in range(cycles)]
    return replace(
        source,
        rotations=np.concatenate([source.rotations[:-1]] * cycles + [source.rotations[-1:]]),
        places=np.concatenate([*places, source.places[-1:] + (cycles - 1) * step]),
        expressions=np.concatenate([source.expressions[:-1]] * cycles + [source.expressions[-1:]]),
    )
