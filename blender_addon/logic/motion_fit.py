"""A file's motion made this avatar's: joints by name, legs' length, floor, place, and the scene's frame rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .._shared import errors, rotations, template, types
from .joint_regions import FEET
from .motion_source import REST, WORLD, Floats, SourceMotion
from .rig_layout import RigInfo

DEFAULT_FPS = {"FLAME track": 25.0}
USUAL_FPS = 30.0
FLOOR_PERCENTILE = 2.0
MOST_FRAMES = 1_000_000
LEG = (("left_hip", "left_knee"), ("left_knee", "left_ankle"))


@dataclass(frozen=True)
class FitOptions:
    """How a motion arrives.

    scene_fps: frames a second of what comes out. source_fps: of the file, 0 for what it says. scale: of the travel; 0
    takes the ratio of the legs' lengths. in_place: no travel over the floor. at_origin: it begins above the avatar's
    origin. forward: it begins facing where the avatar faces. on_floor: the lowest sole touches the floor.
    """

    scene_fps: float
    source_fps: float = 0.0
    scale: float = 0.0
    in_place: bool = False
    at_origin: bool = True
    forward: bool = False
    on_floor: bool = True


@dataclass(frozen=True, eq=False)
class FittedMotion:
    """A motion of the avatar's rig. joints: names of those the source moves; expressions: names of those it knows."""

    motion: types.Motion
    joints: tuple[str, ...]
    expressions: tuple[str, ...]
    travels: bool
    notes: tuple[str, ...]


def fit(source: SourceMotion, rig: RigInfo, options: FitOptions) -> FittedMotion:
    """The source on the rig, at the scene's frame rate. Raises BadCapture where nothing of it fits."""
    notes = list(source.notes)
    matrices, joints = _on_joints(source, rig, notes)
    expressions, known = _on_expressions(source, rig, notes)
    if not joints and not known:
        raise errors.BadCapture(
            f"{source.name} moves nothing that this avatar has",
            found=", ".join((*source.joint_names, *source.expression_names)[:6]) or "no names",
            expected=", ".join(rig.joint_names[:6]),
        )
    places, travels = _places(source, rig, options)
    if travels and options.forward:
        matrices, places = _facing_forward(matrices, places)
    if travels and options.at_origin:
        places = places - places[0] * (1.0, 1.0, 0.0)
    if travels and options.in_place:
        places = places * (0.0, 0.0, 1.0) + places[0] * (1.0, 1.0, 0.0)
    fps = options.source_fps or source.fps or DEFAULT_FPS.get(source.label, USUAL_FPS)
    if not (options.source_fps or source.fps):
        notes.append(f"{source.name} does not say its frame rate: {fps:g} a second are assumed.")
    quaternions = rotations.continuous(rotations.quaternions_from_matrices(matrices))
    quaternions, places, expressions = resampled((quaternions, places, expressions), fps, options.scene_fps)
    matrices = rotations.matrices_from_quaternions(quaternions)
    if options.on_floor and rig.floor_m is not None and any(name in joints for name in FEET):
        places = places - (0.0, 0.0, _lowest_sole(matrices, places, rig))
        travels = True
    vectors = rotations.axis_angles_from_matrices(matrices)
    motion = types.Motion(vectors, places, expressions, options.scene_fps)
    return FittedMotion(motion, joints, known, travels, tuple(notes))


def resampled(
    values: tuple[Floats, Floats, Floats], source_fps: float, target_fps: float
) -> tuple[Floats, Floats, Floats]:
    """(quaternions [T, J, 4], places [T, 3], expressions [T, E]) at another frame rate, over the same time.

    Between frames quaternions turn evenly (slerp) and the others go straight. Raises BadCapture for absurd lengths.
    """
    count = len(values[0])
    length = int(np.floor((count - 1) * target_fps / source_fps + 1e-6)) + 1
    if length > MOST_FRAMES:
        raise errors.BadCapture("The motion is too long", found=f"{length} frames", expected=f"at most {MOST_FRAMES}")
    if count == 1 or abs(source_fps - target_fps) < 1e-9:
        return values
    at = np.minimum(np.arange(length) * (source_fps / target_fps), count - 1)
    first = np.minimum(at.astype(int), count - 2)
    part = at - first
    quaternions, places, expressions = values
    straight = [
        value[first] * (1 - part)[:, None] + value[first + 1] * part[:, None] for value in (places, expressions)
    ]
    return _slerp(quaternions[first], quaternions[first + 1], part[:, None, None]), straight[0], straight[1]


def _slerp(a: Floats, b: Floats, part: Floats) -> Floats:
    cosine = np.clip((a * b).sum(-1, keepdims=True), -1.0, 1.0)
    angle = np.arccos(cosine)
    sine = np.sin(angle)
    near = sine < 1e-6
    safe = np.where(near, 1.0, sine)
    turned = np.where(near, 1 - part, np.sin((1 - part) * angle) / safe) * a
    turned = turned + np.where(near, part, np.sin(part * angle) / safe) * b
    return turned / np.linalg.norm(turned, axis=-1, keepdims=True)


def joint_places(matrices: ArrayLike, rest_joints: ArrayLike, parents: ArrayLike) -> Floats:
    """[T, J, 3] m of the joints for local rotations [T, J, 3, 3], the root where it rests."""
    local, rest = np.asarray(matrices, np.float64), np.asarray(rest_joints, np.float64)
    turned, placed = np.empty_like(local), np.empty((*local.shape[:2], 3))
    for joint, parent in enumerate(np.asarray(parents)):
        if parent < 0:
            turned[:, joint], placed[:, joint] = local[:, joint], rest[joint]
        else:
            turned[:, joint] = turned[:, parent] @ local[:, joint]
            placed[:, joint] = placed[:, parent] + turned[:, parent] @ (rest[joint] - rest[parent])
    return placed


