"""A body that walks, lifts its arms, squats, twists, reaches, lunges and bows: keyed poses with smooth ways between.

Angles of a joint are (bend, side, turn) in degrees about x, y and z of the model (z up, facing -y, left is +x), applied
side first, then bend, then turn. A name without side moves both sides, the right one mirrored.
"""

from __future__ import annotations

import numpy as np

from .._shared import template
from .motion import REST_EXPRESSION, REST_GAZE_RAD, Performance
from .noise import smoothstep, value_noise
from .surface import Array

Angles = tuple[float, float, float]
PAIRED = ("collar", "shoulder", "elbow", "wrist", "hip", "knee", "ankle", "foot")
FINGERS = ("index", "middle", "ring", "pinky")

STANDING: dict[str, Angles] = {
    "collar": (0, 5, 0),
    "shoulder": (0, 64, 0),
    "elbow": (0, 0, -16),
    "hip": (0, -4, 0),
    "ankle": (0, 4, 0),
}
_ARMS: list[dict[str, Angles]] = [
    {},
    {"shoulder": (0, 30, 0), "elbow": (0, 0, -8)},
    {"collar": (0, -4, 0), "shoulder": (0, -4, 0), "elbow": (0, 0, -5)},
    {"collar": (0, -16, 0), "shoulder": (0, -44, 0), "elbow": (0, 0, -20)},
    {"collar": (0, -20, 0), "shoulder": (0, -62, 0), "elbow": (0, 0, -12)},
    {"shoulder": (-88, 72, 0), "elbow": (0, 0, -6)},
    {"shoulder": (-50, 66, 0), "elbow": (0, 0, -105)},
    {"shoulder": (-18, 66, 0), "elbow": (0, 0, -70)},
]


def _squat(depth: float) -> dict[str, Angles]:
    """Knees bent by `depth` (1 = thighs level), arms forwards, feet flat and beneath the body."""
    return {
        "pelvis": (28 * depth, 0, 0),
        "shoulder": (-20 - 65 * depth, 68, 0),
        "hip": (-116 * depth, -4 - 10 * depth, 0),
        "knee": (114 * depth, 0, 0),
        "ankle": (-26 * depth, 4 + 4 * depth, 0),
        "spine2": (8 * depth, 0, 0),
        "neck": (-14 * depth, 0, 0),
    }


_SQUATS = [_squat(depth) for depth in (0.4, 0.8, 1.0, 0.7, 0.25)]
_GUARD: dict[str, Angles] = {"shoulder": (-35, 58, 0), "elbow": (0, 0, -100)}


def _twist(degrees: float) -> dict[str, Angles]:
    share = degrees / 3
    turned: dict[str, Angles] = {name: (0, 0, share) for name in ("spine1", "spine2", "spine3")}
    return {**_GUARD, **turned, "neck": (0, 0, 0.2 * degrees)}


def _lean(degrees: float) -> dict[str, Angles]:
    """Lean to the left (positive) with the other arm reaching up and over."""
    share, up = degrees / 3, "right" if degrees > 0 else "left"
    sign = -1 if up == "right" else 1
    spine: dict[str, Angles] = {name: (0, share, 0) for name in ("spine1", "spine2", "spine3")}
    arm: dict[str, Angles] = {
        f"{up}_collar": (0, -16 * sign, 0),
        f"{up}_shoulder": (0, -58 * sign, 0),
        f"{up}_elbow": (0, 0, -28 * sign),
    }
    return {**spine, **arm, "neck": (0, 0.3 * degrees, 0)}


