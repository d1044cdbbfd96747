"""Another armature's motion on the avatar's joints: differences of rest pose and of facing are taken out once.

With P and L a bone's posed and rest matrix in the world, G = P L^-1 turns its part of the body from rest. Both rigs
rest differently (arms down or out), so a correction D brings the avatar's limbs to the source's rest first: a joint's
whole turn is A G A^T D, where A turns the source to face as the avatar does. Limbs then point where the source's point.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._shared import errors, rotations
from .linear_maps import nearest_rotations
from .motion_source import REST, Floats, SourceMotion
from .rig_layout import RigInfo

SNAP_RAD = np.radians(8.0)
"""A facing this close to a multiple of a right angle is one: skeletons are not perfectly even."""


def _limbs() -> dict[str, str]:
    """Joint -> the joint its limb points to, for joints whose direction at rest is the same part in all rigs."""
    found = {}
    for side in ("left", "right"):
        chain = ("shoulder", "elbow", "wrist", "middle1")
        found |= {f"{side}_{a}": f"{side}_{b}" for a, b in itertools.pairwise(chain)}
        found |= {f"{side}_hip": f"{side}_knee", f"{side}_knee": f"{side}_ankle"}
        for finger in ("thumb", "index", "middle", "ring", "pinky"):
            found |= {f"{side}_{finger}{n}": f"{side}_{finger}{n + 1}" for n in (1, 2)}
    return found


LIMBS = _limbs()
ALONG_PARENT = tuple(
    f"{side}_{finger}3" for side in ("left", "right") for finger in ("thumb", "index", "middle", "ring", "pinky")
)
"""The last bones of fingers: their rest differs as the bone before them does."""


@dataclass(frozen=True, eq=False)
class SourceRest:
    """Bones of the source at rest, in the world. bones: joint -> row. heads, tails: [B, 3] m; rotations: [B, 3, 3]."""

    bones: Mapping[str, int]
    heads: Floats
    tails: Floats
    rotations: Floats


@dataclass(frozen=True, eq=False)
class Alignment:
    """What is worked out once. model_from_source: [3, 3]. corrections: joint -> D [3, 3]. leg_m: of the source."""

    model_from_source: Floats
    corrections: Mapping[str, Floats]
    leg_m: float | None


def align(rest: SourceRest, rig: RigInfo) -> Alignment:
    """Facing, rest corrections and size. Raises BadCapture for a source without hips and trunk."""
    turn = _facing(rest)
    heads, tails = rest.heads @ turn.T, rest.tails @ turn.T
    joints = {name: rig.rest_joints[i].astype(np.float64) for i, name in enumerate(rig.joint_names)}
    corrections: dict[str, Floats] = {}
    for index, name in enumerate(rig.joint_names):
        if name not in rest.bones:
            continue
        before = corrections.get(_nearest_ancestor(rig, index, corrections), np.eye(3))
        target = LIMBS.get(name)
        if name in ALONG_PARENT:
            corrections[name] = before
        elif target is None or target not in joints:
            corrections[name] = np.eye(3)
        else:
            here = rest.bones[name]
            there = heads[rest.bones[target]] if target in rest.bones else tails[here]
            theirs, ours = there - heads[here], joints[target] - joints[name]
            corrections[name] = _between(before @ ours, theirs) @ before
            across = _across_hand(name, rest, heads, joints)
            if across is not None:
                corrections[name] = _frame(theirs, across[0]) @ _frame(ours, across[1]).T
    return Alignment(turn, corrections, _leg_m(rest))


def retargeted(name: str, style: str, rest: SourceRest, posed: ArrayLike, rig: RigInfo, fps: float) -> SourceMotion:
    """The motion on the avatar's joints. posed: [T, B, 4, 4] world matrices of the bones in `rest`."""
    matrices = np.asarray(posed, np.float64)
    found = align(rest, rig)
    A = found.model_from_source
    turned = nearest_rotations(matrices[:, :, :3, :3]) @ np.swapaxes(rest.rotations, -1, -2)
    turned = A @ turned @ A.T
    whole = np.empty((len(matrices), len(rig.joint_names), 3, 3))
    local = np.empty_like(whole)
    for index, joint in enumerate(rig.joint_names):
        parent = int(rig.parents[index])
        above = whole[:, parent] if parent >= 0 else np.broadcast_to(np.eye(3), whole[:, 0].shape)
        if joint in rest.bones:
            whole[:, index] = turned[:, rest.bones[joint]] @ found.corrections[joint]
        else:
            whole[:, index] = above
        local[:, index] = np.swapaxes(above, -1, -2) @ whole[:, index]
    kept = [i for i in range(len(rig.joint_names)) if _moves(rig, i, rest.bones)]
    places = np.zeros((len(matrices), 3))
    root = rig.joint_names[int(np.flatnonzero(rig.parents < 0)[0])]
    if root in rest.bones:
        row = rest.bones[root]
        places = (matrices[:, row, :3, 3] - rest.heads[row]) @ A.T
    return SourceMotion(
        name,
        f"{style} armature",
        tuple(rig.joint_names[i] for i in kept),
        rotations.axis_angles_from_matrices(local[:, kept]),
        root if root in rest.bones else "",
        places,
        REST,
        (),
        np.zeros((len(matrices), 0)),
        fps,
        found.leg_m,
    )


