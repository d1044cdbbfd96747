"""Which bone of a foreign armature moves which joint: tables of names for common rigs, and how a rig is recognised."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CORE = (
    *("pelvis", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow"),
)
"""Joints without which a motion is not worth having."""
LEAST_CORE = 9
_FINGERS = ("thumb", "index", "middle", "ring", "pinky")
_PREFIX = re.compile(r"^(?:[^:|]*[:|])+|^(?:mixamorig\d*_|[mf]_avg_|bip0*1[ _])", re.IGNORECASE)


@dataclass(frozen=True)
class Recognised:
    """A foreign rig: its style, and joint -> bone name for the joints it has."""

    style: str
    bones: Mapping[str, str]

    @property
    def complete(self) -> bool:
        """Whether it has enough of a body."""
        return sum(joint in self.bones for joint in CORE) >= LEAST_CORE


def _sided(table: Mapping[str, str], left: str, right: str) -> dict[str, tuple[str, ...]]:
    """Both halves of a table whose names hold `{s}` for the side; several names are parted by `|`."""
    found = {}
    for joint, names in table.items():
        for side, mark in (("left", left), ("right", right)):
            found[f"{side}_{joint}"] = tuple(names.format(s=mark).split("|"))
    return found


def _middle(table: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {joint: tuple(names.split("|")) for joint, names in table.items()}


_SMPL_SIDES = ("hip", "knee", "ankle", "foot", "collar", "shoulder", "elbow", "wrist", "eye")
_MIXAMO = {
    "hip": "{s}UpLeg",
    "knee": "{s}Leg",
    "ankle": "{s}Foot",
    "foot": "{s}ToeBase|{s}Toe",
    "collar": "{s}Shoulder",
    "shoulder": "{s}Arm",
    "elbow": "{s}ForeArm",
    "wrist": "{s}Hand",
    "eye": "{s}Eye",
} | {f"{f}{n}": f"{{s}}Hand{f.title()}{n}" for f in _FINGERS for n in (1, 2, 3)}
_RIGIFY = {
    "hip": "thigh.{s}",
    "knee": "shin.{s}",
    "ankle": "foot.{s}",
    "foot": "toe.{s}",
    "collar": "shoulder.{s}",
    "shoulder": "upper_arm.{s}",
    "elbow": "forearm.{s}",
    "wrist": "hand.{s}",
    "eye": "eye.{s}",
    **{f"thumb{n}": f"thumb.0{n}.{{s}}" for n in (1, 2, 3)},
    **{f"{f}{n}": f"f_{f}.0{n}.{{s}}" for f in _FINGERS[1:] for n in (1, 2, 3)},
}
_POSER = {
    "hip": "{s}Hip|{s}UpLeg|{s}Thigh",
    "knee": "{s}Knee|{s}LowLeg|{s}Shin",
    "ankle": "{s}Ankle|{s}Foot",
    "foot": "{s}Toe",
    "collar": "{s}Collar",
    "shoulder": "{s}Shoulder|{s}UpArm",
    "elbow": "{s}Elbow|{s}LowArm",
    "wrist": "{s}Wrist|{s}Hand",
}
_UNREAL = {
    "hip": "thigh_{s}",
    "knee": "calf_{s}",
    "ankle": "foot_{s}",
    "foot": "ball_{s}",
    "collar": "clavicle_{s}",
    "shoulder": "upperarm_{s}",
    "elbow": "lowerarm_{s}",
    "wrist": "hand_{s}",
} | {f"{f}{n}": f"{f}_0{n}_{{s}}" for f in _FINGERS for n in (1, 2, 3)}

STYLES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "SMPL": {
        **_middle({name: name for name in ("pelvis", "spine1", "spine2", "spine3", "neck", "head", "jaw")}),
        **_sided({n: f"{{s}}_{n}" for n in _SMPL_SIDES}, "left", "right"),
        **_sided({f"{f}{n}": f"{{s}}_{f}{n}" for f in _FINGERS for n in (1, 2, 3)}, "left", "right"),
    },
    "SMPL (L_, R_)": {
        **_middle({n: n for n in ("pelvis", "spine1", "spine2", "spine3", "neck", "head", "jaw")}),
        **_sided({n: f"{{s}}_{n}" for n in _SMPL_SIDES}, "L", "R"),
        **_sided({f"{f}{n}": f"{{s}}_{f}{n}" for f in _FINGERS for n in (1, 2, 3)}, "L", "R"),
    },
    "Mixamo": {
        **_middle(
            {
                "pelvis": "Hips",
                "spine1": "Spine",
                "spine2": "Spine1",
                "spine3": "Spine2",
                "neck": "Neck",
                "head": "Head",
            }
        ),
        **_sided(_MIXAMO, "Left", "Right"),
    },
    "CMU": {
        **_middle(
            {
                "pelvis": "Hips",
                "spine1": "LowerBack",
                "spine2": "Spine",
                "spine3": "Spine1",
                "neck": "Neck",
                "head": "Head",
            }
        ),
        **_sided({**_MIXAMO, "middle1": "{s}HandIndex1|{s}FingerBase"}, "Left", "Right"),
    },
    "Poser": {
        **_middle(
            {
                "pelvis": "Hips|hip",
                "spine1": "abdomen|Spine",
                "spine3": "Chest",
                "neck": "Neck",
                "head": "Head",
                "jaw": "Jaw",
            }
        ),
        **_sided(_POSER, "Left", "Right"),
    },
    "Unreal": {
        **_middle(
            {
                "pelvis": "pelvis",
                "spine1": "spine_01",
                "spine2": "spine_02",
                "spine3": "spine_03",
                "neck": "neck_01",
                "head": "head",
            }
        ),
        **_sided(_UNREAL, "l", "r"),
    },
    "Rigify": {
        **_middle(
            {
                "pelvis": "spine",
                "spine1": "spine.001",
                "spine2": "spine.002",
                "spine3": "spine.003",
                "neck": "spine.004",
                "head": "spine.006|spine.005",
                "jaw": "jaw_master|jaw",
            }
        ),
        **_sided(_RIGIFY, "L", "R"),
    },
}
"""Style -> joint -> names a bone of it may have. `LowerBack` tells CMU's from Mixamo's, `Elbow` Poser's from both."""
_LAYERS = {"Rigify": ("ORG-", "DEF-", "")}
"""A generated Rigify rig has each bone several times; the original one carries the whole motion."""


def recognise(bone_names: Iterable[str]) -> Recognised:
    """The style that explains most bones. `complete` tells whether it is any good."""
    names = list(bone_names)
    best = Recognised("unknown", {})
    for style, table in STYLES.items():
        for layer in _LAYERS.get(style, ("",)):
            plain = {_plain(name, layer): name for name in reversed(names) if name.startswith(layer)}
            bones = {}
            for joint, candidates in table.items():
                match = next((plain[c.lower()] for c in candidates if c.lower() in plain), None)
                if match is not None:
                    bones[joint] = match
            if _score(bones) > _score(best.bones):
                best = Recognised(style, bones)
    return best


def _score(bones: Mapping[str, str]) -> tuple[int, int]:
    return sum(joint in bones for joint in CORE), len(bones)


def _plain(name: str, layer: str) -> str:
    return _PREFIX.sub("", name.removeprefix(layer)).lower()
