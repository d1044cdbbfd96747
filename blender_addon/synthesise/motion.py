"""Procedural performance of a talking head: speech, smiles, brows, blinks, gaze and head turns from seeded curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._shared import template
from .noise import smoothstep, value_noise

ARMS_DOWN_RAD = {"collar": 0.14, "shoulder": 0.82}
REST_EXPRESSION = {"eyeWideLeft": 0.18, "eyeWideRight": 0.18, "mouthSmileLeft": 0.14, "mouthSmileRight": 0.14}
"""MakeHuman's neutral lids are heavy and its mouth stern; people at rest look like this."""
REST_GAZE_RAD = 0.05
BLINKS = (0.05, 11 / 60, 0.335, 29 / 60, 0.60, 0.79, 0.93)
WIDE_OPEN = ((17 / 60, 1.0), (0.44, 0.75), (41 / 60, 0.9), (0.87, 1.0))
SMILES = ((0.03, 0.6), (0.13, 0.9), (0.26, 0.7), (0.40, 0.8), (0.55, 0.9), (0.64, 1.0), (0.76, 0.7), (0.90, 0.7))
_OFTEN = {  # name: (gain, noise level above which it shows)
    "browInnerUp": (0.9, 0.60),
    "browOuterUpLeft": (1.5, 0.56),
    "browDownLeft": (1.2, 0.60),
    "cheekPuff": (1.4, 0.70),
    "eyeSquintLeft": (1.1, 0.60),
    "jawLeft": (0.8, 0.68),
    "jawRight": (0.8, 0.68),
    "jawForward": (0.7, 0.68),
    "mouthDimpleLeft": (1.1, 0.60),
    "mouthFrownLeft": (0.9, 0.72),
    "mouthFunnel": (1.6, 0.57),
    "mouthLeft": (0.9, 0.68),
    "mouthRight": (0.9, 0.68),
    "mouthLowerDownLeft": (0.9, 0.60),
    "mouthPressLeft": (0.9, 0.62),
    "mouthPucker": (1.9, 0.57),
    "mouthRollLower": (1.0, 0.64),
    "mouthRollUpper": (0.9, 0.66),
    "mouthShrugLower": (0.7, 0.64),
    "mouthShrugUpper": (0.7, 0.66),
    "mouthSmileLeft": (1.1, 0.52),
    "mouthStretchLeft": (0.8, 0.64),
    "mouthUpperUpLeft": (1.1, 0.56),
    "noseSneerLeft": (0.8, 0.68),
}


@dataclass(frozen=True, eq=False)
class Performance:
    """rotations: [T, J, 3] rad; translations: [T, 3] m; expressions: [T, E] in 0..1, all of the bust view."""

    rotations: NDArray[np.float32]
    translations: NDArray[np.float32]
    expressions: NDArray[np.float32]


