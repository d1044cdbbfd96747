"""The body in its canonical big pose, its skeleton in few operations, and what of a pose drives the networks.

Big pose: everything zero but the hips, whose legs are spread by 25 degrees, so that nothing of the body lies near
another part of it (method page A.2). Skinning takes big-pose positions to posed ones: A(pose) A(big pose)^-1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from avatars.templates.big_pose import big_pose_rotations
from avatars.templates.opening import TemplateReference
from avatars.templates.rotations import matrices_from_axis_angle
from avatars.templates.template import Template
from shared.errors import BadAvatar
from shared.template import TemplateArrays

BODY_JOINTS = (
    "left_hip",
    "right_hip",
    "spine1",
    "left_knee",
    "right_knee",
    "spine2",
    "left_ankle",
    "right_ankle",
    "spine3",
    "left_foot",
    "right_foot",
    "neck",
    "left_collar",
    "right_collar",
    "head",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
)
FACE_JOINTS = ("jaw", "left_eye", "right_eye")
FINGERS = ("index", "middle", "pinky", "ring", "thumb")


def hand_joints(side: str) -> tuple[str, ...]:
    """The 15 finger joints of 'left' or 'right', in SMPL-X's order."""
    return tuple(f"{side}_{finger}{part}" for finger in FINGERS for part in (1, 2, 3))


class Skeleton:
    """Joints of one person and the chain above each, on one device.

    joints [J, 3] m at the template's rest; joint_dirs [E, J, 3] how expressions move them.
    """

    def __init__(self, joints: Tensor, joint_dirs: Tensor, parents: Sequence[int], big: Tensor) -> None:
        self.joints, self.joint_dirs = joints, joint_dirs
        self.parents = tuple(int(parent) for parent in parents)
        count = len(self.parents)
        above = [parent if parent >= 0 else count for parent in self.parents] + [count]
        self.rounds: list[Tensor] = []
        while any(joint != count for joint in above):
            self.rounds.append(torch.tensor(above, device=joints.device))
            above = [above[joint] for joint in above]
        self.up = self.rounds[0] if self.rounds else torch.full((count + 1,), count, device=joints.device)
        turned, placed = self._chain(big[None].to(joints), joints[None])
        self.big_turned, self.big_placed = turned[0], placed[0]

    def _chain(self, rotations: Tensor, joints: Tensor) -> tuple[Tensor, Tensor]:
        """Global joint rotations [B, J, 3, 3] and places [B, J, 3] by pointer doubling: four rounds for fifty joints.

        rotations [B, J, 3] rad; joints [B, J, 3] m.
        """
        matrices = matrices_from_axis_angle(rotations)
        batch = len(matrices)
        identity = torch.eye(3, dtype=matrices.dtype, device=matrices.device).expand(batch, 1, 3, 3)
        origin = joints.new_zeros(batch, 1, 3)
        points = torch.cat((joints.expand(batch, -1, -1), origin), 1)
        turned, placed = torch.cat((matrices, identity), 1), points - points[:, self.up]
        for above in self.rounds:
            lifted = turned[:, above]
            placed = (lifted @ placed[..., None])[..., 0] + placed[:, above]
            turned = lifted @ turned
        return turned[:, :-1], placed[:, :-1]

    def skinning(self, rotations: Tensor, translations: Tensor, expressions: Tensor) -> Tensor:
        """What takes big-pose positions to posed ones, [B, J, 3, 4], for each joint alone.

        rotations [B, J, 3] rad, translations [B, 3] m, expressions [B, E].
        """
        joints = self.joints[None]
        if expressions.shape[1]:
            joints = joints + torch.einsum("be,ejc->bjc", expressions, self.joint_dirs)
        turned, placed = self._chain(rotations, joints)
        rotation = turned @ self.big_turned.transpose(-1, -2)
        shift = placed - (rotation @ self.big_placed[..., None])[..., 0] + translations[:, None]
        return torch.cat((rotation, shift[..., None]), -1)

    def to(self, device: str | torch.device) -> Skeleton:
        """The same on another device."""
        moved = Skeleton.__new__(Skeleton)
        moved.parents = self.parents
        moved.rounds = [table.to(device) for table in self.rounds]
        for name in ("joints", "joint_dirs", "up", "big_turned", "big_placed"):
            setattr(moved, name, getattr(self, name).to(device))
        return moved


