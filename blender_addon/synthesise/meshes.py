"""Blender objects whose points are rewritten for every frame: meshes and hair curves. Positions are world metres."""

from __future__ import annotations

from collections.abc import Sequence

import bpy
import numpy as np
from numpy.typing import NDArray

from .surface import Array, Index, SurfacePoints, triangle_frames


class MovingMesh:
    """A mesh object with fixed polygons; `move` gives it new vertex positions."""

    def __init__(
        self,
        collection: bpy.types.Collection,
        name: str,
        polygons: Sequence[Sequence[int]],
        rest: Array,
        materials: Sequence[bpy.types.Material],
        *,
        corner_uv: NDArray[np.float32] | None = None,
        subdivisions: int = 1,
        thickness_m: float = 0.0,
    ) -> None:
        mesh = bpy.data.meshes.new(name)
        mesh.from_pydata(rest.tolist(), [], [list(polygon) for polygon in polygons])
        mesh.polygons.foreach_set("use_smooth", np.ones(len(mesh.polygons), bool))
        for material in materials:
            mesh.materials.append(material)
        if corner_uv is not None:
            mesh.uv_layers.new(name="uv").data.foreach_set("uv", corner_uv.astype(np.float32).ravel())
        attribute = mesh.attributes.new("rest", "FLOAT_VECTOR", "POINT")
        attribute.data.foreach_set("vector", rest.astype(np.float32).ravel())
        self.mesh = mesh
        self.object = bpy.data.objects.new(name, mesh)
        collection.objects.link(self.object)
        if thickness_m:
            solid = self.object.modifiers.new("thickness", "SOLIDIFY")
            solid.thickness, solid.offset = thickness_m, -1.0
        if subdivisions:
            smooth = self.object.modifiers.new("smooth", "SUBSURF")
            smooth.levels = smooth.render_levels = subdivisions

    def move(self, positions: Array) -> None:
        """Set vertex positions [V, 3] m."""
        self.mesh.vertices.foreach_set("co", positions.astype(np.float32).ravel())
        self.mesh.update()


class Strands:
    """Hair curves rooted on skin triangles; every strand keeps its place in the local frame of its triangle."""

    def __init__(
        self,
        collection: bpy.types.Collection,
        name: str,
        roots: SurfacePoints,
        points: Array,
        skin_rest: Array,
        material: bpy.types.Material,
        *,
        root_radius_m: float,
        tip_share: float = 0.3,
    ) -> None:
        """points: [N, K, 3] m at rest, the first of each strand on the skin. skin_rest: [V, 3] m."""
        self.roots = roots
        frames = triangle_frames(skin_rest, roots.tri)
        self.local = np.einsum("nab,nka->nkb", frames, points - roots.at(skin_rest)[:, None])
        count, length = points.shape[:2]
        curves = bpy.data.hair_curves.new(name)
        curves.add_curves([length] * count)
        radius = curves.attributes.get("radius") or curves.attributes.new("radius", "FLOAT", "POINT")
        taper = root_radius_m * (1 - (1 - tip_share) * np.linspace(0, 1, length) ** 1.5)
        radius.data.foreach_set("value", np.tile(taper, count).astype(np.float32))
        curves.materials.append(material)
        self.curves = curves
        self.object = bpy.data.objects.new(name, curves)
        collection.objects.link(self.object)

    def move(self, skin: Array) -> None:
        """Follow the skin vertices [V, 3] m."""
        points = self.roots.at(skin)[:, None] + np.einsum(
            "nab,nkb->nka", triangle_frames(skin, self.roots.tri), self.local
        )
        self.curves.attributes["position"].data.foreach_set("vector", points.astype(np.float32).ravel())
        self.curves.update_tag()


def corner_uvs(
    uv: NDArray[np.float32], uv_faces: NDArray[np.int32], polygons: Sequence[Sequence[int]]
) -> NDArray[np.float32]:
    """[C, 2] texture coordinates per polygon corner, in the order of `MovingMesh`; repeated corners left out."""
    return uv[np.concatenate([row[: len(polygon)] for row, polygon in zip(uv_faces, polygons)])]


def group_polygons(faces: NDArray[np.int32], vertex_ids: NDArray[np.int32]) -> list[list[int]]:
    """Faces [F, 4] renumbered into sorted vertex_ids, without repeated corners."""
    index: Index = np.searchsorted(vertex_ids, faces)
    return [list(dict.fromkeys(row)) for row in index.tolist()]
