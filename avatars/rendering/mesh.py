"""Triangles to pixels on the CPU: which face covers a pixel centre, and where in the face it lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.errors import EffigyError


def rasterise_mesh(
    vertices_px: ArrayLike, faces: ArrayLike, width_px: int, height_px: int
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Rasterise triangles with a depth buffer; both windings are drawn.

    vertices_px: [V, 2] image positions (pixel centres at +0.5), or [V, 3] with camera depth > 0 in m as third column;
    then barycentrics are perspective-correct. A face with a vertex at depth <= 0 (behind the camera) or with a value
    that is not finite is left out. Without depth the first face in order wins where faces overlap (UV layouts).
    faces: [F, 3] int. Returns face_id [H, W] (-1 where nothing is), barycentrics [H, W, 3] (0 there; the weights of the
    face's three vertices) and depth [H, W] (0 there, and 0 everywhere when no depth was given).
    A pixel belongs to the face its centre lies in; a centre on an edge shared by two faces belongs to exactly one
    (top-left rule, exact because vertices snap to 1/256 px).
    """
    from avatars.rendering import cpu_mesh, jit  # numba, needed by nobody who only looks at Gaussians on a GPU

    vertices = np.asarray(vertices_px, dtype=np.float64)
    triangles = np.ascontiguousarray(faces, dtype=np.int32)
    if vertices.ndim != 2 or vertices.shape[1] not in (2, 3):
        raise EffigyError("vertices have the wrong shape", found=str(list(vertices.shape)), expected="[V, 2] or [V, 3]")
    if triangles.ndim != 2 or triangles.shape[1] != 3:
        raise EffigyError("faces have the wrong shape", found=str(list(triangles.shape)), expected="[F, 3]")
    if triangles.size and (triangles.min() < 0 or triangles.max() >= len(vertices)):
        raise EffigyError(f"faces point outside the {len(vertices)} vertices")
    if width_px < 1 or height_px < 1:
        raise EffigyError("an image needs at least one pixel", found=f"{width_px}x{height_px}")
    has_depth = vertices.shape[1] == 3
    # Farther out than this a vertex would overflow the integer edge tests; such a face is left out like a broken one.
    usable = np.isfinite(vertices).all(axis=1) & (np.abs(vertices[:, :2]) < 2.0**20).all(axis=1)
    grid = np.rint(np.where(usable[:, None], vertices[:, :2], 0.0) * cpu_mesh.SUBPIXELS).astype(np.int64)
    inverse_depth = np.ones(len(vertices))
    if has_depth:
        in_front = usable & (vertices[:, 2] > 0)
        inverse_depth = np.where(in_front, 1.0 / np.where(in_front, vertices[:, 2], 1.0), -1.0)
    inverse_depth = np.where(usable, inverse_depth, -1.0)
    face_id = np.full((height_px, width_px), -1, np.int32)
    barycentrics = np.zeros((height_px, width_px, 3), np.float32)
    nearest = np.zeros((height_px, width_px), np.float64)
    jit.run(cpu_mesh.fill_faces, grid, inverse_depth, triangles, face_id, barycentrics, nearest)
    depth = np.zeros((height_px, width_px), np.float32)
    if has_depth:
        np.divide(1.0, nearest, out=depth, where=face_id >= 0, casting="same_kind")
    return face_id, barycentrics, depth