@dataclass(frozen=True, eq=False)
class Canonical:
    """One person's template in the big pose. vertices [V, 3] m; weights [V, J]."""

    arrays: TemplateArrays
    reference: TemplateReference
    vertices: Tensor
    weights: Tensor
    skeleton: Skeleton

    @staticmethod
    def of(reference: TemplateReference) -> Canonical:
        """Open the template and put it there. Raises BadTemplate."""
        arrays = reference.open()
        template = Template(arrays)
        shape = template.vertices.new_tensor([reference.shape]) if reference.shape else None
        rest, joints = template.rest(preset=reference.preset, shape=shape)
        big = torch.from_numpy(big_pose_rotations(arrays.joint_names).copy())
        skinning, _ = template.joint_transforms(big[None], joints, torch.zeros(1, 3))
        skeleton = Skeleton(joints[0], template.joint_expression_dirs, template.parents, big)
        vertices = template.skin(rest, skinning).vertices[0]
        return Canonical(arrays, reference, vertices, template.weights, skeleton)


@dataclass(frozen=True)
class DrivingPose:
    """Which numbers of a pose the networks see: axis-angle of `joints`, raw, then `expressions` (method page A.4)."""

    joints: tuple[str, ...]
    expressions: tuple[str, ...]

    @staticmethod
    def of(arrays: TemplateArrays, *, hands: bool, face: bool) -> DrivingPose:
        """The body's joints that the template has, and the parts wanted beside them."""
        wanted = BODY_JOINTS
        wanted += (*hand_joints("left"), *hand_joints("right")) if hands else ()
        wanted += FACE_JOINTS if face else ()
        joints = tuple(name for name in wanted if name in arrays.joint_names)
        return DrivingPose(joints, arrays.expression_names if face else ())

    def size(self) -> int:
        """How many numbers."""
        return 3 * len(self.joints) + len(self.expressions)

    def vector(self, rotations: Tensor, expressions: Tensor, arrays: TemplateArrays) -> Tensor:
        """[B, size] of rotations [B, J, 3] rad and expressions [B, E] of the template."""
        joints, columns = self.rows(arrays)
        return torch.cat((rotations[:, joints].flatten(1), expressions[:, columns]), 1)

    def rows(self, arrays: TemplateArrays) -> tuple[Tensor, Tensor]:
        """Where its joints and expressions are among the template's, both int64."""
        joints = [arrays.joint_names.index(name) for name in self.joints]
        columns = [arrays.expression_names.index(name) for name in self.expressions]
        return torch.tensor(joints, dtype=torch.int64), torch.tensor(columns, dtype=torch.int64)

    def seen_by(self, weights: Tensor, joint_names: Sequence[str]) -> Tensor:
        """Which numbers [F, size] each anchor sees, 1 or 0, for its skinning weights [F, J].

        All see the body's joints; fingers are seen by that hand, jaw, eyes and expressions by the head.
        """
        near: dict[str, Tensor] = {}
        for side in ("left", "right"):
            rows = [joint_names.index(n) for n in (*hand_joints(side), f"{side}_wrist") if n in joint_names]
            for name in hand_joints(side):
                near[name] = weights[:, rows].sum(1) > NEAR
        rows = [joint_names.index(name) for name in ("head", *FACE_JOINTS) if name in joint_names]
        head = weights[:, rows].sum(1) > NEAR
        near |= dict.fromkeys(FACE_JOINTS, head)
        every = torch.ones(len(weights), dtype=torch.bool)
        columns = [near.get(name, every) for name in self.joints for _ in range(3)]
        columns += [head] * len(self.expressions)
        return torch.stack(columns, 1).float()

    def as_json(self) -> dict[str, Any]:
        """JSON form, read back by `from_json`."""
        return {"joints": list(self.joints), "expressions": list(self.expressions)}

    @staticmethod
    def from_json(value: Any, arrays: TemplateArrays) -> DrivingPose:
        """Inverse of `as_json`. Raises BadAvatar for names that the template lacks."""
        if not isinstance(value, Mapping):
            raise BadAvatar("the note of what drives the body is damaged")
        try:
            found = DrivingPose(tuple(map(str, value["joints"])), tuple(map(str, value["expressions"])))
        except (KeyError, TypeError) as error:
            raise BadAvatar("the note of what drives the body is damaged", found=str(error)) from error
        absent = [name for name in found.joints if name not in arrays.joint_names]
        absent += [name for name in found.expressions if name not in arrays.expression_names]
        if absent:
            raise BadAvatar("the body is driven by what its template lacks", found=", ".join(absent[:4]))
        return found


NEAR = 0.2
"""An anchor with so much skinning weight on a hand or the head sees what that part does."""
