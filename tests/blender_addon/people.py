"""Avatar details made from the embedded human without a backend: for tests that need a rig but no picture."""

from __future__ import annotations

import numpy as np

from shared import messages, template, types

GROUPS = ("skin", "eye_l", "eye_r", "teeth", "tongue", "lashes", "tights")


def bust() -> template.TemplateArrays:
    """The embedded human's head and shoulders."""
    return template.bust_view(template.load_template())


def detail(
    t: template.TemplateArrays,
    rest_pose: np.ndarray | None = None,
    avatar_id: str = "person",
    groups: tuple[str, ...] = GROUPS,
) -> messages.AvatarDetail:
    """What a backend would answer to GetAvatar for an avatar on this template."""
    vertices, joints = template.rest(t)
    faces = np.concatenate([t.faces[name] for name in groups])
    group = np.concatenate([np.full(len(t.faces[name]), index) for index, name in enumerate(groups)])
    order = np.argsort(-t.weights, axis=1)[:, :5]
    weights = np.take_along_axis(t.weights, order, axis=1)
    names = t.joint_names, t.parents, joints, t.expression_names
    rig = types.Rig(t.template_id, t.digest, *names, np.zeros(0), t.expression_ranges)
    proxy = types.ProxyMesh(
        vertices,
        faces,
        group,
        groups,
        order,
        weights / weights.sum(1, keepdims=True),
        np.full((len(vertices), 3), 0.4),
        t.expression_vertices,
        t.expression_dirs,
    )
    summary = messages.AvatarSummary(avatar_id, "Person", "rgb_head", "d" * 64, t.template_id, "2026-01-01T00:00:00Z")
    pose = np.zeros((len(t.joint_names), 3), np.float32) if rest_pose is None else rest_pose
    return messages.AvatarDetail(summary, rig, proxy, pose, np.zeros((8, 8, 4), np.uint8))
