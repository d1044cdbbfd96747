"""Where bones lie and what their pose means: from a Rig to bones an animator likes, and from bones back to a Pose.

A bone may point anywhere and have any roll: with P a bone's posed matrix and L its rest matrix, both in armature space,
G = P L^-1 is how its part of the body moved, and the rotation of joint i relative to its parent, in model axes, is
G_parent^-1 G. So bones follow the limbs here and the read-out is still exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._shared import errors, rotations, template
from .joint_regions import FEET, HANDS, plain, region_of
from .linear_maps import nearest_rotations

Float64 = NDArray[np.float64]

MIN_LENGTH_M = 0.02
UP = (0.0, 0.0, 1.0)
FORWARD = (0.0, -1.0, 0.0)
# Joints whose bone should not point at a child: name -> (direction in model axes, length m).
NAMED_BONES: dict[str, tuple[tuple[float, float, float], float]] = {
    "head": (UP, 0.17),
    "jaw": ((0.0, -0.83, -0.55), 0.09),
    "left_eye": (FORWARD, 0.03),
    "right_eye": (FORWARD, 0.03),
    "left_foot": (FORWARD, 0.07),
    "right_foot": (FORWARD, 0.07),
}
UPWARD_REGIONS = (HANDS,)
"""Where the back of the hand is up at rest, a bone's z points up, so that a finger curls about its bone's x."""


@dataclass(frozen=True, eq=False)
class RigInfo:
    """The parts of a Rig that read-out and panels use. parents: [J] int32; rest_joints: [J, 3] m.

    floor_m: z of the soles at rest in the armature's axes, None for rigs without feet. canonical: [J, 3] rad, the pose
    of the template that the armature's rest pose is; None for the template's own rest.
    """

    joint_names: tuple[str, ...]
    parents: NDArray[np.int32]
    rest_joints: NDArray[np.float32]
    expression_names: tuple[str, ...]
    rest_pose: NDArray[np.float32]
    floor_m: float | None = None
    canonical: NDArray[np.float32] | None = None

    def bone_heads(self) -> Float64:
        """Where the bones begin in the armature's rest pose, [J, 3] m."""
        joints = self.rest_joints.astype(np.float64)
        if self.canonical is None:
            return joints
        placed: Float64 = template.joint_transforms(self.canonical, joints, self.parents)[1][:, :3, 3]
        return placed

    def from_bones(self, axis_angles: ArrayLike) -> Float64:
        """The template's rotations [..., J, 3] rad of those relative to the armature's rest pose."""
        if self.canonical is None:
            return np.asarray(axis_angles, np.float64)
        own, above = self._canonical_turns()
        turned = np.swapaxes(above, -1, -2) @ template.rotation_matrices(axis_angles) @ above @ own
        return rotations.axis_angles_from_matrices(turned)

    def to_bones(self, axis_angles: ArrayLike) -> Float64:
        """Inverse of `from_bones`: joint j turns by C R_j c_j^-1 C^-1, c its canonical turn and C its parent's."""
        if self.canonical is None:
            return np.asarray(axis_angles, np.float64)
        own, above = self._canonical_turns()
        local = template.rotation_matrices(axis_angles) @ np.swapaxes(own, -1, -2)
        return rotations.axis_angles_from_matrices(above @ local @ np.swapaxes(above, -1, -2))

    def _canonical_turns(self) -> tuple[Float64, Float64]:
        """(c [J, 3, 3] of each joint relative to its parent, C [J, 3, 3] of the parent in model axes)."""
        assert self.canonical is not None
        whole = template.joint_transforms(self.canonical, self.rest_joints, self.parents)[1][:, :3, :3]
        above = np.where((self.parents >= 0)[:, None, None], whole[np.maximum(self.parents, 0)], np.eye(3))
        return template.rotation_matrices(self.canonical.astype(np.float64)), above


def bone_tails(joint_names: tuple[str, ...], parents: ArrayLike, rest_joints: ArrayLike) -> Float64:
    """Tail of each joint's bone, [J, 3] m: at the child that continues the limb, else straight on from the parent.

    Never closer than MIN_LENGTH_M to the head, because Blender deletes bones of no length.
    """
    joints = np.asarray(rest_joints, dtype=np.float64)
    ancestry = np.asarray(parents, dtype=np.int64)
    tails = np.empty_like(joints)
    for index, name in enumerate(joint_names):
        known = "head" if name == "neck" and "head" not in joint_names else name  # FLAME's neck carries the head
        if known in NAMED_BONES:
            direction, length = NAMED_BONES[known]
            tails[index] = joints[index] + length * _unit(np.asarray(direction))
            continue
        parent = ancestry[index]
        came = _unit(joints[index] - joints[parent]) if parent >= 0 else np.asarray(UP)
        offsets = joints[np.flatnonzero(ancestry == index)] - joints[index]
        lengths = np.linalg.norm(offsets, axis=1)
        offsets = offsets[lengths >= MIN_LENGTH_M]
        along = (offsets / np.linalg.norm(offsets, axis=1, keepdims=True)) @ came if len(offsets) else np.empty(0)
        if len(offsets) == 1 or (len(offsets) and along.max() > np.cos(np.radians(60))):
            tails[index] = joints[index] + offsets[int(np.argmax(along))]
        else:
            reach = np.linalg.norm(joints[index] - joints[parent]) * 0.5 if parent >= 0 else 0.1
            tails[index] = joints[index] + max(float(reach), MIN_LENGTH_M) * came
    return tails


