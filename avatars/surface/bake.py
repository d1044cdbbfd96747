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
    corners, weight = mesh.faces[face_id[covered]], shares[covered].astype(np.float64)

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
    filled = _nearest_covered(covered)

    def picture(values: list[Floats]) -> NDArray[np.uint8]:
        rows = np.concatenate(values)
        image = np.zeros((texture_px, texture_px, rows.shape[1]), np.uint8)
        image[covered] = (np.clip(rows, 0, 1) * 255 + 0.5).astype(np.uint8)
        return image[filled] if covered.any() else image

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
