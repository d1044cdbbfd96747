"""A demanding performance at natural speed: wide expressions, one-sided faces, gaze extremes, large head turns, speech.

Written for captures whose held-out frames are whole stretches of time: every event comes at least twice, far apart, so
that a stretch that is held out has its like in training.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._shared import template
from .motion import ARMS_DOWN_RAD, REST_EXPRESSION, REST_GAZE_RAD, Performance
from .noise import smoothstep, value_noise

STORY_S = 24.0
_Face = dict[str, float]
FACES: dict[str, _Face] = {  # a name ending in Both moves left and right alike; jaw is the joint's turn in rad
    "big_smile": {
        "mouthSmileBoth": 1.0,
        "cheekSquintBoth": 0.7,
        "mouthUpperUpBoth": 0.35,
        "eyeSquintBoth": 0.35,
        "mouthStretchBoth": 0.3,
    },
    "laugh": {
        "mouthSmileBoth": 1.0,
        "mouthUpperUpBoth": 0.5,
        "cheekSquintBoth": 0.8,
        "eyeSquintBoth": 0.6,
        "jaw": 0.26,
    },
    "frown": {"mouthFrownBoth": 1.0, "browDownBoth": 0.9, "mouthShrugLower": 0.6},
    "brows_up": {"browInnerUp": 0.9, "browOuterUpBoth": 1.0, "eyeWideBoth": 0.8},
    "wink_left": {"eyeBlinkLeft": 1.0, "cheekSquintLeft": 0.8, "mouthSmileLeft": 0.5, "browDownLeft": 0.4},
    "puff": {"cheekPuff": 1.0, "mouthPressBoth": 0.4, "mouthPucker": 0.3},
    "tongue": {"tongueOut": 1.0, "jaw": 0.24, "mouthLowerDownBoth": 0.3},
    "smile_left": {"mouthSmileLeft": 1.0, "mouthLeft": 0.5, "cheekSquintLeft": 0.7, "mouthDimpleLeft": 0.6},
    "smile_right": {"mouthSmileRight": 1.0, "mouthRight": 0.5, "cheekSquintRight": 0.7, "mouthDimpleRight": 0.6},
    "kiss": {"mouthPucker": 1.0, "mouthFunnel": 0.3},
    "round": {"mouthFunnel": 1.0, "jaw": 0.14, "browInnerUp": 0.3},
    "press": {"mouthPressBoth": 1.0, "mouthRollLower": 0.8, "mouthRollUpper": 0.7, "mouthDimpleBoth": 0.4},
    "wide_open": {"jaw": 0.40, "mouthUpperUpBoth": 0.35, "mouthLowerDownBoth": 0.3, "eyeWideBoth": 0.4},
    "disgust": {"noseSneerBoth": 1.0, "browDownBoth": 0.8, "mouthUpperUpBoth": 0.7, "eyeSquintBoth": 0.5},
    "wink_right": {"eyeBlinkRight": 1.0, "cheekSquintRight": 0.8, "mouthSmileRight": 0.5, "browDownRight": 0.4},
    "jaw_left": {"jawLeft": 1.0, "mouthLeft": 0.7, "jaw": 0.08},
    "jaw_right": {"jawRight": 1.0, "mouthRight": 0.7, "jaw": 0.08},
    "teeth": {"mouthUpperUpBoth": 1.0, "mouthLowerDownBoth": 0.9, "mouthStretchBoth": 0.5, "jaw": 0.05},
    "pout": {"mouthShrugLower": 1.0, "mouthRollUpper": 0.4, "jawForward": 0.7, "browInnerUp": 0.6},
    "eyes_shut": {"eyeBlinkBoth": 1.0, "cheekSquintBoth": 0.6, "noseSneerBoth": 0.4, "mouthStretchBoth": 0.5},
}
REPEAT_SHIFT = 10  # the second round tells the faces in the same order, this many slots on
TURNS_DEG = (  # (yaw, pitch, roll) held in turn: yaw to the person's left, pitch downwards, roll to the right shoulder
    (0, 0, 0),
    (30, -6, 4),
    (55, 0, 0),
    (46, 3, 6),
    (-12, 0, 3),
    (-40, 10, 0),
    (-55, -4, 0),
    (-22, -16, 9),
    (0, -25, 0),
    (6, 4, 15),
    (0, 25, 0),
    (42, 14, 3),
    (14, 0, -15),
    (54, -10, -5),
    (-8, 3, 0),
    (-30, -8, -7),
    (0, 2, -4),
    (-34, 18, 0),
    (-54, 8, 4),
    (10, -22, 5),
    (20, 8, -8),
    (0, 22, -6),
    (-46, -14, -3),
    (0, 0, 12),
)
SHARES = {"spine3": 0.08, "neck": 0.38, "head": 0.54}  # of a turn
GAZE_S = 0.6
GAZE = np.array(  # (to the person's left, up) in -1..1, held GAZE_S each
    [
        [0.0, 0.0],
        [0.5, 0.1],
        [1.0, 0.0],
        [0.0, 0.0],
        [-0.6, 0.2],
        [0.0, 1.0],
        [-0.3, -0.4],
        [-1.0, 0.0],
        [0.2, 0.0],
        [0.0, -1.0],
        [0.8, 0.7],
        [0.0, 0.0],
        [-0.8, -0.7],
        [0.0, 0.1],
        [-0.4, 0.0],
        [0.6, -0.6],
        [0.0, 0.0],
        [-0.7, 0.7],
        [0.1, -0.2],
        [0.0, 0.6],
        [0.0, 0.0],
        [-0.9, 0.1],
        [0.9, -0.1],
        [0.3, -0.8],
    ]
)
BLINKS_S = (1.3, 3.9, 6.1, 8.7, 11.0, 13.6, 16.3, 18.4, 20.9, 22.7)


def _hold(time_s: NDArray[np.float64], values: NDArray[np.float64], slot_s: float, rise: float) -> NDArray[np.float64]:
    """[T, C] values [S, C] held one after the other for slot_s each; the first `rise` share of a slot leads over."""
    slot = np.floor(time_s / slot_s).astype(np.int64)
    lead = smoothstep(0.0, rise, time_s / slot_s - slot)[:, None]
    count = len(values)
    return (1 - lead) * values[(slot - 1) % count] + lead * values[slot % count]


def wide_performance(bust: template.TemplateArrays, frames: int, fps: float, seed: int) -> Performance:
    """`frames` instants, fps a second, of a story that takes 24 s and then starts again."""
    time_s = np.arange(frames) / fps % STORY_S

    def curve(channel: int, per_s: float) -> NDArray[np.float64]:
        """A smooth random curve in -1..1 with about per_s turns a second."""
        points = np.stack([time_s * 2 * per_s, np.full(frames, 7.3 * channel + 0.5), np.zeros(frames)], axis=1)
        return np.clip(2.6 * (value_noise(points, 1.0, seed + channel) - 0.5), -1, 1).astype(np.float64)

    names = bust.expression_names
    expressions = np.zeros((frames, len(names)))
    jaw = np.zeros(frames)

    def act(name: str, amount: NDArray[np.float64]) -> None:
        for side in ("Left", "Right") if name.endswith("Both") else ("",):
            expressions[:, names.index(name.removesuffix("Both") + side)] += amount

    order = list(FACES)
    told = order + order[REPEAT_SHIFT:] + order[:REPEAT_SHIFT]
    slot_s = STORY_S / len(told)
    busy_mouth, busy_eyes = np.zeros(frames), np.zeros(frames)
    for k, name in enumerate(told):
        since = (time_s - k * slot_s) % STORY_S
        height = 1.0 if k < len(order) else 0.8
        shape = height * smoothstep(0.0, 0.28, since) * smoothstep(slot_s + 0.24, slot_s - 0.02, since)
        shape *= since < slot_s + 0.24
        face = FACES[name]
        for action, weight in face.items():
            if action == "jaw":
                jaw += weight * shape
            else:
                act(action, weight * shape)
        if any(action.startswith(("mouth", "jaw", "tongue", "cheekPuff")) for action in face):
            busy_mouth = np.maximum(busy_mouth, shape)
        if any(action.startswith("eyeBlink") for action in face):
            busy_eyes = np.maximum(busy_eyes, shape)

    talk = smoothstep(-0.5, 0.0, curve(30, 0.35)) * (1 - 0.8 * busy_mouth)
    syllable = np.clip(0.45 + 0.8 * curve(1, 2.6), 0, 1)
    jaw += 0.20 * talk * syllable
    for k, (name, gain) in enumerate(
        (
            ("mouthFunnel", 1.0),
            ("mouthPucker", 1.1),
            ("mouthLowerDownBoth", 0.9),
            ("mouthUpperUpBoth", 0.7),
            ("mouthStretchBoth", 0.6),
            ("mouthPressBoth", 0.8),
            ("mouthRollLower", 0.7),
            ("mouthShrugUpper", 0.5),
        )
    ):
        act(name, gain * talk * np.clip(curve(50 + k, 1.7) - 0.1, 0, 1))
    for k, (name, gain) in enumerate(
        (("browInnerUp", 0.7), ("browOuterUpLeft", 0.9), ("browOuterUpRight", 0.9), ("browDownBoth", 0.6))
    ):
        act(name, gain * np.clip(curve(70 + k, 0.8) - 0.25, 0, 1))

    blink = np.zeros(frames)
    for at_s in BLINKS_S:  # 80 ms down, 60 ms shut, 160 ms up
        blink = np.maximum(blink, np.interp(time_s - at_s, [-0.11, -0.03, 0.03, 0.19], [0.0, 1.0, 1.0, 0.0]))
    turn = np.radians(_hold(time_s, np.array(TURNS_DEG, np.float64), STORY_S / len(TURNS_DEG), 0.72))
    gaze_side, gaze_up = _hold(time_s, GAZE, GAZE_S, 0.2).T
    act("eyeBlinkBoth", np.maximum(blink, 0.3 * np.clip(-gaze_up, 0, 1)) * (1 - busy_eyes))
    for name, weight in REST_EXPRESSION.items():
        free = 1 - np.maximum(blink, busy_eyes) if name.startswith("eye") else 1 - busy_mouth
        expressions[:, names.index(name)] += weight * free

    rotations = np.zeros((frames, len(bust.joint_names), 3))
    for joint, angle in ARMS_DOWN_RAD.items():
        rotations[:, bust.joint(f"left_{joint}"), 1] = angle
        rotations[:, bust.joint(f"right_{joint}"), 1] = -angle
    for joint, share in SHARES.items():
        sway = 0.015 * np.stack([curve(9 + 3 * axis + len(joint), 0.5) for axis in range(3)], axis=1)
        rotations[:, bust.joint(joint)] = share * turn[:, [1, 2, 0]] + sway
    rotations[:, bust.joint("jaw"), 0] = np.clip(jaw, 0, 0.42)
    for name in ("left_eye", "right_eye"):
        rotations[:, bust.joint(name), 0] = REST_GAZE_RAD - 0.30 * gaze_up
        rotations[:, bust.joint(name), 2] = 0.48 * gaze_side
    translations = 0.006 * np.stack([curve(20 + k, 0.3) for k in range(3)], axis=1)
    return Performance(
        rotations.astype(np.float32), translations.astype(np.float32), np.clip(expressions, 0, 1).astype(np.float32)
    )
