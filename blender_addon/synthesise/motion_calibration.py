"""A face that is another one in every picture: actions, gaze, jaw and turns drawn independently of each other.

For measuring what landmark detectors make of the template: where they put their points, and how much of each action
they see. Neighbouring frames have nothing in common, so this is no film.
"""

from __future__ import annotations

import numpy as np

from .._shared import template
from .motion import ARMS_DOWN_RAD, REST_GAZE_RAD, Performance

NEUTRAL_EVERY = 8
ACTIONS_AT_ONCE = 9
UNSEEN = ("eyeLook", "tongueOut", "mouthClose")
"""Actions that begin so stay 0: the eyes turn by their joints, and the others no landmark follows."""


def calibration(bust: template.TemplateArrays, frames: int, seed: int) -> Performance:
    """`frames` independent instants; every eighth is at rest but for the turn of the head."""
    rng, names = np.random.default_rng(seed), bust.expression_names
    free = [row for row, name in enumerate(names) if not name.startswith(UNSEEN)]
    blinks = [names.index("eyeBlinkLeft"), names.index("eyeBlinkRight")]
    expressions = np.zeros((frames, len(names)))
    rotations = np.zeros((frames, len(bust.joint_names), 3))
    for frame in range(frames):
        rotations[frame, bust.joint("head")] = rng.normal(size=3) * [0.12, 0.06, 0.12]
        if frame % NEUTRAL_EVERY == 0:
            continue
        chosen = rng.choice(free, min(ACTIONS_AT_ONCE, len(free)), replace=False)
        expressions[frame, chosen] = rng.uniform(0.1, 0.9, len(chosen))
        if rng.random() < 0.4:
            expressions[frame, blinks] = rng.uniform(0.3, 1.0)
        if rng.random() < 0.5:
            rotations[frame, bust.joint("jaw"), 0] = rng.uniform(0.0, 0.35)
        gaze = rng.normal(size=2) * [0.14, 0.22]
        for side in ("left_eye", "right_eye"):
            rotations[frame, bust.joint(side)] = [REST_GAZE_RAD + gaze[0], 0.0, gaze[1]]
    expressions[:, names.index("jawOpen")] *= 0.3  # the joint opens the mouth
    for joint, angle in ARMS_DOWN_RAD.items():
        rotations[:, bust.joint(f"left_{joint}"), 1] = angle
        rotations[:, bust.joint(f"right_{joint}"), 1] = -angle
    return Performance(
        rotations.astype(np.float32), np.zeros((frames, 3), np.float32), np.clip(expressions, 0, 1).astype(np.float32)
    )
