"""Poses a teacher is asked for beyond those of its capture: a turntable and varied whole-body poses, or a motion.

Source: method page D. The published set (310 poses) is a download; this one is made like it: ten views of a standing
person with legs apart, turned in steps of 36 degrees, then poses drawn within the joints' usual reach, facing anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatars.captures.smpl_bodies import placed_body
from avatars.templates.opening import TemplateReference
from shared.errors import BadCapture
from shared.motions import MODEL_FROM_SMPL, SmplMotion
from shared.rotations import axis_angles_from_matrices
from shared.template import rest, rotation_matrices
from shared.types import Camera

TURNTABLE, POSES = 10, 310
LEGS_RAD = float(np.radians(30))
CAMERA_PX, FOCAL_PX = 1080, 2000.0
PELVIS_M = (0.0, 5.0, -0.15)
"""In front of the camera, which stands at the origin and looks along +y (published: (0, 0.15, 5) with y down)."""
REACH: Mapping[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "left_hip": ((-0.25, 0.0, 0.12), (0.35, 0.2, 0.15)),
    "left_knee": ((0.4, 0.0, 0.0), (0.4, 0.05, 0.05)),
    "left_ankle": ((0.0, 0.0, 0.0), (0.2, 0.1, 0.1)),
    "left_shoulder": ((0.0, -0.2, -0.7), (0.3, 0.4, 0.45)),
    "left_elbow": ((0.0, -0.7, 0.0), (0.1, 0.5, 0.1)),
    "left_wrist": ((0.0, 0.0, 0.0), (0.2, 0.2, 0.2)),
    "left_collar": ((0.0, 0.0, 0.0), (0.05, 0.08, 0.08)),
    "spine1": ((0.05, 0.0, 0.0), (0.15, 0.12, 0.1)),
    "spine2": ((0.05, 0.0, 0.0), (0.1, 0.12, 0.08)),
    "spine3": ((0.0, 0.0, 0.0), (0.08, 0.1, 0.08)),
    "neck": ((0.0, 0.0, 0.0), (0.15, 0.2, 0.1)),
    "head": ((0.0, 0.0, 0.0), (0.15, 0.2, 0.1)),
}
"""Mean and standard deviation in rad about SMPL's x, y, z; right joints are mirrored. Knees and elbows bend one way."""
ONE_WAY = {"left_knee": (0, 1.0), "left_elbow": (1, -1.0)}
MOST_DEVIATIONS = 2.0


@dataclass(frozen=True, eq=False)
class PoseSet:
    """N poses before one camera. rotations [N, J, 3] rad, translations [N, 3] m, model axes."""

    rotations: NDArray[np.float32]
    translations: NDArray[np.float32]
    camera: Camera

    def __len__(self) -> int:
        return len(self.rotations)


def pose_camera() -> Camera:
    """The still camera all poses are seen by."""
    place = np.eye(4)
    place[:3, :3] = np.array(((1.0, 0, 0), (0, 0, 1), (0, -1, 0)))
    half = CAMERA_PX / 2
    return Camera(CAMERA_PX, CAMERA_PX, np.array(((FOCAL_PX, 0, half), (0, FOCAL_PX, half), (0, 0, 1.0))), place)


def varied_poses(reference: TemplateReference, count: int = POSES, seed: int = 0) -> PoseSet:
    """`count` poses (the first ten the turntable) of a template; the same for a seed. Raises BadCapture."""
    arrays = reference.open()
    if count < 1:
        raise BadCapture("a set of poses needs at least one", found=str(count))
    missing = [name for name in REACH if name not in arrays.joint_names]
    if missing:
        raise BadCapture(f"the template {arrays.template_id!r} is no whole body", found=f"no joint {missing[0]!r}")
    rng = np.random.default_rng(seed)
    turns = np.zeros((count, len(arrays.joint_names), 3))
    for row in range(count):
        if row < TURNTABLE:
            for name, sign in (("left_hip", 1.0), ("right_hip", -1.0)):
                turns[row, arrays.joint(name), 2] = sign * LEGS_RAD
            continue
        for name, (mean, deviation) in REACH.items():
            for side in ("left", "right") if name.startswith("left") else ("",):
                joint = name.replace("left", side) if side else name
                drawn = np.array(mean) + np.array(deviation) * rng.normal(size=3).clip(
                    -MOST_DEVIATIONS, MOST_DEVIATIONS
                )
                if name in ONE_WAY:
                    axis, sign = ONE_WAY[name]
                    drawn[axis] = sign * max(sign * drawn[axis], 0.0)
                turns[row, arrays.joint(joint)] = drawn * ((1, -1, -1) if side == "right" else 1)
    rotations = turns @ MODEL_FROM_SMPL.T
    for row in range(count):
        yaw = 2 * np.pi * row / TURNTABLE if row < TURNTABLE else rng.uniform(0, 2 * np.pi)
        tilt = np.zeros(3) if row < TURNTABLE else rng.normal(0, 0.1, 3).clip(-0.2, 0.2)
        root = rotation_matrices(np.array((0.0, 0.0, yaw))) @ rotation_matrices(tilt)
        rotations[row, 0] = axis_angles_from_matrices(root[None])[0]
    return PoseSet(rotations.astype(np.float32), _placed(reference, count), pose_camera())


def poses_of_motion(reference: TemplateReference, motion: SmplMotion, most: int = POSES) -> PoseSet:
    """Up to `most` frames of a body motion, evenly chosen, moved in front of the camera. Raises BadCapture."""
    made = placed_body(motion.name, reference, motion).motion
    if not len(made):
        raise BadCapture(f"{motion.name} holds no poses")
    rows = np.unique(np.linspace(0, len(made) - 1, min(most, len(made))).round().astype(int))
    return PoseSet(np.array(made.rotations[rows]), _placed(reference, len(rows)), pose_camera())


def _placed(reference: TemplateReference, count: int) -> NDArray[np.float32]:
    _, joints = rest(reference.open(), preset=reference.preset, shape=np.array(reference.shape, np.float32))
    return np.tile(np.array(PELVIS_M) - joints[0], (count, 1)).astype(np.float32)
