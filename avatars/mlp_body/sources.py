"""What the compiled forms of `express` need beside tensors."""

from __future__ import annotations

from dataclasses import dataclass

from avatars.mlp_body.neighbours import Mixing


@dataclass(frozen=True, eq=False)
class Sources:
    """Which anchors and control points each Gaussian takes from (as many of both), and the model's constants.

    basis: how many of the anchors' numbers are for Gaussians; wiggle_m: reach of a Gaussian's own offset.
    """

    anchors: Mixing
    controls: Mixing
    wiggle_m: float
    basis: int
