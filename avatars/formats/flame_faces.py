"""FLAME's faces as other projects' files number them, with either set of teeth after them (method page 2.4, 10.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avatars.templates.template import template_triangles
from shared.errors import BadTemplate
from shared.template import TemplateArrays

FLAME_FACES, RGBAVATAR_FACES, GAUSSIAN_AVATARS_FACES = 9976, 10032, 10144
STRIP = 28
"""Triangles of a strip of teeth: 14 columns of two."""


def numbered_faces(template: TemplateArrays) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Triangles [F, 3], their UV triangles [F, 3] and face groups [F], numbered as FLAME's then the teeth's.

    Raises BadTemplate for a template that is not FLAME's faces with RGBAvatar's teeth, GaussianAvatars' or none.
    """
    faces, uv_faces, owner = template_triangles(template)
    known = (FLAME_FACES, RGBAVATAR_FACES, GAUSSIAN_AVATARS_FACES)
    if len(faces) not in known:
        raise BadTemplate(
            f"the template {template.template_id!r} is not FLAME",
            found=f"{len(faces)} faces",
            expected=", ".join(map(str, known)),
            do="Choose an avatar or a template of FLAME",
        )
    return faces.astype(np.int64), uv_faces.astype(np.int64), owner.astype(np.int64)


def between_teeth(face: NDArray[np.integer], faces_from: int, faces_to: int) -> NDArray[np.int64]:
    """Face numbers [N] of a FLAME of `faces_from` faces in one of `faces_to`; -1 where the other set has no such face.

    RGBAvatar's teeth are the front strips of GaussianAvatars' (upper and lower, column by column); those have back and
    bottom strips besides.
    """
    face = np.asarray(face, np.int64)
    if faces_from == faces_to:
        return face
    table = np.full(faces_from, -1, np.int64)
    table[:FLAME_FACES] = np.arange(FLAME_FACES)
    starts = {RGBAVATAR_FACES: (0, STRIP), GAUSSIAN_AVATARS_FACES: (0, 3 * STRIP)}
    if faces_from in starts and faces_to in starts:
        for mine, other in zip(starts[faces_from], starts[faces_to], strict=True):
            table[FLAME_FACES + mine + np.arange(STRIP)] = FLAME_FACES + other + np.arange(STRIP)
    return table[face]