def roll_axis(name: str, head: ArrayLike, tail: ArrayLike) -> tuple[float, float, float]:
    """The model axis a bone's local z should lean to, so that knees, elbows and fingers bend about its x.

    Forward, but up for hands and fingers and for bones that point forward themselves.
    """
    if region_of(name) in UPWARD_REGIONS or plain(name) == "wrist":
        return UP
    along = _unit(np.asarray(tail, dtype=np.float64) - np.asarray(head, dtype=np.float64))
    return UP if abs(float(along @ np.asarray(FORWARD))) > 0.7 else FORWARD


def pose_from_bones(posed: ArrayLike, rest: ArrayLike, parents: ArrayLike) -> tuple[Float64, Float64]:
    """(rotations [J, 3] rad, translation [3] m) from posed and rest bone matrices [J, 4, 4] in armature space.

    Scale in a bone is dropped, and so is any shift of a bone other than the root: a body's limbs do neither.
    """
    p, l = np.asarray(posed, dtype=np.float64), np.asarray(rest, dtype=np.float64)
    ancestry = np.asarray(parents, dtype=np.int64)
    moved = nearest_rotations(p[:, :3, :3] @ np.swapaxes(l[:, :3, :3], -1, -2))
    parent_moved = np.where((ancestry >= 0)[:, None, None], moved[np.maximum(ancestry, 0)], np.eye(3))
    local = np.swapaxes(parent_moved, -1, -2) @ moved
    root = int(np.flatnonzero(ancestry < 0)[0])
    return rotations.axis_angles_from_matrices(local), p[root, :3, 3] - l[root, :3, 3]


def bones_from_pose(
    axis_angles: ArrayLike, translation: ArrayLike, rest: ArrayLike, parents: ArrayLike
) -> tuple[Float64, Float64]:
    """(quaternions [..., J, 4] wxyz, root location [..., 3] m) in each bone's own axes: what pose channels hold.

    axis_angles: [..., J, 3] rad; translation: [..., 3] m; rest: [J, 4, 4]. The inverse
    of `pose_from_bones` where nothing else (constraint, driver) moves the bones: basis = L^-1 R L.
    """
    axes = np.asarray(rest, dtype=np.float64)[:, :3, :3]
    matrices = template.rotation_matrices(axis_angles)
    basis = np.swapaxes(axes, -1, -2) @ matrices @ axes
    root = int(np.flatnonzero(np.asarray(parents) < 0)[0])
    return rotations.quaternions_from_matrices(basis), np.asarray(translation, dtype=np.float64) @ axes[root]


def standing_translation(
    axis_angles: ArrayLike,
    joint_names: tuple[str, ...],
    parents: ArrayLike,
    rest_joints: ArrayLike,
    floor_m: float | None,
) -> Float64:
    """[3] m that puts a posed body's lower foot on the plane z = 0 above its object's origin; zero for heads.

    floor_m: z of the soles at rest, None where there are no feet.
    """
    feet = [joint_names.index(name) for name in FEET if name in joint_names]
    if floor_m is None or not feet:
        return np.zeros(3)
    joints = np.asarray(rest_joints, dtype=np.float64)
    _, posed = template.joint_transforms(axis_angles, joints, np.asarray(parents))
    return np.array([0.0, 0.0, -floor_m - float((posed[feet, 2, 3] - joints[feet, 2]).min())])


def missing_bone(bone: str, armature: str) -> None:
    """Raise BadAvatar for a deleted or renamed bone."""
    raise errors.BadAvatar(
        f"Armature {armature!r} has lost the bone {bone!r}", do="Undo its deletion or renaming, or add the avatar again"
    )


def check_rest(rest: ArrayLike, rest_joints: ArrayLike, joint_names: tuple[str, ...], armature: str) -> None:
    """Refuse an armature whose rest pose was edited: its rotations would no longer mean what the avatar learnt."""
    heads = np.asarray(rest, dtype=np.float64)[:, :3, 3]
    away = np.linalg.norm(heads - np.asarray(rest_joints, dtype=np.float64), axis=1)
    worst = int(np.argmax(away))
    if away[worst] > 1e-3:
        raise errors.BadAvatar(
            f"The rest pose of armature {armature!r} was changed",
            found=f"bone {joint_names[worst]!r} {away[worst] * 100:.1f} cm from its joint",
            expected="the rest bones the avatar came with",
            do="Undo the edit of the rest pose, or add the avatar again",
        )


def rigid_with_uniform_scale(world_from_avatar: ArrayLike, armature: str) -> Float64:
    """[4, 4] the matrix itself where it is a rotation, one positive scale and a shift; raises BadAvatar otherwise."""
    matrix = np.array(world_from_avatar, dtype=np.float64)
    linear = matrix[:3, :3]
    scale = float(np.cbrt(abs(np.linalg.det(linear))))
    if scale < 1e-6 or np.linalg.det(linear) < 0 or np.abs(linear @ linear.T / scale**2 - np.eye(3)).max() > 1e-3:
        raise errors.BadAvatar(
            f"Armature {armature!r} is mirrored or scaled unevenly",
            found="scale " + ", ".join(f"{n:.3f}" for n in np.linalg.norm(linear, axis=0)),
            expected="the same positive scale along all axes",
            do="Set its three scale values, and those of its parents, to one number",
        )
    return matrix


def _unit(vector: Float64) -> Float64:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 1e-9 else np.asarray(UP)
