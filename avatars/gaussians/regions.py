"""Parts of a template's face groups, found from its weights and expressions, so that any head template has them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avatars.templates.template import triangles_of
from shared.errors import BadTemplate, nearest
from shared.template import TemplateArrays

HEAD_JOINTS = ("head", "jaw", "left_eye", "right_eye")
STILL_M = 0.001
"""A vertex that no expression moves further than this is not part of the face."""
PARTS = {
    "": "all",
    "face": "face",
    "scalp": "scalp",
    "body": "body",
    "hair1": "scalp",
    "hair2": "scalp",
    "hair3": "scalp",
}
"""Part name -> which triangles. The hair parts are further layers over the scalp, told apart by their offsets."""


def patch_triangles(template: TemplateArrays, patch: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Triangles [F, 3] and their UV triangles of a patch: a face group, or 'group/part' with a part of PARTS.

    face: on the head and moved by some expression. scalp: on the head and still. body: all below. Raises BadTemplate.
    """
    group, _, part = patch.partition("/")
    if group not in template.faces:
        raise BadTemplate(f"the template has no faces {group!r}{nearest(group, template.faces)}")
    if part not in PARTS:
        raise BadTemplate(
            f"unknown part {part!r} in {patch!r}{nearest(part, PARTS)}", expected=", ".join(filter(None, PARTS))
        )
    faces, uv_faces = triangles_of(template.faces[group], template.uv_faces[group])
    kind = PARTS[part]
    if kind == "all":
        return faces, uv_faces
    joints = [template.joint_names.index(name) for name in HEAD_JOINTS if name in template.joint_names]
    on_head = (template.weights[:, joints].sum(1) > 0.5)[faces].all(1)
    reach = np.zeros(len(template.vertices))
    if len(template.expression_dirs):
        reach[template.expression_vertices] = np.linalg.norm(template.expression_dirs, axis=-1).max(0)
    still = (reach < STILL_M)[faces].all(1)
    chosen = {"face": on_head & ~still, "scalp": on_head & still, "body": ~on_head}[kind]
    return faces[chosen], uv_faces[chosen]
