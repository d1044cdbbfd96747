"""An example performance: a sentence mouthed in visemes, glances, blinks, a smile and small head turns.

Expressions carry ARKit names. Amplitudes stay inside what a talking-head capture usually shows, so that a trained
avatar is asked for what it has seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._shared import rotations, template, types

Float64 = NDArray[np.float64]

JAW_OPEN_RAD = 0.2
"""Turn of the jaw joint at openness 1, about +x."""

# Viseme -> (openness of the jaw 0..1, expressions).
VISEMES: dict[str, tuple[float, dict[str, float]]] = {
    "rest": (0.0, {}),
    "aa": (0.9, {"mouthLowerDown": 0.35, "mouthUpperUp": 0.2, "jawOpen": 0.12}),
    "eh": (0.5, {"mouthStretch": 0.35, "mouthLowerDown": 0.3, "mouthUpperUp": 0.2}),
    "ee": (0.2, {"mouthSmile": 0.4, "mouthStretch": 0.4, "mouthLowerDown": 0.25}),
    "oh": (0.6, {"mouthFunnel": 0.55, "mouthPucker": 0.15}),
    "oo": (0.2, {"mouthPucker": 0.65, "mouthFunnel": 0.25}),
    "mm": (0.0, {"mouthPress": 0.35, "mouthRollLower": 0.25, "mouthRollUpper": 0.2}),
    "ff": (0.1, {"mouthRollLower": 0.45, "mouthUpperUp": 0.3}),
    "ss": (0.1, {"mouthStretch": 0.3, "mouthLowerDown": 0.2}),
}
SENTENCE = "rest mm aa ee rest ff oh rest eh ss ee rest oo mm rest aa oh ee rest mm oh ff ee rest aa ss rest eh oo rest"
SYLLABLES_PER_S = 6.0


@dataclass(frozen=True)
class Bump:
    """Something that comes and goes: full at `centre` of the whole length, gone half a `width` away (both 0..1)."""

    centre: float
    width: float
    strength: float
    expressions: tuple[str, ...]


RESTING = {"eyeWideLeft": 0.18, "eyeWideRight": 0.18, "mouthSmileLeft": 0.14, "mouthSmileRight": 0.14}
"""The face between expressions: the template's neutral lids are heavy and its mouth is stern."""
RESTING_GAZE_RAD = 0.05

MOODS = (
    Bump(0.30, 0.24, 0.55, ("browInnerUp", "browOuterUpLeft", "browOuterUpRight")),
    Bump(0.80, 0.42, 0.75, ("mouthSmileLeft", "mouthSmileRight")),
    Bump(0.80, 0.42, 0.30, ("cheekSquintLeft", "cheekSquintRight")),
    Bump(0.55, 0.16, 0.30, ("browDownLeft", "browDownRight")),
)
BLINKS_S = (0.15, 1.6, 3.3, 4.9, 6.3, 8.1, 9.5)
BLINK_LENGTH_S = 0.24


def performance(
    joint_names: tuple[str, ...],
    expression_names: tuple[str, ...],
    rest_pose: ArrayLike,
    frames: int,
    fps: float,
) -> types.Motion:
    """A Motion of `frames` instants on top of rest_pose [J, 3] rad; joints and expressions a rig lacks are left out."""
    seconds = np.arange(frames) / fps
    part = np.linspace(0, 1, frames) if frames > 1 else np.zeros(1)
    openness, expressions = _speech(seconds, expression_names)
    for name, strength in RESTING.items():
        if name in expression_names:
            expressions[:, expression_names.index(name)] += strength
    _add_moods(expressions, expression_names, part)
    _add_blinks(expressions, expression_names, seconds)
    turns = _turns(joint_names, part, openness)
    base = template.rotation_matrices(rest_pose)
    posed = rotations.axis_angles_from_matrices(base[None] @ template.rotation_matrices(turns))
    return types.Motion(posed, np.zeros((frames, 3)), np.clip(expressions, 0, 1), fps)


def moving_expressions(motion: types.Motion, names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the expressions that the motion ever uses; only these need keys."""
    return tuple(name for index, name in enumerate(names) if np.abs(motion.expressions[:, index]).max(initial=0) > 1e-4)


def _speech(seconds: Float64, names: tuple[str, ...]) -> tuple[Float64, Float64]:
    """Openness of the jaw [T] and expressions [T, E] of the sentence, eased from viseme to viseme."""
    sentence = SENTENCE.split()
    position = seconds * SYLLABLES_PER_S
    index = position.astype(int)
    ease = 0.5 - 0.5 * np.cos(np.pi * (position - index))
    openness, expressions = np.zeros(len(seconds)), np.zeros((len(seconds), len(names)))
    for offset, weight in ((0, 1 - ease), (1, ease)):
        for frame, share in enumerate(weight):
            jaw, shapes = VISEMES[sentence[(index[frame] + offset) % len(sentence)]]
            openness[frame] += share * jaw
            for shape, strength in shapes.items():
                for name in (shape, f"{shape}Left", f"{shape}Right"):
                    if name in names:
                        expressions[frame, names.index(name)] += share * strength
    return openness, expressions


def _add_moods(expressions: Float64, names: tuple[str, ...], part: Float64) -> None:
    for mood in MOODS:
        away = np.clip(np.abs(part - mood.centre) / (mood.width / 2), 0, 1)
        level = mood.strength * (0.5 + 0.5 * np.cos(np.pi * away))
        for name in mood.expressions:
            if name in names:
                column = expressions[:, names.index(name)]
                np.maximum(column, level, out=column)


def _add_blinks(expressions: Float64, names: tuple[str, ...], seconds: Float64) -> None:
    closed = np.zeros(len(seconds))
    for moment in BLINKS_S:
        away = np.clip(np.abs(seconds - moment) / (BLINK_LENGTH_S / 2), 0, 1)
        closed = np.maximum(closed, 1 - away**2)
    for name in ("eyeBlinkLeft", "eyeBlinkRight", "eyelid_left", "eyelid_right"):
        if name in names:
            expressions[:, names.index(name)] = closed
    for name in ("eyeWideLeft", "eyeWideRight"):
        if name in names:
            expressions[:, names.index(name)] *= 1 - closed


def _turns(joint_names: tuple[str, ...], part: Float64, openness: Float64) -> Float64:
    """Rotations [T, J, 3] rad added to the rest pose: nods and turns shared by neck and head, jaw, eyes."""
    turns = np.zeros((len(part), len(joint_names), 3))
    circle = 2 * np.pi * part
    head = np.stack(
        [
            0.07 * np.sin(3 * circle) + 0.03 * np.sin(7 * circle),  # nod about x
            0.04 * np.sin(2 * circle + 0.5),  # tilt about y
            0.24 * np.sin(circle) + 0.05 * np.sin(3 * circle + 1),  # turn about z
        ],
        axis=1,
    )
    gaze = np.zeros_like(head)
    gaze[:, 2] = np.clip(-0.5 * head[:, 2], -0.15, 0.15)  # eyes hold on while the head turns
    gaze[:, 0] = RESTING_GAZE_RAD - 0.4 * head[:, 0]
    jaw = np.stack([JAW_OPEN_RAD * openness, np.zeros(len(part)), np.zeros(len(part))], axis=1)
    for name, turn in (
        ("neck", 0.4 * head if "head" in joint_names else head),
        ("head", 0.6 * head),
        ("jaw", jaw),
        ("left_eye", gaze),
        ("right_eye", gaze),
    ):
        if name in joint_names:
            turns[:, joint_names.index(name)] = turn
    return turns
