"""A mesh made lighter, unwrapped, and its frames of tangents: what textures are painted in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadConfig

Floats = NDArray[np.float64]
Faces = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Unwrapped:
    """Corners that share place and UV. source: [N] row of the mesh's vertices; faces: [F, 3] into the corners, in the
    mesh's order; uv: [N, 2] in 0..1, v upwards."""

    source: NDArray[np.int64]
    faces: Faces
    uv: Floats

    def corner_uv(self) -> NDArray[np.float32]:
        """UV of each face's corners, [F, 3, 2]."""
        found: NDArray[np.float32] = self.uv[self.faces].astype(np.float32)
        return found


def decimated(vertices: NDArray[np.floating], faces: NDArray[np.integer], most_faces: int) -> tuple[Floats, Faces]:
    """The mesh with at most about `most_faces` triangles (quadric edge collapse); unchanged if it has no more.

    Raises BadConfig for a number no mesh can have.
    """
    if most_faces < 4:
        raise BadConfig("a mesh needs at least 4 faces", found=str(most_faces))
    points, triangles = np.asarray(vertices, np.float64), np.asarray(faces, np.int64)
    if len(triangles) <= most_faces:
        return points, triangles
    import fast_simplification

    lighter, kept = fast_simplification.simplify(
        points.astype(np.float32), triangles.astype(np.int32), target_count=most_faces
    )
    return cleaned(lighter, kept)


def cleaned(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> tuple[Floats, Faces]:
    """Without triangles of no area and vertices no triangle has."""
    points, triangles = np.asarray(vertices, np.float64), np.asarray(faces, np.int64)
    corners = points[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    triangles = triangles[area > 1e-14]
    used, renumbered = np.unique(triangles, return_inverse=True)
    return points[used], renumbered.reshape(-1, 3)


def unwrapped(vertices: NDArray[np.floating], faces: NDArray[np.integer], texture_px: int) -> Unwrapped:
    """Charts of a mesh [V, 3], [F, 3], packed for a square texture of that size, with room between them (xatlas)."""
    import xatlas

    atlas = xatlas.Atlas()
    atlas.add_mesh(np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces, np.uint32))
    packing = xatlas.PackOptions()
    packing.resolution, packing.padding, packing.bilinear = texture_px, max(2, texture_px // 512), True
    packing.rotate_charts = True
    atlas.generate(xatlas.ChartOptions(), packing)
    source, indices, uv = atlas[0]
    return Unwrapped(source.astype(np.int64), indices.astype(np.int64), uv.astype(np.float64))


def smooth_normals(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> Floats:
    """Unit normals [V, 3], faces weighted by the angle at the vertex as Blender and MikkTSpace do; 0 without a face."""
    points, triangles = np.asarray(vertices, np.float64), np.asarray(faces)
    corners = points[triangles]
    across = unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    total = np.zeros_like(points)
    for corner, angle in enumerate(corner_angles(corners).T):
        np.add.at(total, triangles[:, corner], across * angle[:, None])
    return unit(total)


def tangents(mesh: Unwrapped, vertices: NDArray[np.floating], normals: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """(tangents [N, 3], signs [N]) of the corners as MikkTSpace has them: bitangent = sign * normal x tangent.

    vertices, normals: [V, 3] of the mesh. A corner whose faces are all without extent in UV gets any tangent.
    """
    place, normal = np.asarray(vertices, np.float64)[mesh.source], np.asarray(normals, np.float64)[mesh.source]
    p, t = place[mesh.faces], mesh.uv[mesh.faces]
    edge1, edge2 = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]
    side1, side2 = t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]
    turned = side1[:, 0] * side2[:, 1] - side1[:, 1] * side2[:, 0]
    way = np.sign(turned)
    along = unit((edge1 * side2[:, 1:] - edge2 * side1[:, 1:]) * way[:, None])
    total, signs = np.zeros_like(place), np.zeros(len(place))
    for corner, angle in enumerate(corner_angles(p).T):
        row = mesh.faces[:, corner]
        flat = unit(along - normal[row] * (along * normal[row]).sum(1, keepdims=True))
        np.add.at(total, row, flat * angle[:, None])
        np.add.at(signs, row, way * angle)
    found = unit(total)
    lost = np.linalg.norm(found, axis=1) < 0.5
    axis = np.eye(3)[np.abs(normal[lost]).argmin(1)]
    found[lost] = unit(np.cross(normal[lost], axis))
    return found, np.where(signs < 0, -1.0, 1.0)


def corner_angles(corners: Floats) -> Floats:
    """Angles [F, 3] rad of triangles [F, 3, 3]."""
    found = np.empty(corners.shape[:2])
    for corner in range(3):
        a = unit(corners[:, (corner + 1) % 3] - corners[:, corner])
        b = unit(corners[:, (corner + 2) % 3] - corners[:, corner])
        found[:, corner] = np.arccos(np.clip((a * b).sum(1), -1, 1))
    return found


def unit(vectors: Floats) -> Floats:
    """Vectors of length 1; 0 stays 0."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > 1e-20, vectors / np.maximum(length, 1e-20), 0.0)
