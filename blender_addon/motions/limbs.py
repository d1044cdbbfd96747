"""A body to animate by rule: legs from where the feet are, arms from where they point. Model axes, metres, radians."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._shared import rotations, template
from ..logic.motion_fit import leg_length_m

Floats = NDArray[np.float64]
Turns = dict[str, Floats]
"""Joint -> local rotations [T, 3, 3]."""
STRAIGHT = 0.9985
"""How much of its length a leg reaches at most: a locked knee looks stiff and jerks."""


@dataclass(frozen=True, eq=False)
class Body:
    """The open template's mean adult. joints: [J, 3] m with the soles at z = 0.

    leg_m: from the floor to the pelvis, standing. ankle_high_m: ankle above the floor. heel_back_m, ball_front_m: from
    the ankle to where the foot rolls.
    """

    names: tuple[str, ...]
    parents: NDArray[np.int32]
    joints: Floats
    expression_names: tuple[str, ...]
    leg_m: float
    ankle_high_m: float
    heel_back_m: float
    ball_front_m: float

    @staticmethod
    def of_template() -> Body:
        """Measure it."""
        human = template.load_template()
        floor = float(human.vertices[human.group_vertices("skin"), 2].min())
        joints = human.joints.astype(np.float64) - (0.0, 0.0, floor)
        ankle, ball = joints[human.joint("left_ankle")], joints[human.joint("left_foot")]
        return Body(
            human.joint_names,
            human.parents,
            joints,
            human.expression_names,
            float(joints[0, 2]),
            float(ankle[2]),
            0.045,
            float(ankle[1] - ball[1]),
        )

    def at_rest(self, frames: int) -> Turns:
        """No joint turned."""
        return {name: np.tile(np.eye(3), (frames, 1, 1)) for name in self.names}

    def joint(self, name: str) -> Floats:
        """Where a joint rests, [3] m."""
        return self.joints[self.names.index(name)]

    def offset(self, first: str, second: str) -> Floats:
        """From one joint to another at rest."""
        return self.joint(second) - self.joint(first)

    def packed(
        self, turns: Turns, places: Floats, fps: float, faces: dict[str, Floats] | None = None
    ) -> dict[str, NDArray[np.generic]]:
        """The arrays of a motion file. places: [T, 3] m of the pelvis above the floor z = 0."""
        moved = [n for n in self.names if np.abs(turns[n] - np.eye(3)).max() > 1e-9 or n == self.names[0]]
        known = faces or {}
        return {
            "rotations": np.stack([rotations.axis_angles_from_matrices(turns[n]) for n in moved], 1).astype(np.float32),
            "translations": (places - (0.0, 0.0, self.leg_m)).astype(np.float32),
            "expressions": np.stack([known[n] for n in known], 1).astype(np.float32)
            if known
            else np.zeros((len(places), 0), np.float32),
            "joint_names": np.array(moved),
            "expression_names": np.array(list(known), dtype="U32"),
            "fps": np.array(fps),
            "root": np.array(self.names[0]),
            "leg_m": np.array(leg_length_m(self.names, self.joints)),
        }


def about(axis: str, angle_rad: ArrayLike) -> Floats:
    """[T, 3, 3] turns about a model axis."""
    vectors = np.zeros((len(np.atleast_1d(angle_rad)), 3))
    vectors[:, "xyz".index(axis)] = angle_rad
    return template.rotation_matrices(vectors)


def frames(along: Floats, across: Floats) -> Floats:
    """[T, 3, 3] right-handed axes as columns: the first along, the second as near to across as possible."""
    first = along / np.linalg.norm(along, axis=-1, keepdims=True)
    second = across - first * (first * across).sum(-1, keepdims=True)
    second = second / np.linalg.norm(second, axis=-1, keepdims=True)
    return np.stack([first, second, np.cross(first, second)], -1)


def leg(
    body: Body,
    turns: Turns,
    side: str,
    pelvis: Floats,
    places: Floats,
    ankle: Floats,
    pitch: Floats,
    toes_out: float = 0.0,
) -> None:
    """Turn hip, knee, ankle and toes so that the ankle [T, 3] m is where it should be, the foot pitched [T] rad.

    pelvis: [T, 3, 3] and places: [T, 3] m, where it is. toes_out: turn of the foot about z. Toes stay flat on the floor
    while the heel is up.
    """
    hip = places + np.einsum("tab,b->ta", pelvis, body.offset("pelvis", f"{side}_hip"))
    thigh, shin = body.offset(f"{side}_hip", f"{side}_knee"), body.offset(f"{side}_knee", f"{side}_ankle")
    a, b = np.linalg.norm(thigh), np.linalg.norm(shin)
    reach = ankle - hip
    distance = np.linalg.norm(reach, axis=-1, keepdims=True)
    limit = STRAIGHT * (a + b)
    straight = reach / distance
    distance = np.minimum(distance, limit)
    outward = about("z", np.full(len(reach), 0.5 * toes_out))
    forward = np.einsum("tab,b->ta", outward, np.array([0.0, -1.0, 0.0]))
    forward = forward - straight * (forward * straight).sum(-1, keepdims=True)
    forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
    along = (a**2 + distance**2 - b**2) / (2 * distance)
    out = np.sqrt(np.maximum(a**2 - along**2, 0))
    knee = straight * along + forward * out
    foot = straight * distance
    hinge = np.cross(forward, straight)  # points to the body's left, as x does at rest
    rest_hinge = np.tile([1.0, 0.0, 0.0], (len(reach), 1))
    g_hip = frames(knee, hinge) @ np.swapaxes(frames(np.tile(thigh, (len(reach), 1)), rest_hinge), -1, -2)
    g_knee = frames(foot - knee, hinge) @ np.swapaxes(frames(np.tile(shin, (len(reach), 1)), rest_hinge), -1, -2)
    g_foot = about("z", np.full(len(reach), toes_out)) @ about("x", -pitch)
    turns[f"{side}_hip"] = np.swapaxes(pelvis, -1, -2) @ g_hip
    turns[f"{side}_knee"] = np.swapaxes(g_hip, -1, -2) @ g_knee
    turns[f"{side}_ankle"] = np.swapaxes(g_knee, -1, -2) @ g_foot
    turns[f"{side}_foot"] = about("x", np.minimum(pitch, 0) * 0.85)


def arm(
    body: Body,
    turns: Turns,
    side: str,
    upper: Floats,
    fore: Floats,
    palm: Floats,
    hand_lean: Floats | None = None,
) -> None:
    """Turn shoulder, elbow and wrist so that the arm points along upper and fore [T, 3], the palm facing `palm`.

    Directions are relative to the chest. The collar takes a share of what lifts the arm. hand_lean: [T] rad sideways.
    """
    count = len(upper)
    sign = 1.0 if side == "left" else -1.0
    upper = upper / np.linalg.norm(upper, axis=-1, keepdims=True)
    fore = fore / np.linalg.norm(fore, axis=-1, keepdims=True)
    lift = np.arcsin(np.clip(upper[:, 2], -1, 1))
    collar = about("y", sign * np.where(lift > 0, -0.35 * lift, -0.10 * lift))
    rest_upper = np.tile(body.offset(f"{side}_shoulder", f"{side}_elbow"), (count, 1))
    rest_fore = np.tile(body.offset(f"{side}_elbow", f"{side}_wrist"), (count, 1))
    hinge = np.cross(upper, fore)
    rest_hinge = np.tile([0.0, 0.0, -sign], (count, 1))  # at rest elbows bend forward
    g_upper = frames(upper, hinge) @ np.swapaxes(frames(rest_upper, rest_hinge), -1, -2)
    plain = frames(fore, hinge) @ np.swapaxes(frames(rest_fore, rest_hinge), -1, -2)
    down = np.tile([0.0, 0.0, -1.0], (count, 1))
    g_hand = frames(fore, palm) @ np.swapaxes(frames(rest_fore, down), -1, -2)
    twist = rotations.axis_angles_from_matrices(np.swapaxes(plain, -1, -2) @ g_hand)
    g_fore = plain @ template.rotation_matrices(0.6 * twist)
    if hand_lean is not None:
        g_hand = g_hand @ about("z", hand_lean)
    turns[f"{side}_collar"] = collar
    turns[f"{side}_shoulder"] = np.swapaxes(collar, -1, -2) @ g_upper
    turns[f"{side}_elbow"] = np.swapaxes(g_upper, -1, -2) @ g_fore
    turns[f"{side}_wrist"] = np.swapaxes(g_fore, -1, -2) @ g_hand
