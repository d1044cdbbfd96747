"""A motion as it comes from a file, whoever made it: joints and expressions by name, in model axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
WORLD, REST = "world", "rest"


@dataclass(frozen=True, eq=False)
class SourceMotion:
    """T instants of some rig.

    label: what kind of file it was, for people. rotations: [T, J, 3] rad, each relative to its parent, in model axes.
    root: the joint that travels, "" where none does. places: [T, 3] m; `measured` says from where: WORLD, the root
    joint's place in a z-up world whose floor is z = 0; REST, its shift from where it is at rest. expressions: [T, E].
    fps: None where the file does not say. leg_m: hip to ankle of the body it was recorded on, None where not known.
    notes: sentences about what was left out.
    """

    name: str
    label: str
    joint_names: tuple[str, ...]
    rotations: Floats
    root: str
    places: Floats
    measured: str
    expression_names: tuple[str, ...]
    expressions: Floats
    fps: float | None
    leg_m: float | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rotations)
