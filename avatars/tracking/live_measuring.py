"""A face that was followed live beside the exact capture that its video was made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from avatars.captures.capture import Capture
from avatars.templates.opening import embedded_template
from avatars.tracking.live import LivePose
from avatars.tracking.measuring import MOVES, UNTRACKED, angles_deg
from shared.template import TemplateArrays, joint_transforms
from shared.types import Float64, Pose


def measure_live(
    followed: Sequence[LivePose], images: Sequence[int], truth: Capture, bust: TemplateArrays
) -> dict[str, float]:
    """Head rotation less one constant (deg), how much its error changes from picture to picture (jitter, deg), jaw and
    41 expressions (r). images: of `truth`, which each pose belongs to."""
    body = embedded_template("body")
    exact = [truth.motion.at(truth.images[index].frame) for index in images]
    ours = np.stack([one.world_from_camera[:3, :3].T @ head_turn(one.pose, bust) for one in followed])
    theirs = np.stack(
        [
            truth.cameras[truth.images[index].camera].world_from_camera[:3, :3].T
            @ head_turn(_all_joints(pose, truth.joint_names, body), body)
            for index, pose in zip(images, exact, strict=True)
        ]
    )
    between = ours.transpose(0, 2, 1) @ theirs
    left, _, right = np.linalg.svd(between.mean(0))
    error = (left @ right).T @ between
    steps = [row for row in range(1, len(images)) if images[row] - images[row - 1] == 1]
    jitter = angles_deg(np.stack([error[row - 1].T @ error[row] for row in steps])) if steps else np.zeros(1)
    jaw, true_jaw = (
        np.array([pose.rotations[names.index("jaw"), 0] for pose in poses])
        for poses, names in (([one.pose for one in followed], bust.joint_names), (exact, truth.joint_names))
    )
    weights, true_weights = np.stack([one.pose.expression for one in followed]), np.stack([p.expression for p in exact])
    r = [
        np.corrcoef(weights[:, bust.expression_names.index(name)], true_weights[:, row])[0, 1]
        for row, name in enumerate(truth.expression_names)
        if true_weights[:, row].std() > MOVES
        and not name.startswith(UNTRACKED)
        and weights[:, bust.expression_names.index(name)].std() > 0
    ]
    return {
        "rotation_less_constant_deg": round(float(angles_deg(error).mean()), 2),
        "jitter_deg": round(float(jitter.mean()), 3),
        "jaw_r": round(float(np.corrcoef(jaw, true_jaw)[0, 1]), 3),
        "expression_r": round(float(np.mean(r)), 3),
    }


def head_turn(pose: Pose, arrays: TemplateArrays) -> Float64:
    """[3, 3] world from head of a template's pose."""
    world = joint_transforms(pose.rotations, arrays.joints, arrays.parents)[1]
    found: Float64 = world[arrays.joint("head"), :3, :3]
    return found


def _all_joints(pose: Pose, names: Sequence[str], arrays: TemplateArrays) -> Pose:
    rotations = np.zeros((len(arrays.joint_names), 3), np.float32)
    rotations[[arrays.joint(name) for name in names]] = pose.rotations
    return Pose(rotations, pose.translation, pose.expression)
