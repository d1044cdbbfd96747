"""A small relightable person for tests: the template itself with painted materials, as teacher and as surfels."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from avatars.relit_body.avatar import RelitAvatar
from avatars.relit_body.painted import PaintedTeacher
from avatars.relit_body.painted import painted_avatar as made
from avatars.scene import SceneInstance
from avatars.templates.big_pose import big_pose_rotations
from avatars.templates.opening import embedded_template, reference_of
from shared.types import Camera, Environment


@lru_cache(maxsize=1)
def painted_teacher() -> PaintedTeacher:
    """The painted woman in a sky that is brighter above."""
    arrays = embedded_template("body")
    reference = reference_of(arrays.template_id, preset="woman", view="body")
    sky = np.linspace(1.2, 0.3, 16, dtype=np.float32)[:, None, None] * np.ones((1, 32, 3), np.float32)
    return PaintedTeacher(
        reference, torch.from_numpy(np.array(big_pose_rotations(arrays.joint_names))), Environment(sky)
    )


@lru_cache(maxsize=1)
def painted_avatar() -> RelitAvatar:
    """Surfels that hold what the painted teacher knows, with probes."""
    return made(painted_teacher(), 4000, 8)


def front(size: int = 96, distance_m: float = 3.2) -> Camera:
    """Before the whole person, at -y."""
    pose = np.array([[1, 0, 0, 0], [0, 0, 1, -distance_m], [0, -1, 0, -0.1], [0, 0, 0, 1.0]])
    K = np.array([[1.4 * size, 0, size / 2], [0, 1.4 * size, size / 2], [0, 0, 1]])
    return Camera(size, size, K, pose)


def standing(avatar: RelitAvatar, arm_rad: float = 1.1, turn_rad: float = 0.0) -> SceneInstance:
    """One instant: arms lowered by arm_rad, the object turned about +z."""
    arrays = avatar.surfels.person.arrays
    names = list(arrays.joint_names)
    rotations = np.zeros((1, len(names), 3), np.float32)
    rotations[0, names.index("left_shoulder"), 1] = arm_rad
    rotations[0, names.index("right_shoulder"), 1] = -arm_rad
    matrix = np.eye(4)[None]
    cosine, sine = np.cos(turn_rad), np.sin(turn_rad)
    matrix[0, :2, :2] = [[cosine, -sine], [sine, cosine]]
    return SceneInstance(avatar, matrix, rotations, np.zeros((1, 3)), np.zeros((1, len(arrays.expression_names))))
