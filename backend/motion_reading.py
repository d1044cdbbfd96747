"""What the render worker answers to GetMotion: a capture's or a file's motion, as it is or made an avatar's own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from shared.errors import BadConfig
from shared.messages import GetMotion, MotionReply

LIMITS = {"strength": 10.0, "clip": 100.0, "smooth_hz": 100.0}


def read_motion_for(avatar: Any, request: GetMotion) -> MotionReply:
    """The motion for a loaded avatar. Raises BadConfig for numbers out of range, BadCapture for a bad source."""
    from avatars.rgb_head.reenact import Transfer, reenacted
    from avatars.rgb_head.sources import read_source

    for name, most in LIMITS.items():
        value = getattr(request, name)
        if not (math.isfinite(value) and 0 <= value <= most):
            raise BadConfig(f"{name} is out of range", found=str(value), expected=f"0 to {most:g}")
    rig = avatar.rig()
    source = read_source(request.source, rig, request.camera)
    if not request.carried_over:
        return MotionReply(
            source.joint_names,
            source.expression_names,
            np.asarray(source.motion.rotations),
            np.asarray(source.motion.translations),
            np.asarray(source.motion.expressions),
            float(source.motion.fps),
            source.notes,
        )
    neutral = request.neutral_frame if request.neutral_frame >= 0 else None
    found = reenacted(source, avatar, Transfer(request.strength, request.clip, neutral, request.smooth_hz))
    motion = found.motion
    return MotionReply(
        rig.joint_names,
        rig.expression_names,
        np.asarray(motion.rotations),
        np.asarray(motion.translations),
        np.asarray(motion.expressions),
        float(motion.fps),
        found.notes,
    )
