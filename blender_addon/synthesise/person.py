"""The whole person in a scene: template meshes, shirt and hair, moved together from pose parameters."""

from __future__ import annotations

import bpy
import numpy as np

from .._shared import template
from . import hair, materials, outfit
from .anatomy import HeadFrame, head_frame
from .clothes import Shirt, hidden_skin, make_shirt
from .meshes import MovingMesh, Strands, corner_uvs, group_polygons
from .plain_materials import make_plain
from .surface import Array, triangles, unit, vertex_normals

EYES = ("eye_l", "eye_r")
IRIS = {"man": (0.105, 0.115, 0.075), "woman": (0.150, 0.080, 0.035)}
"""Linear iris colours."""


class Person:
    """A preset of the bust view in a shirt or of the body view in a whole outfit; `pose` moves it to one instant."""

    def __init__(
        self,
        collection: bpy.types.Collection,
        bust: template.TemplateArrays,
        preset: str,
        shape: Array,
        *,
        strands: int,
        seed: int,
        hair_length: float = 1.0,
        hair_melanin: float = 0.96,
        plain: bool = False,
    ) -> None:
        """plain: of albedo, roughness and metallic alone, with a belt (`plain_materials`)."""
        self.bust, self.preset, self.shape = bust, preset, shape
        rest, joints = (part.astype(np.float64) for part in template.rest(bust, preset=preset, shape=shape))
        self.frame: HeadFrame = head_frame(bust, joints)
        self.meshes: list[tuple[np.ndarray, MovingMesh]] = []
        skin_faces = bust.faces["skin"]
        whole = bust.view == "body"
        hidden = outfit.hidden_skin(bust, self.frame, rest, joints) if whole else hidden_skin(self.frame, rest)
        shown = ~hidden[skin_faces].all(axis=1)
        self._add(collection, "skin", rest, materials.skin_material(preset), 1, shown)
        for name in EYES:
            ball = rest[bust.group_vertices(name)]
            centre = (ball.min(axis=0) + ball.max(axis=0)) / 2
            self._add(collection, name, rest, materials.eye_material(name, centre, IRIS.get(preset, IRIS["man"])), 2)
        self._add(
            collection,
            "teeth",
            rest,
            materials.teeth_material("teeth", rest[bust.group_vertices("teeth")].mean(axis=0)),
            2,
        )
        self._add(collection, "tongue", rest, materials.tongue_material(preset), 2)
        self.clothes: outfit.Outfit | Shirt = (
            outfit.make_outfit(collection, bust, rest, joints, self.frame, seed=seed, belt=plain)
            if whole
            else make_shirt(collection, bust, rest, self.frame, seed=seed)
        )
        self.hair_length, self.hair_melanin = hair_length, hair_melanin
        self.strands = self._grow(collection, rest, joints, strands, np.random.default_rng(seed))
        if plain:
            make_plain(list(collection.objects))

    def _add(
        self,
        collection: bpy.types.Collection,
        group: str,
        rest: Array,
        material: bpy.types.Material,
        subdivisions: int,
        shown: np.ndarray | None = None,
    ) -> None:
        faces, uv_faces = self.bust.faces[group], self.bust.uv_faces[group]
        if shown is not None:
            faces, uv_faces = faces[shown], uv_faces[shown]
        ids = np.unique(faces)
        polygons = group_polygons(faces, ids)
        uv = corner_uvs(self.bust.uv, uv_faces, polygons)
        mesh = MovingMesh(collection, group, polygons, rest[ids], [material], corner_uv=uv, subdivisions=subdivisions)
        self.meshes.append((ids, mesh))

    def _grow(
        self, collection: bpy.types.Collection, rest: Array, joints: Array, count: int, rng: np.random.Generator
    ) -> list[Strands]:
        bust, frame = self.bust, self.frame
        faces = bust.faces["skin"]
        normals = vertex_normals(rest, faces)
        on_head = bust.weights[:, [bust.joint("head"), bust.joint("neck")]].sum(1) > 0.5
        tri = triangles(faces[on_head[faces].all(axis=1)])
        outside = tri[(unit(normals[tri].mean(1)) * (rest[tri].mean(1) - rest[tri].mean((0, 1)))).sum(1) > 0]
        dark = materials.hair_material("hair", melanin=self.hair_melanin, redness=0.05)
        brown = materials.hair_material("brow", melanin=min(0.74, self.hair_melanin), redness=0.15, roughness=0.5)
        grown = []
        roots, points = hair.scalp_hair(rest, normals, outside, frame, count, rng, length_scale=self.hair_length)
        grown.append(Strands(collection, "hair", roots, points, rest, dark, root_radius_m=0.00020))
        roots, points = hair.brow_hair(rest, normals, outside, frame, max(count // 15, 24), rng)
        grown.append(Strands(collection, "brows", roots, points, rest, brown, root_radius_m=0.00007))
        eyes = joints[[bust.joint("left_eye"), bust.joint("right_eye")]]
        lid_points = rest[bust.group_vertices("skin")]
        lid_points = lid_points[np.abs(frame.coordinates(lid_points)[:, 2]) < 0.6]
        roots, points = hair.lashes(rest, triangles(bust.faces["lashes"]), lid_points, eyes, max(count // 45, 24), rng)
        grown.append(Strands(collection, "lashes", roots, points, rest, dark, root_radius_m=0.00007))
        return grown

    def pose(self, rotations: Array, translation: Array, expression: Array) -> Array:
        """Move to rotations [J, 3] rad, translation [3] m and expression [E] of the person's view.

        Returns the template's posed vertices [V, 3] m.
        """
        bust = self.bust
        rest, joints = template.rest(bust, preset=self.preset, shape=self.shape, expression=expression)
        skinning, _ = template.joint_transforms(rotations, joints, bust.parents, translation)
        posed = template.skin(rest, bust.weights, skinning).astype(np.float64)
        for ids, mesh in self.meshes:
            mesh.move(posed[ids])
        for strands in self.strands:
            strands.move(posed)
        self.clothes.move(skinning, np.asarray(rotations))
        return posed
