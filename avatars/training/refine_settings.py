"""What is refined of a tracked recording while an avatar learns from it, and what makes an exact one worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shared.errors import BadConfig


@dataclass(frozen=True)
class RefineConfig:
    """Errors of the track that are learned with the avatar: small, held to the track, smooth in time.

    mode: 'auto' for captures that say they are tracked, 'always', 'never'. start: share of the schedule after which it
    begins, when colours are there. travel: how many tracker errors a number could move if every picture pulled the same
    way; the rate falls to a tenth over the run. head_deg (shared by neck and head), jaw_deg, gaze_deg, torso_deg (how
    shoulders turn, which trackers of faces do not see), joint_deg (other joints of bodies, not fingers), place_m
    (across and down the view, or all ways where cameras look in many), depth_m (along it), action, focal (a share): the
    tracker's error of each kind, 0 leaves it as it is. ridge: weight of the mean square of what was changed, in tracker
    errors; smooth: of its steps from frame to frame. Both are weak, since losses are means over all pixels, of which
    one expression moves few. confidence: weigh pictures by the tracker's confidence. edge_px, edge_weight: pixels so
    near the mask's edge (in a picture of 512) count so much. test_steps: steps of the same fit for each held-out
    picture with the avatar frozen, 0 for none.
    """

    mode: Literal["auto", "always", "never"] = "auto"
    start: float = 0.05
    travel: float = 3.0
    head_deg: float = 2.0
    jaw_deg: float = 1.5
    gaze_deg: float = 6.0
    joint_deg: float = 3.0
    torso_deg: float = 3.0
    place_m: float = 0.003
    depth_m: float = 0.012
    action: float = 0.2
    focal: float = 0.02
    ridge: float = 1e-6
    smooth: float = 1e-6
    confidence: bool = True
    edge_px: float = 3.0
    edge_weight: float = 0.5
    test_steps: int = 100


@dataclass(frozen=True)
class DataConfig:
    """What is changed of a capture before it is learned from.

    parameters: a refined.npz that an earlier run on the same capture left, whose poses and lens are taken.
    tracking_noise: errors like a tracker's put on an exact head, 1 for their measured size; noise_seed decides them.
    """

    parameters: str = ""
    tracking_noise: float = 0.0
    noise_seed: int = 0


def check_refine(refine: RefineConfig, data: DataConfig) -> None:
    """Refuse values that make no sense. Raises BadConfig."""
    errors = ("head_deg", "jaw_deg", "gaze_deg", "joint_deg", "torso_deg", "place_m", "depth_m", "action", "focal")
    for name in ("travel", *errors, "ridge", "smooth", "edge_px", "test_steps"):
        if getattr(refine, name) < 0:
            raise BadConfig(f"refine.{name} is below 0", found=str(getattr(refine, name)))
    for name in ("start", "edge_weight"):
        if not 0 <= getattr(refine, name) <= 1:
            raise BadConfig(f"refine.{name} is no share", found=str(getattr(refine, name)), expected="0 to 1")
    if data.tracking_noise < 0:
        raise BadConfig("data.tracking_noise is below 0", found=str(data.tracking_noise))
