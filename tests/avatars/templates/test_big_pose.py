"""The canonical pose: legs apart, everything else at rest, and transforms that lead from it to any pose."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatars.templates.big_pose import big_pose, big_pose_rotations, surface_triangles
from avatars.templates.opening import embedded_template
from avatars.templates.template import Template
from shared.errors import BadTemplate
from shared.template import joint_transforms, rest


def test_legs_go_apart_and_nothing_else_moves() -> None:
    arrays = embedded_template("body")
    canonical = big_pose(arrays, preset="woman")
    moved = canonical.joints - canonical.rest_joints
    names = arrays.joint_names
    assert moved[names.index("left_ankle"), 0] > 0.25
    assert moved[names.index("right_ankle"), 0] < -0.25
    assert abs(moved[names.index("left_ankle"), 1]) < 1e-6, "outwards, not forwards"
    still = [k for k, name in enumerate(names) if not name.endswith(("knee", "ankle", "foot"))]
    np.testing.assert_allclose(moved[still], 0, atol=1e-6)


def test_transforms_from_the_canonical_pose_reach_what_the_template_poses() -> None:
    arrays = embedded_template("body")
    canonical = big_pose(arrays, preset="man")
    rng = np.random.default_rng(1)
    rotations = rng.normal(0, 0.2, (55, 3)).astype(np.float32)
    translation = np.array([0.3, -0.1, 0.9], np.float32)
    skinning, _ = joint_transforms(rotations, canonical.rest_joints, arrays.parents, translation)
    from_canonical = skinning @ np.linalg.inv(canonical.skinning)
    # Vertices that one joint moves alone must land exactly where linear blend skinning from rest puts them.
    alone = np.flatnonzero(arrays.weights.max(1) > 1 - 1e-6)
    joint = arrays.weights[alone].argmax(1)
    points = np.concatenate((canonical.vertices[alone], np.ones((len(alone), 1))), axis=1)
    reached = np.einsum("vab,vb->va", from_canonical[joint], points)[:, :3]
    posed = Template(arrays)(torch.from_numpy(rotations)[None], torch.from_numpy(translation)[None], preset="man")
    np.testing.assert_allclose(reached, posed.vertices[0, alone], atol=2e-5)


def test_surface_leaves_out_helpers_and_heads_are_refused() -> None:
    arrays = embedded_template("body")
    triangles = surface_triangles(arrays)
    assert len(triangles) == sum(2 * len(arrays.faces[name]) for name in ("skin",)) + sum(
        (arrays.faces[name][:, 2] != arrays.faces[name][:, 3]).sum() + len(arrays.faces[name])
        for name in ("eye_l", "eye_r", "teeth", "tongue", "lashes")
    )
    assert not np.isin(np.setdiff1d(arrays.group_vertices("tights"), arrays.group_vertices("skin")), triangles).any()
    assert rest(arrays)[0].shape == arrays.vertices.shape
    with pytest.raises(BadTemplate, match="whole body"):
        big_pose_rotations(embedded_template("bust").joint_names)
