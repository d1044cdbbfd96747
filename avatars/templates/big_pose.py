"""The body's canonical pose: legs apart, so that nothing touches. Surface points, weights and anchors live there.

Source: MMLPHuman (CVPR 2025) and AnimatableGaussians: both hips turned 25 degrees outwards, all else at rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadTemplate
from shared.template import TemplateArrays, joint_transforms, rest, skin

OUTWARDS_RAD = float(np.radians(25.0))
SURFACE_GROUPS = ("skin", "eye_l", "eye_r", "teeth", "tongue", "lashes")
"""Face groups that a person shows; the open template's others are helpers for clothes and hair."""


@dataclass(frozen=True, eq=False)
class BigPose:
    """A body in its canonical pose. vertices [V, 3] and joints [J, 3] m, model axes, root at the rest place.

    rest_joints: [J, 3] m of the rest (T) pose. skinning: [J, 4, 4] float64, canonical from rest.
    """

    vertices: NDArray[np.float32]
    joints: NDArray[np.float32]
    rest_joints: NDArray[np.float32]
    skinning: NDArray[np.float64]


def big_pose_rotations(joint_names: Sequence[str]) -> NDArray[np.float32]:
    """[J, 3] rad of the canonical pose for a body with these joints. Raises BadTemplate where it has no hips.

    SMPL-X turns about its own z axis, which faces forwards; in Effigy's axes that is -y.
    """
    rotations = np.zeros((len(joint_names), 3), np.float32)
    for name, sign in (("left_hip", 1.0), ("right_hip", -1.0)):
        if name not in joint_names:
            raise BadTemplate(
                "this template is no whole body", found=f"{len(joint_names)} joints without {name!r}", expected="hips"
            )
        rotations[list(joint_names).index(name), 1] = -sign * OUTWARDS_RAD
    return rotations


def big_pose(arrays: TemplateArrays, *, preset: str = "", shape: Sequence[float] = ()) -> BigPose:
    """A template's identity in the canonical pose (linear blend skinning, no pose correctives). Raises BadTemplate."""
    vertices, joints = rest(arrays, preset=preset, shape=np.asarray(shape, np.float32))
    skinning, world = joint_transforms(big_pose_rotations(arrays.joint_names), joints, arrays.parents)
    return BigPose(skin(vertices, arrays.weights, skinning), world[:, :3, 3].astype(np.float32), joints, skinning)


def surface_triangles(arrays: TemplateArrays, groups: Sequence[str] = SURFACE_GROUPS) -> NDArray[np.int64]:
    """Triangles [F, 3] of the face groups a person shows, in the template's order; groups it lacks are left out."""
    parts = []
    for name in arrays.faces:
        if name in groups:
            quads = arrays.faces[name].astype(np.int64)
            two = quads[quads[:, 2] != quads[:, 3]]
            parts += [quads[:, :3], two[:, [0, 2, 3]]]
    if not parts:
        raise BadTemplate("the template has none of these face groups", found=", ".join(arrays.faces))
    return np.concatenate(parts)
