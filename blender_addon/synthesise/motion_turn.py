"""A person who turns before the camera in an A-pose, as recordings with one camera ask for, then takes other poses."""

from __future__ import annotations

import numpy as np

from .._shared import template
from .motion import REST_EXPRESSION, REST_GAZE_RAD, Performance
from .motion_body import Angles, axis_angle, complete_pose, everyday_poses
from .noise import smoothstep

TURNS = 2
STILL: Angles = (0.0, 0.0, 0.0)
HELD_OUT_YAWS_DEG = (0, 55, -40, 120, -95, 30, 200, -20)
A_POSES: tuple[dict[str, Angles], dict[str, Angles]] = (
    {"shoulder": (0, 46, 0), "elbow": (0, 0, -8), "hip": (0, -9, 0), "ankle": (0, 9, 0)},
    {"shoulder": (0, 30, 0), "elbow": (0, 0, -22), "hip": (0, -12, 0), "ankle": (0, 12, 0), "knee": (4, 0, 0)},
)


def turning(body: template.TemplateArrays, frames: int, held_out: int) -> Performance:
    """Two turns to the left, arms a little higher in the second; the last `held_out` frames are poses from elsewhere.

    The root stays at the origin; `motion_body.on_floor` sets the feet down.
    """
    turns, keys = frames - held_out, everyday_poses()
    rotations = np.zeros((frames, len(body.joint_names), 3))
    for frame in range(frames):
        if frame < turns:
            at = frame * TURNS / max(turns, 1)
            share = float(smoothstep(0.85, 1.15, at))
            first, second = (complete_pose(pose) for pose in A_POSES)
            pose = {name: _between(first.get(name, STILL), second.get(name, STILL), share) for name in first | second}
            yaw_deg = 360.0 * at
        else:
            k = frame - turns
            pose = keys[int((k + 0.45) * len(keys) / max(held_out, 1))]
            yaw_deg = float(HELD_OUT_YAWS_DEG[k % len(HELD_OUT_YAWS_DEG)])
        bend, side, turn = pose.get("pelvis", STILL)
        for name, angles in {**pose, "pelvis": (bend, side, turn + yaw_deg)}.items():
            rotations[frame, body.joint(name)] = axis_angle(np.radians(np.array(angles)))
        for name in ("left_eye", "right_eye"):
            rotations[frame, body.joint(name), 0] = REST_GAZE_RAD
    expressions = np.zeros((frames, len(body.expression_names)))
    for name, weight in REST_EXPRESSION.items():
        expressions[:, body.expression_names.index(name)] = weight
    return Performance(
        rotations.astype(np.float32), np.zeros((frames, 3), np.float32), np.clip(expressions, 0, 1).astype(np.float32)
    )


def _between(first: Angles, second: Angles, share: float) -> Angles:
    x, y, z = ((1 - share) * a + share * b for a, b in zip(first, second))
    return x, y, z
