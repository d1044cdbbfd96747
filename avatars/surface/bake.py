"""Colour, roughness, metallic and normals of a surface, painted into textures of its unwrapped mesh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from avatars.rendering.mesh import rasterise_mesh
from avatars.surface.unwrap import Unwrapped, smooth_normals, tangents, unit

Floats = NDArray[np.float64]
FLATTEST = 0.2
"""Normals lean away from the mesh's own at most so far that this much of them still points along it."""
TEXELS_AT_ONCE = 1 << 18
RING_TEXELS, FARTHEST_SHARE = 1.8, 3.0
"""So far beyond charts textures run on exactly; farther out, and beyond splinters, the nearest texel is repeated."""


@dataclass(frozen=True, eq=False)
class Look:
    """What P points look like. colour: [P, 3] sRGB 0..1; roughness, metallic: [P] 0..1; normals: [P, 3] unit.

    None where that is not known.
    """

    colour: Floats
    roughness: Floats | None = None
    metallic: Floats | None = None
    normals: Floats | None = None


LookAt = Callable[[Floats, Floats], Look]
"""(points [P, 3] m on the mesh, its normals [P, 3]) -> what is there."""


@dataclass(frozen=True, eq=False)
class Textures:
    """Pictures [S, S, C] uint8, row 0 at v = 1, None where nothing is known. covered: [S, S] texels a face lies on."""

    colour: NDArray[np.uint8]
    normal: NDArray[np.uint8] | None
    orm: NDArray[np.uint8] | None
    covered: NDArray[np.bool_]


def bake(
    mesh: Unwrapped,
    vertices: NDArray[np.floating],
    faces: NDArray[np.integer],
    look_at: LookAt,
    texture_px: int,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> Textures:
    """Paint textures of a mesh [V, 3] m, [F, 3]. tell: texels done and how many there are."""
    normals = smooth_normals(vertices, faces)
    around, signs = tangents(mesh, vertices, normals)
    on_image = np.stack((mesh.uv[:, 0] * texture_px, (1 - mesh.uv[:, 1]) * texture_px), 1)
    face_id, shares, _ = rasterise_mesh(on_image, mesh.faces, texture_px, texture_px)
    covered = face_id >= 0
    face_id, shares = _run_on(face_id, shares.astype(np.float64), on_image[mesh.faces])
    painted = face_id >= 0
    corners, weight = mesh.faces[face_id[painted]], shares[painted]

    def mixed(values: Floats) -> Floats:
        found: Floats = (values[corners] * weight[..., None]).sum(1)
        return found

    place = mixed(np.asarray(vertices, np.float64)[mesh.source])
    up = unit(mixed(normals[mesh.source]))
    count = len(place)
    parts: list[Look] = []
    for begun in range(0, count, TEXELS_AT_ONCE):
        rows = slice(begun, begun + TEXELS_AT_ONCE)
        parts.append(look_at(place[rows], up[rows]))
        tell(min(begun + TEXELS_AT_ONCE, count), count)
    filled = _nearest_covered(painted)

    def picture(values: list[Floats]) -> NDArray[np.uint8]:
        rows = np.concatenate(values)
        image = np.zeros((texture_px, texture_px, rows.shape[1]), np.uint8)
        image[painted] = (np.clip(rows, 0, 1) * 255 + 0.5).astype(np.uint8)
        return image[filled] if painted.any() else image

    colour = picture([part.colour for part in parts]) if parts else np.zeros((texture_px, texture_px, 3), np.uint8)
    orm = normal = None
    if parts and all(part.roughness is not None for part in parts):
        orm = picture([_orm(part) for part in parts])
    if parts and all(part.normals is not None for part in parts):
        along = mixed(around)
        across = np.cross(up, along) * mixed(signs[:, None])
        wanted = _held(np.concatenate([part.normals for part in parts if part.normals is not None]), up)
        local = np.stack([(wanted * axis).sum(1) for axis in (unit(along), unit(across), up)], 1)
        normal = picture([unit(local) * 0.5 + 0.5])
    return Textures(colour, normal, orm, covered)


def _run_on(face_id: NDArray[np.int32], shares: Floats, corners: Floats) -> tuple[NDArray[np.int32], Floats]:
    """Faces [S, S] and shares [S, S, 3] of texels, those just outside a chart as if its nearest face went on there.

    corners: [F, 3, 2] px of faces. A texture is mixed from four texels: along a seam those outside count as well, and
    must show what lies there, not a copy of their neighbour.
    """
    covered = face_id >= 0
    if not covered.any() or covered.all():
        return face_id, shares
    away, (rows, columns) = distance_transform_edt(~covered, return_indices=True)
    ring = np.nonzero(~covered & (away < RING_TEXELS))
    face = face_id[rows[ring], columns[ring]]
    a, b, c = corners[face].transpose(1, 0, 2)
    at = np.stack((ring[1] + 0.5, ring[0] + 0.5), 1) - a
    one, two = b - a, c - a
    area = one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]
    safe = np.where(np.abs(area) < 1e-9, 1.0, area)
    v = (at[:, 0] * two[:, 1] - at[:, 1] * two[:, 0]) / safe
    w = (one[:, 0] * at[:, 1] - one[:, 1] * at[:, 0]) / safe
    beyond = np.stack((1 - v - w, v, w), 1)
    usable = (np.abs(area) >= 1e-9) & (np.abs(beyond).max(1) < FARTHEST_SHARE)
    beyond = np.where(usable[:, None], beyond, shares[rows[ring], columns[ring]])
    faces, mixed = face_id.copy(), shares.copy()
    faces[ring], mixed[ring] = face, beyond
    return faces, mixed


def _held(normals: Floats, up: Floats) -> Floats:
    """Normals that face the mesh's side: those that do not are the mesh's own."""
    length = (normals * up).sum(1, keepdims=True)
    return np.where(length > FLATTEST, normals, up)


def _orm(part: Look) -> Floats:
    assert part.roughness is not None
    metallic = np.zeros_like(part.roughness) if part.metallic is None else part.metallic
    return np.stack((np.ones_like(part.roughness), part.roughness, metallic), 1)


def _nearest_covered(covered: NDArray[np.bool_]) -> tuple[NDArray[np.intp], ...]:
    """(row, column) [S, S] of the covered texel nearest to each: colours run on beyond the charts, so no seam shows."""
    if not covered.any():
        return tuple(np.indices(covered.shape))
    _, places = distance_transform_edt(~covered, return_indices=True)
    return tuple(places)