_TWISTS = [_twist(degrees) for degrees in (15.0, 38.0, 54.0, -12.0, -34.0, -52.0, -24.0)]
_LEANS = [_lean(degrees) for degrees in (12.0, 28.0, 20.0, -14.0, -30.0, -22.0)]
_BACK_FOOT: dict[str, Angles] = {"right_ankle": (18, -4, 0), "right_foot": (-30, 0, 0)}
_LUNGES: list[dict[str, Angles]] = [
    {
        **_BACK_FOOT,
        "left_hip": (-55, -3, 0),
        "left_knee": (57, 0, 0),
        "right_hip": (22, 3, 0),
        "right_knee": (20, 0, 0),
    },
    {
        **_BACK_FOOT,
        "left_hip": (-85, -4, 0),
        "left_knee": (88, 0, 0),
        "right_hip": (30, 4, 0),
        "right_knee": (45, 0, 0),
    },
    {"right_hip": (-80, 6, 0), "right_knee": (30, 0, 0), "left_hip": (8, -3, 0), "spine1": (-6, 0, 0)},
    {"right_hip": (-62, 5, 0), "right_knee": (105, 0, 0), "left_hip": (2, -3, 0)},
    {"right_hip": (-60, 4, 0), "right_knee": (66, 0, 0), "left_hip": (24, -4, 0), "left_knee": (24, 0, 0)},
]
_BOWS: list[dict[str, Angles]] = [
    {"pelvis": (18, 0, 0), "spine1": (12, 0, 0), "spine2": (12, 0, 0), "hip": (-24, -4, 0), "shoulder": (-30, 67, 0)},
    {"pelvis": (34, 0, 0), "spine1": (22, 0, 0), "spine2": (18, 0, 0), "hip": (-42, -4, 0), "shoulder": (-62, 68, 0)},
    {"pelvis": (24, 0, 0), "spine1": (16, 0, 0), "spine2": (14, 0, 0), "hip": (-30, -4, 0), "shoulder": (-40, 67, 0)},
]


def _walk(steps: int) -> list[dict[str, Angles]]:
    poses = []
    for k in range(steps):
        phase = 2 * np.pi * k / steps
        swing = float(np.sin(phase))
        lift_left, lift_right = (float(max(np.sin(phase + shift), 0.0)) for shift in (1.2, 1.2 + np.pi))
        poses.append(
            {
                "left_hip": (-24 * swing - 6 * lift_left, -3, 0.0),
                "right_hip": (24 * swing - 6 * lift_right, 3, 0.0),
                "left_knee": (7 + 50 * lift_left, 0.0, 0.0),
                "right_knee": (7 + 50 * lift_right, 0.0, 0.0),
                "left_ankle": (-6 * swing, 4.0, 0.0),
                "right_ankle": (6 * swing, -4.0, 0.0),
                "left_shoulder": (26 * swing, 68.0, 0.0),
                "right_shoulder": (-26 * swing, -68.0, 0.0),
                "left_elbow": (0.0, 0.0, -22 + 16 * swing),
                "right_elbow": (0.0, 0.0, 22 + 16 * swing),
                "spine1": (2.0, 0.0, 3 * swing),
                "spine3": (0.0, 0.0, 5 * swing),
            }
        )
    return poses


def everyday_poses() -> list[dict[str, Angles]]:
    """All keyed poses in order, each complete: angles in degrees for every joint that moves."""
    clips = [_walk(12), _ARMS, _SQUATS, _TWISTS, _LEANS, _LUNGES, _BOWS]
    return [complete_pose(pose) for clip in clips for pose in clip]


