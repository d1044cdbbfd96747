"""What part of the body a joint belongs to, and what its bone looks like: one table for collections, shapes, limits."""

from __future__ import annotations

from dataclasses import dataclass

BODY, FACE, ARMS, LEGS, HANDS = "Body", "Face", "Arms", "Legs", "Hands"
REGIONS = (BODY, FACE, ARMS, LEGS, HANDS)
"""Names of the bone collections, in the order they are listed."""
FINGERS = ("index", "middle", "pinky", "ring", "thumb")
_PARTS = {
    FACE: ("jaw", "eye"),
    ARMS: ("collar", "shoulder", "elbow", "wrist"),
    LEGS: ("hip", "knee", "ankle", "foot"),
    HANDS: FINGERS,
}
FEET = ("left_ankle", "right_ankle", "left_foot", "right_foot")


@dataclass(frozen=True)
class BoneShape:
    """How a control is drawn: a shape, its radius in m and where along the bone it sits (0 head, 1 tail)."""

    shape: str
    radius_m: float
    along: float = 0.5


_SHAPES = {
    "pelvis": BoneShape("box", 0.20, 0.25),
    "root": BoneShape("box", 0.14, 0.0),
    "spine1": BoneShape("ring", 0.17),
    "spine2": BoneShape("ring", 0.18),
    "spine3": BoneShape("ring", 0.19),
    "neck": BoneShape("ring", 0.085),
    "head": BoneShape("ring", 0.135, 0.75),
    "jaw": BoneShape("paddle", 0.035, 1.0),
    "eye": BoneShape("disc", 0.018, 2.0),
    "collar": BoneShape("ring", 0.06, 0.7),
    "shoulder": BoneShape("ring", 0.085),
    "elbow": BoneShape("ring", 0.065),
    "wrist": BoneShape("box", 0.06, 0.6),
    "hip": BoneShape("ring", 0.12),
    "knee": BoneShape("ring", 0.085),
    "ankle": BoneShape("box", 0.06, 0.5),
    "foot": BoneShape("box", 0.05, 0.4),
}
_FINGER = BoneShape("ring", 0.014)
_UNKNOWN = BoneShape("ring", 0.05)


def plain(joint: str) -> str:
    """A joint's name without its side."""
    for side in ("left_", "right_"):
        joint = joint.removeprefix(side)
    return joint


def region_of(joint: str) -> str:
    """One of REGIONS; what no table names is part of the body."""
    name = plain(joint)
    return next((region for region, parts in _PARTS.items() if name.startswith(parts)), BODY)


def shape_of(joint: str) -> BoneShape:
    """How the joint's bone is drawn."""
    name = plain(joint)
    return _FINGER if name.startswith(FINGERS) else _SHAPES.get(name, _UNKNOWN)


def hinge_limits_deg(joint: str) -> tuple[float, float] | None:
    """How far an inverse-kinematic chain may bend this joint about its bone's x, None for joints that turn freely.

    Only elbows and knees are hinges. These limits guide IK alone: keys, motions and constraints go where they say.
    """
    return {"elbow": (-2.0, 150.0), "knee": (-150.0, 2.0)}.get(plain(joint))