def _facing(rest: SourceRest) -> Floats:
    """What turns the source's world so that it stands along z and faces -y at rest."""
    rows, heads = rest.bones, rest.heads
    trunk = next((name for name in ("head", "neck", "spine3", "spine2") if name in rows), None)
    pair = next(
        (p for p in (("left_hip", "right_hip"), ("left_shoulder", "right_shoulder")) if set(p) <= set(rows)), None
    )
    if trunk is None or pair is None or "pelvis" not in rows:
        raise errors.BadCapture(
            "The source armature has no trunk to tell its facing from",
            found=", ".join(sorted(rows)) or "no known bones",
            expected="hips, a spine or head, and legs or arms on both sides",
        )
    up = heads[rows[trunk]] - heads[rows["pelvis"]]
    axis = int(np.argmax(np.abs(up)))
    z = np.zeros(3)
    z[axis] = np.sign(up[axis])
    x = heads[rows[pair[0]]] - heads[rows[pair[1]]]
    x = x - z * (x @ z)
    if np.linalg.norm(x) < 1e-6:
        raise errors.BadCapture("The source armature's left and right sides are in the same place")
    x /= np.linalg.norm(x)
    nearest = np.zeros(3)
    nearest[int(np.argmax(np.abs(x)))] = np.sign(x[int(np.argmax(np.abs(x)))])
    if np.arccos(np.clip(x @ nearest, -1, 1)) < SNAP_RAD:
        x = nearest
    return np.stack([x, np.cross(z, x), z])


def _moves(rig: RigInfo, index: int, bones: Mapping[str, int]) -> bool:
    """Whether a joint or one below it follows a bone: then its own rotation counts."""
    below = {index}
    for other in range(index + 1, len(rig.joint_names)):
        if int(rig.parents[other]) in below:
            below.add(other)
    return any(rig.joint_names[i] in bones for i in below)


def _nearest_ancestor(rig: RigInfo, index: int, known: Mapping[str, Floats]) -> str:
    parent = int(rig.parents[index])
    while parent >= 0:
        if rig.joint_names[parent] in known:
            return rig.joint_names[parent]
        parent = int(rig.parents[parent])
    return ""


def _across_hand(
    name: str, rest: SourceRest, heads: Floats, joints: Mapping[str, Floats]
) -> tuple[Floats, Floats] | None:
    """From little finger to index of both hands, which tells how the palm lies; None where fingers are missing."""
    side, _, part = name.partition("_")
    ends = (f"{side}_pinky1", f"{side}_index1")
    if part != "wrist" or not (set(ends) <= set(rest.bones) and set(ends) <= set(joints)):
        return None
    theirs = heads[rest.bones[ends[1]]] - heads[rest.bones[ends[0]]]
    return theirs, joints[ends[1]] - joints[ends[0]]


def _between(a: Floats, b: Floats) -> Floats:
    """The smallest rotation that takes the direction of a to that of b."""
    u, v = _unit(a), _unit(b)
    cosine, axis = float(u @ v), np.cross(u, v)
    if cosine < -1 + 1e-9:  # opposite: half a turn about anything across
        side = np.cross(u, np.eye(3)[int(np.argmin(np.abs(u)))])
        side /= np.linalg.norm(side)
        return 2 * np.outer(side, side) - np.eye(3)
    x, y, z = axis
    cross = np.array(((0.0, -z, y), (z, 0.0, -x), (-y, x, 0.0)))
    return np.eye(3) + cross + cross @ cross / (1 + cosine)


def _frame(along: Floats, across: Floats) -> Floats:
    """Right-handed axes as columns: the first along, the second as near to across as possible."""
    first = _unit(along)
    second = _unit(across - first * (across @ first))
    return np.stack([first, second, np.cross(first, second)], axis=1)


def _unit(vector: Floats) -> Floats:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 1e-9 else np.array([0.0, 0.0, 1.0])


def _leg_m(rest: SourceRest) -> float | None:
    chain = ("left_hip", "left_knee", "left_ankle")
    if not all(name in rest.bones for name in chain):
        return None
    places: list[NDArray[np.float64]] = [rest.heads[rest.bones[name]] for name in chain]
    length = sum(float(np.linalg.norm(b - a)) for a, b in itertools.pairwise(places))
    return length if length > 1e-6 else None