def everyday(body: template.TemplateArrays, frames: int, seed: int) -> Performance:
    """The keyed poses at `frames` instants, one after the other, with a little life in head, hands and face.

    The root stays at the origin; `on_floor` sets the feet down.
    """
    keys = everyday_poses()
    at = np.arange(frames) * (len(keys) / max(frames, 1))
    rotations = np.zeros((frames, len(body.joint_names), 3))
    for frame, place in enumerate(at):
        low = int(place)
        share = float(smoothstep(0.0, 1.0, place - low))
        first, second = keys[low], keys[(low + 1) % len(keys)]
        for name in first.keys() | second.keys():
            mixed = (1 - share) * np.array(first.get(name, (0, 0, 0))) + share * np.array(second.get(name, (0, 0, 0)))
            rotations[frame, body.joint(name)] = axis_angle(np.radians(mixed))

    def curve(channel: int, period: float) -> Array:
        points = np.stack([at / period, np.full(frames, 5.7 * channel + 0.5), np.zeros(frames)], axis=1)
        return np.clip(2.4 * (value_noise(points, 1.0, seed + channel) - 0.5), -1, 1).astype(np.float64)

    turn, nod = curve(0, 4), curve(1, 3)
    rotations[:, body.joint("head")] += np.stack([0.14 * nod, 0.05 * curve(2, 3), 0.32 * turn], axis=1)
    rotations[:, body.joint("neck"), 2] += 0.15 * turn
    rotations[:, body.joint("jaw"), 0] = 0.10 * np.clip(curve(3, 2), 0, 1)
    rotations[:, body.joint("pelvis"), 2] += 0.25 * curve(4, 5)
    for name in ("left_eye", "right_eye"):
        rotations[:, body.joint(name), 0] = REST_GAZE_RAD
    for side, sign in (("left", 1.0), ("right", -1.0)):
        curl = 0.30 + 0.22 * curve(5 if sign > 0 else 6, 4)
        for finger in FINGERS:
            for bone, gain in ((1, 0.7), (2, 1.0), (3, 0.7)):
                rotations[:, body.joint(f"{side}_{finger}{bone}"), 1] = sign * curl * gain
        rotations[:, body.joint(f"{side}_wrist"), 1] = sign * 0.12 * curve(7 if sign > 0 else 8, 3)
    expressions = np.zeros((frames, len(body.expression_names)))
    for name, weight in REST_EXPRESSION.items():
        expressions[:, body.expression_names.index(name)] = weight
    smile = np.clip(curve(9, 6), 0, 1)
    for side in ("Left", "Right"):
        expressions[:, body.expression_names.index(f"mouthSmile{side}")] += 0.5 * smile
    return Performance(
        rotations.astype(np.float32), np.zeros((frames, 3), np.float32), np.clip(expressions, 0, 1).astype(np.float32)
    )


def on_floor(performance: Performance, body: template.TemplateArrays, *, preset: str, shape: Array) -> Performance:
    """The same with the lowest point of each pose on the plane z = 0 and the pelvis above the origin. Soles 12 mm."""
    rest, joints = template.rest(body, preset=preset, shape=shape)
    skin = body.group_vertices("skin")
    translations = np.zeros_like(performance.translations)
    for frame, rotations in enumerate(performance.rotations):
        skinning, _ = template.joint_transforms(rotations, joints, body.parents)
        translations[frame, 2] = 0.012 - template.skin(rest[skin], body.weights[skin], skinning)[:, 2].min()
    return Performance(performance.rotations, translations, performance.expressions)


def axis_angle(euler_rad: Array) -> Array:
    """Axis-angle [3] rad of (x, y, z) angles applied about y first, then x, then z."""
    x, y, z = (np.array([np.cos(angle / 2), *(np.sin(angle / 2) * axis)]) for angle, axis in zip(euler_rad, np.eye(3)))
    w, *vector = _quaternion_product(z, _quaternion_product(x, y))
    length = float(np.linalg.norm(vector))
    if length < 1e-9:
        return np.zeros(3)
    return 2 * np.arctan2(length, w) * np.array(vector) / length


def _quaternion_product(a: Array, b: Array) -> Array:
    (aw, av), (bw, bv) = (a[0], a[1:]), (b[0], b[1:])
    return np.array([aw * bw - av @ bv, *(aw * bv + bw * av + np.cross(av, bv))])


def complete_pose(pose: dict[str, Angles]) -> dict[str, Angles]:
    """`pose` over `STANDING`, with names of pairs written out for both sides."""
    both: dict[str, Angles] = {}
    for source in (STANDING, pose):
        for name, (bend, side, turn) in source.items():
            if name in PAIRED:
                both[f"left_{name}"] = (bend, side, turn)
                both[f"right_{name}"] = (bend, -side, -turn)
        both.update({name: angles for name, angles in source.items() if name not in PAIRED})
    return both
