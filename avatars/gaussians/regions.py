"""Parts of a template's face groups, found from its weights and expressions, so that any head template has them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avatars.templates.template import triangles_of
from shared.errors import BadTemplate, nearest
from shared.template import TemplateArrays

HEAD_JOINTS = ("head", "jaw", "left_eye", "right_eye")
EYE_JOINTS = ("left_eye", "right_eye")
STILL_M = 0.001
"""A vertex that no expression moves further than this may be scalp."""
BEHIND_EYES_M, ABOVE_EYES_M = 0.02, 0.04
"""The scalp begins this far behind or above the eyes' centres; the tip of the nose is still, too, and no scalp."""
NEAR_EYES_M, NEAR_TEETH_M = 0.015, 0.016
PARTS = ("face", "lids", "lips", "scalp", "body")
LAYERS = ("hair1", "hair2", "hair3")
"""Further layers over the scalp, told apart by their offsets."""


def patch_triangles(template: TemplateArrays, patch: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Triangles [F, 3] and their UV triangles of a patch: a face group, or 'group/part'. Raises BadTemplate.

    The parts are body (below the head), scalp (on the head, still, behind or above the eyes), lids (around the
    eyeballs), lips (around the teeth, with the front of the mouth's inside) and face (the rest of the head). The layers
    hair1, hair2 and hair3 are the scalp again.
    """
    group, _, part = patch.partition("/")
    if group not in template.faces:
        raise BadTemplate(f"the template has no faces {group!r}{nearest(group, template.faces)}")
    faces, uv_faces = triangles_of(template.faces[group], template.uv_faces[group])
    if not part:
        return faces, uv_faces
    known = PARTS + LAYERS
    if part not in known:
        raise BadTemplate(f"unknown part {part!r} in {patch!r}{nearest(part, known)}", expected=", ".join(known))
    chosen = _part_of(template, faces) == PARTS.index("scalp" if part in LAYERS else part)
    return faces[chosen], uv_faces[chosen]


def _part_of(template: TemplateArrays, faces: NDArray[np.int32]) -> NDArray[np.int64]:
    """Index into PARTS of each triangle."""
    centres = template.vertices[faces].mean(1)
    names = HEAD_JOINTS if "head" in template.joint_names else ("neck", *HEAD_JOINTS)  # FLAME's neck carries the head
    joints = [template.joint_names.index(name) for name in names if name in template.joint_names]
    on_head = (template.weights[:, joints].sum(1) > 0.5)[faces].all(1)
    reach = np.zeros(len(template.vertices))
    if len(template.expression_dirs):
        reach[template.expression_vertices] = np.linalg.norm(template.expression_dirs, axis=-1).max(0)
    scalp = on_head & (reach < STILL_M)[faces].all(1)
    eyes = [template.joint_names.index(name) for name in EYE_JOINTS if name in template.joint_names]
    if eyes:
        middle = template.joints[eyes].mean(0)  # the template faces -y and stands along z
        scalp &= (centres[:, 1] > middle[1] + BEHIND_EYES_M) | (centres[:, 2] > middle[2] + ABOVE_EYES_M)
    near_eyes = _near(_eyeballs(template), centres, NEAR_EYES_M)
    near_teeth = _near(_of_groups(template, "teeth"), centres, NEAR_TEETH_M)
    conditions = [~on_head, scalp, near_eyes, near_teeth]
    return np.select(conditions, [PARTS.index(name) for name in ("body", "scalp", "lids", "lips")], PARTS.index("face"))


def _of_groups(template: TemplateArrays, start: str) -> NDArray[np.float32]:
    """Vertices [M, 3] of the face groups whose name begins with `start`."""
    groups = [name for name in template.faces if name.startswith(start)]
    return template.vertices[template.group_vertices(*groups)] if groups else np.zeros((0, 3), np.float32)


def _eyeballs(template: TemplateArrays) -> NDArray[np.float32]:
    """Vertices [M, 3] of the eyes: their face groups, or (FLAME) what turns with their joints."""
    joints = [template.joint_names.index(name) for name in EYE_JOINTS if name in template.joint_names]
    in_groups = _of_groups(template, "eye")
    return in_groups if len(in_groups) else template.vertices[template.weights[:, joints].sum(1) > 0.5]


def _near(targets: NDArray[np.float32], points: NDArray[np.float32], most_m: float) -> NDArray[np.bool_]:
    """Which points [M, 3] lie within `most_m` of one of the targets [T, 3]."""
    near = np.zeros(len(points), bool)
    if not len(targets):
        return near
    # Most of a body is nowhere near its eyes: a box around them, a little wide for rounding, leaves a tenth of it.
    low, high = targets.min(0) - 1.01 * most_m, targets.max(0) + 1.01 * most_m
    rows = np.nonzero(((points >= low) & (points <= high)).all(1))[0]
    nearest_m = np.full(len(rows), np.inf)
    for begin in range(0, len(targets), 64):  # in parts, so that no large table is made
        difference = points[rows, None] - targets[None, begin : begin + 64]
        nearest_m = np.minimum(nearest_m, np.sqrt((difference**2).sum(-1)).min(1))
    near[rows] = nearest_m < most_m
    return near