def talking_head(bust: template.TemplateArrays, frames: int, seed: int) -> Performance:
    """A performance of `frames` instants; the same story for any count, told in the same order.

    Its events fall so that with 60 frames and every sixth held out, both shares hold closed eyes, a wide open mouth,
    a closed mouth and head turns.
    """
    u = np.arange(frames) / max(frames, 1)

    def curve(channel: int, cycles: float) -> NDArray[np.float64]:
        """A smooth random curve in -1..1 with about `cycles` turns."""
        points = np.stack([cycles * 2 * u, np.full(frames, 7.3 * channel + 0.5), np.zeros(frames)], axis=1)
        return np.clip(2.6 * (value_noise(points, 1.0, seed + channel) - 0.5), -1, 1).astype(np.float64)

    def bumps(events: tuple[tuple[float, float], ...], width: float) -> NDArray[np.float64]:
        """Smooth hills of half-width `width` (share of the whole) at (time, height)."""
        hills = [height * smoothstep(width, 0.0, np.abs(u - round(at * frames) / frames)) for at, height in events]
        return np.max(hills, axis=0)

    names = bust.expression_names
    expressions = np.zeros((frames, len(names)))

    def act(name: str, amount: NDArray[np.float64], skew: NDArray[np.float64] | float = 0.0) -> None:
        """Add an action; a name ending in Left moves its Right twin too, up to `skew` more or less."""
        expressions[:, names.index(name)] += amount
        if name.endswith("Left") and name not in ("mouthLeft", "jawLeft"):
            expressions[:, names.index(name[:-4] + "Right")] += amount * (1 - skew)

    wide = bumps(WIDE_OPEN, 0.030)
    calm = 1 - 0.8 * wide
    for k, (name, (gain, floor)) in enumerate(_OFTEN.items()):
        level = value_noise(
            np.stack([u * 13, np.full(frames, 3.7 * k + 0.5), np.zeros(frames)], 1), 1.0, seed + 100 + k
        )
        amount = np.clip(gain * (level - floor) / (1 - floor), 0, 0.85)
        act(name, amount * (calm if name.startswith("mouth") else 1.0), 0.5 * np.abs(curve(60 + k, 4)))
    smile = bumps(SMILES, 0.055)
    act("mouthSmileLeft", 0.8 * smile, 0.2 * np.abs(curve(40, 3)))
    act("cheekSquintLeft", 0.45 * smile)
    act("mouthUpperUpLeft", 0.25 * smile + 0.35 * wide)
    act("mouthLowerDownLeft", 0.20 * wide)
    act("eyeWideLeft", 0.5 * np.clip(curve(41, 4) - 0.4, 0, 1) + 0.3 * wide)

    speech = np.clip(0.5 + 0.9 * curve(1, 11), 0, 1) * np.clip(0.75 + curve(2, 3), 0.0, 1.0)
    act("jawOpen", np.clip(0.35 * np.clip(curve(3, 7), 0, 1) * (1 - wide), 0, 1))
    blink = np.zeros(frames)
    for at in BLINKS:
        blink = np.maximum(
            blink, np.interp(np.abs(np.arange(frames) - round(at * frames)), [0, 1, 2], [1.0, 0.45, 0.0])
        )
    nod, turn = curve(4, 3), 0.80 * np.sin(2 * np.pi * (2.5 * u + 0.05)) + 0.3 * curve(5, 3.5)
    gaze_side, gaze_up = curve(6, 6), curve(7, 5)
    act("eyeBlinkLeft", blink + (1 - blink) * 0.25 * np.clip(-gaze_up, 0, 1))
    for name, weight in REST_EXPRESSION.items():
        free = (1 - blink) if name.startswith("eye") else (1 - smile)
        expressions[:, names.index(name)] += weight * free

    rotations = np.zeros((frames, len(bust.joint_names), 3))

    def turn_joint(name: str, x: object = 0.0, y: object = 0.0, z: object = 0.0) -> None:
        for axis, value in enumerate((x, y, z)):
            rotations[:, bust.joint(name), axis] = value

    for joint, angle in ARMS_DOWN_RAD.items():
        turn_joint(f"left_{joint}", y=angle)
        turn_joint(f"right_{joint}", y=-angle)
    turn_joint("spine3", 0.02 * curve(8, 2), 0.02 * curve(9, 2), 0.04 * curve(10, 2))
    turn_joint("neck", 0.07 * nod, 0.03 * curve(11, 3), 0.18 * turn)
    turn_joint("head", 0.11 * nod, 0.06 * curve(12, 3), 0.28 * turn)
    turn_joint("jaw", 0.19 * speech * (1 - wide) + 0.36 * wide)
    for name in ("left_eye", "right_eye"):
        turn_joint(name, REST_GAZE_RAD - 0.13 * gaze_up, 0.0, 0.26 * gaze_side)
    translations = 0.004 * np.stack([curve(20 + k, 2) for k in range(3)], axis=1)
    return Performance(
        rotations.astype(np.float32), translations.astype(np.float32), np.clip(expressions, 0, 1).astype(np.float32)
    )
