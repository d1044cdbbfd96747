"""The template's skeleton with a detector's landmarks fixed to its joints, and how both move with every unknown.

Unknowns of a frame: the pelvis' place in the camera (3, m), then of each free joint a small turn in its parent's frame
(3, rad, multiplied from the left). Shared by a clip: the shape. Landmarks are those of `body_detections`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatars.tracking.body_landmarks import MAIN_JOINTS, BodyLandmarks
from avatars.tracking.landmark_model import cross_matrices
from shared.template import TemplateArrays, rotation_matrices

Array = NDArray[np.float64]
STILL = ("jaw", "left_eye", "right_eye")
SHAPE_PREFIX = "body_"


@dataclass(frozen=True, eq=False)
class BodyState:
    """Unknowns of F frames. place: [F, 3] m of the pelvis; rotations: [F, J, 3, 3], each joint's in its parent's frame
    (the pelvis' in the camera's)."""

    place: Array
    rotations: Array

    def __len__(self) -> int:
        return len(self.place)

    def at(self, index: NDArray[np.int64]) -> BodyState:
        """The same of some frames."""
        return BodyState(self.place[index], self.rotations[index])


@dataclass(frozen=True, eq=False)
class PosedBody:
    """points: [F, N, 3] m landmarks in the camera; joints: [F, J, 3] m; frames: [F, J, 3, 3] camera from joint. Their
    derivatives, where asked for: of_points [F, N, 3, U + S], of_joints [F, 22, 3, U + S] of the main joints."""

    points: Array
    joints: Array
    frames: Array
    of_points: Array | None = None
    of_joints: Array | None = None


class BodyModel:
    """Landmarks and joints of one template as functions of a clip's unknowns. shape_modes: how many may vary."""

    def __init__(self, arrays: TemplateArrays, where: BodyLandmarks, *, shape_modes: int = 8) -> None:
        self.arrays, self.where = arrays, where
        self.names = arrays.joint_names
        self.parents = np.asarray(arrays.parents, np.int64)
        self.free = np.array([joint for joint, name in enumerate(self.names) if name not in STILL])
        rows = [row for row, name in enumerate(arrays.shape_names) if name.startswith(SHAPE_PREFIX)]
        self.shape_rows = tuple(rows[:shape_modes])
        above = np.maximum(self.parents, 0)
        self.bones = (arrays.joints - arrays.joints[above]).astype(np.float64)
        moved = arrays.joint_shape_dirs[list(self.shape_rows)].astype(np.float64)
        self.bone_modes = moved - moved[:, above]
        skin = arrays.group_vertices("skin")
        low, high = skin[arrays.vertices[skin, 2].argmin()], skin[arrays.vertices[skin, 2].argmax()]
        self.still_height_m = float(arrays.vertices[high, 2] - arrays.vertices[low, 2])
        tall = arrays.shape_dirs[list(self.shape_rows)][:, [high, low], 2].astype(np.float64)
        self.height_modes = tall[:, 0] - tall[:, 1]
        self.owners = np.array([arrays.joint(name) for name in where.owners])
        self.below = np.zeros((len(self.names), len(self.names)), np.bool_)  # [k, j]: j hangs on k or is it
        for joint in range(len(self.names)):
            ancestor = joint
            while ancestor >= 0:
                self.below[ancestor, joint] = True
                ancestor = int(self.parents[ancestor])

    def height(self, shape: Array) -> tuple[float, Array]:
        """Height m from soles to crown of a shape [S], and how it changes with it [S]."""
        return self.still_height_m + float(self.height_modes @ shape), self.height_modes

    @property
    def frame_size(self) -> int:
        """U, unknowns of one frame."""
        return 3 + 3 * len(self.free)

    def moved(self, state: BodyState, step: Array) -> BodyState:
        """The state after a step [F, U]."""
        rotations = state.rotations.copy()
        turns = rotation_matrices(step[:, 3:].reshape(len(state), -1, 3))
        rotations[:, self.free] = turns @ rotations[:, self.free]
        return BodyState(state.place + step[:, :3], rotations)

    def posed(self, state: BodyState, shape: Array, *, derivatives: bool = False) -> PosedBody:
        """Where everything lies. shape: [S]."""
        count = len(state)
        bones = self.bones + np.tensordot(shape, self.bone_modes, 1)
        frames, joints = np.empty((count, len(self.names), 3, 3)), np.empty((count, len(self.names), 3))
        for joint, parent in enumerate(self.parents):
            if parent < 0:
                frames[:, joint], joints[:, joint] = state.rotations[:, joint], state.place
            else:
                frames[:, joint] = frames[:, parent] @ state.rotations[:, joint]
                joints[:, joint] = joints[:, parent] + frames[:, parent] @ bones[joint]
        points = joints[:, self.owners] + (frames[:, self.owners] @ self.where.offsets[..., None])[..., 0]
        if not derivatives:
            return PosedBody(points, joints, frames)
        of_shape = np.zeros((count, len(self.names), 3, len(shape)))
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                of_shape[:, joint] = of_shape[:, parent] + frames[:, parent] @ self.bone_modes[:, joint].T
        places = np.concatenate((points, joints[:, :MAIN_JOINTS]), 1)
        owners = np.concatenate((self.owners, np.arange(MAIN_JOINTS)))
        found = np.zeros((*places.shape, self.frame_size + len(shape)))
        found[..., :3] = np.eye(3)
        for column, joint in enumerate(self.free):
            moves = np.flatnonzero(self.below[joint, owners])
            arm = cross_matrices(places[:, moves] - joints[:, joint, None])
            above = frames[:, self.parents[joint]] if self.parents[joint] >= 0 else np.eye(3)[None]
            found[:, moves, :, 3 + 3 * column : 6 + 3 * column] = -arm @ above[:, None]
        found[..., self.frame_size :] = of_shape[:, owners]
        split = len(self.owners)
        return PosedBody(points, joints, frames, found[:, :split], found[:, split:])