def leg_length_m(joint_names: tuple[str, ...], rest_joints: ArrayLike) -> float | None:
    """Hip to ankle along the left leg, None for rigs without legs."""
    if not all(name in joint_names for bone in LEG for name in bone):
        return None
    joints = np.asarray(rest_joints, np.float64)
    return float(sum(np.linalg.norm(joints[joint_names.index(b)] - joints[joint_names.index(a)]) for a, b in LEG))


def _on_joints(source: SourceMotion, rig: RigInfo, notes: list[str]) -> tuple[Floats, tuple[str, ...]]:
    """Local rotations [T, J, 3, 3] of the rig's joints and the names of those that the source has something for."""
    names = source.joint_names or rig.joint_names
    if len(names) != source.rotations.shape[1]:
        raise errors.BadCapture(
            f"{source.name} is a motion of another rig",
            found=f"{source.rotations.shape[1]} joints without names",
            expected=f"{len(names)} joints",
        )
    given = template.rotation_matrices(source.rotations)

    def of(*chain: str) -> Floats | None:
        """Rotation of the last of a chain of joints relative to before the first; None where none is in the source."""
        known = [given[:, names.index(name)] for name in chain if name in names]
        whole = known[0] if known else None
        for more in known[1:]:
            whole = whole @ more
        return whole

    recipes = {name: (name,) for name in rig.joint_names}
    if "head" not in rig.joint_names and "head" in names and "neck" in rig.joint_names:
        recipes["neck"] = ("neck", "head")  # FLAME's neck carries the head
    elif "head" in rig.joint_names and "head" not in names and "neck" in names:
        recipes |= {"neck": ("root",), "head": ("neck",)}
        notes.append("The head follows the source's neck, the neck its whole turn.")
    matrices = np.tile(template.rotation_matrices(rig.rest_pose), (len(source), 1, 1, 1))
    moved = []
    for index, name in enumerate(rig.joint_names):
        found = of(*recipes[name])
        if found is not None:
            matrices[:, index] = found
            moved.append(name)
    lost = [name for name in names if name not in rig.joint_names and np.abs(_spread(source, names, name)) > 1e-2]
    if lost and len(moved) < len(names):
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        notes.append(f"The avatar has no joint {', '.join(lost[:3])}{more}: their turns are left out.")
    return matrices, tuple(moved)


def _spread(source: SourceMotion, names: tuple[str, ...], name: str) -> float:
    return float(np.ptp(source.rotations[:, names.index(name)], axis=0).max(initial=0.0))


def _on_expressions(source: SourceMotion, rig: RigInfo, notes: list[str]) -> tuple[Floats, tuple[str, ...]]:
    names = source.expression_names
    if not names and source.expressions.shape[1] == len(rig.expression_names):
        names = rig.expression_names
    known = tuple(name for name in rig.expression_names if name in names)
    values = np.zeros((len(source), len(rig.expression_names)))
    for name in known:
        values[:, rig.expression_names.index(name)] = source.expressions[:, names.index(name)]
    if names and not known and rig.expression_names:
        notes.append(f"{source.name} speaks another expression model ({names[0]}, …): the face stays as it is.")
    elif len(known) < len(names):
        notes.append(f"{len(names) - len(known)} expressions of {source.name} are not the avatar's and are left out.")
    return values, known


def _places(source: SourceMotion, rig: RigInfo, options: FitOptions) -> tuple[Floats, bool]:
    """Translations [T, 3] m of the rig's root, and whether the source has something to say about them."""
    root = rig.joint_names[int(np.flatnonzero(rig.parents < 0)[0])]
    if source.root not in ("", root):
        return np.zeros((len(source), 3)), False
    scale = options.scale
    if scale <= 0:
        leg = leg_length_m(rig.joint_names, rig.rest_joints)
        scale = leg / source.leg_m if leg and source.leg_m else 1.0
    places = source.places * scale
    if source.measured == WORLD:
        places = places - rig.rest_joints[rig.joint_names.index(root)].astype(np.float64)
    assert source.measured in (WORLD, REST)
    return places, True


def _facing_forward(matrices: Floats, places: Floats) -> tuple[Floats, Floats]:
    """Turned about z so that the first frame's root faces -y."""
    facing = matrices[0, 0] @ np.array([0.0, -1.0, 0.0])
    if np.hypot(facing[0], facing[1]) < 1e-3:
        return matrices, places
    angle = -np.arctan2(facing[0], -facing[1])
    turn = template.rotation_matrices(np.array([0.0, 0.0, angle]))
    turned = matrices.copy()
    turned[:, 0] = turn @ matrices[:, 0]
    return turned, places @ turn.T


def _lowest_sole(matrices: Floats, places: Floats, rig: RigInfo) -> float:
    """z of the soles where they are lowest, but for the lowest FLOOR_PERCENTILE of frames."""
    assert rig.floor_m is not None
    feet = [rig.joint_names.index(name) for name in FEET if name in rig.joint_names]
    joints = joint_places(matrices, rig.rest_joints, rig.parents)[:, feet, 2] + places[:, 2:]
    soles = (joints - (rig.rest_joints[feet, 2] - rig.floor_m)).min(axis=1)
    return float(np.percentile(soles, FLOOR_PERCENTILE))
