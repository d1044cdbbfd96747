"""A whole outfit cut from the template's tights: shirt, trousers and shoes, with folds that follow the pose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import bpy
import numpy as np
from numpy.typing import NDArray

from .._shared import template
from .anatomy import HeadFrame, neckline_level
from .cloth_materials import brass_material, denim_material, shoe_material, striped_material
from .meshes import MovingMesh
from .noise import fractal_noise, smoothstep, value_noise
from .surface import Array, clip_to_level, edges_of, refined, relax, triangles_of_polygons, unit, vertex_normals
from .wrinkles import Landmarks, drives, shirt_folds, trouser_folds

Folds = Callable[[Array, Array, Landmarks, Mapping[str, float]], Array]
SLEEVE_BACK_M, HEM_BELOW_M, WAIST_ABOVE_M = 0.035, 0.055, 0.05
BELT_WIDTH_M, BELT_ABOVE_M = 0.05, 0.055
SHOE_ABOVE_M, CUFF_ABOVE_M = 0.045, 0.005
HIDDEN_M = 0.03  # skin this far under a garment's border is left out


@dataclass(frozen=True, eq=False)
class Garment:
    """A moving mesh with rest vertices and unit normals [N, 3] and skinning weights [N, J]; folds add to the rest."""

    mesh: MovingMesh
    rest: Array
    normals: Array
    weights: NDArray[np.float32]
    landmarks: Landmarks
    folds: Folds | None

    def move(self, skinning: Array, drive: Mapping[str, float]) -> None:
        """Follow the joints' skinning transforms [J, 4, 4] with folds for what `wrinkles.drives` gave."""
        moved = self.rest
        if self.folds is not None:
            moved = moved + self.folds(self.rest, self.normals, self.landmarks, drive)
        self.mesh.move(template.skin(moved, self.weights, skinning).astype(np.float64))


@dataclass(frozen=True, eq=False)
class Outfit:
    """All garments of a person of the body view."""

    garments: tuple[Garment, ...]
    joint_names: tuple[str, ...]

    def move(self, skinning: Array, rotations: Array) -> None:
        """Follow skinning transforms [J, 4, 4] of joint rotations [J, 3] rad."""
        drive = drives(self.joint_names, rotations)
        for garment in self.garments:
            garment.move(skinning, drive)


@dataclass(frozen=True, eq=False)
class _Cuts:
    """How far inside each garment rest points lie, m; negative outside."""

    frame: HeadFrame
    at: Landmarks

    def shirt(self, points: Array) -> Array:
        neck = neckline_level(self.frame.coordinates(points)) * self.frame.unit_m
        sleeve = abs(self.at.joints["left_wrist"][0]) - SLEEVE_BACK_M - np.abs(points[:, 0])
        hem = points[:, 2] - (self.at.joints["pelvis"][2] - HEM_BELOW_M)
        return np.minimum(np.minimum(neck, sleeve), hem)

    def trousers(self, points: Array) -> Array:
        waist = self.at.joints["pelvis"][2] + WAIST_ABOVE_M - points[:, 2]
        return np.minimum(waist, points[:, 2] - self.at.joints["left_ankle"][2] - CUFF_ABOVE_M)

    def belt(self, points: Array) -> Array:
        return BELT_WIDTH_M / 2 - np.abs(points[:, 2] - self.at.joints["pelvis"][2] - BELT_ABOVE_M)

    def shoes(self, points: Array) -> Array:
        return self.at.joints["left_ankle"][2] + SHOE_ABOVE_M - points[:, 2]


def hidden_skin(arrays: template.TemplateArrays, frame: HeadFrame, vertices: Array, joints: Array) -> NDArray[np.bool_]:
    """[V] skin vertices that are well under the outfit and need not be rendered. vertices, joints: at rest, m."""
    cuts = _Cuts(frame, Landmarks.of(arrays, joints))
    below_neck = neckline_level(frame.coordinates(vertices)) * frame.unit_m
    sleeve = abs(cuts.at.joints["left_wrist"][0]) - SLEEVE_BACK_M - np.abs(vertices[:, 0])
    return np.minimum(below_neck, sleeve) > HIDDEN_M


def make_outfit(
    collection: bpy.types.Collection,
    arrays: template.TemplateArrays,
    vertices: Array,
    joints: Array,
    frame: HeadFrame,
    *,
    seed: int,
    belt: bool = False,
) -> Outfit:
    """Shirt, trousers and shoes, and a brass belt where wanted.

    Over rest vertices [V, 3] and joints [J, 3] m of the body view.
    """
    at = Landmarks.of(arrays, joints)
    cuts = _Cuts(frame, at)
    cut = _Cutter(collection, arrays, vertices, at)
    garments = [
        cut.garment("shirt", cuts.shirt, _shirt_ease(at, seed), striped_material("jersey"), shirt_folds),
        cut.garment("trousers", cuts.trousers, _trouser_ease(at, seed), denim_material("denim"), trouser_folds),
        cut.garment("shoes", cuts.shoes, _shoe_ease, shoe_material("shoes"), None, smoothing=14),
    ]
    if belt:
        garments.append(cut.garment("belt", cuts.belt, _belt_ease, brass_material("brass"), None, smoothing=14))
    return Outfit(tuple(garments), arrays.joint_names)


Ease = Callable[[Array, Array], Array]


@dataclass(frozen=True, eq=False)
class _Cutter:
    collection: bpy.types.Collection
    arrays: template.TemplateArrays
    vertices: Array
    at: Landmarks

    def garment(
        self,
        name: str,
        level_of: Callable[[Array], Array],
        ease_of: Ease,
        material: bpy.types.Material,
        folds: Folds | None,
        *,
        smoothing: int = 6,
    ) -> Garment:
        """Cut where level_of is positive, refine twice, ease away from the body, smooth, and make the mesh."""
        weights = self.arrays.weights.astype(np.float64)
        values = np.concatenate((self.vertices, weights), axis=1)
        quads = [list(dict.fromkeys(face)) for face in self.arrays.faces["tights"].tolist()]
        polygons, values = refined(quads, values, 1)
        faces = np.array([(*polygon, polygon[-1])[:4] for polygon in polygons], np.int32)
        clipped = clip_to_level(faces, level_of(values[:, :3]))
        polygons, values = refined([list(p) for p in clipped.polygons], clipped.at(values), 1)
        edges, border_edges = edges_of(tuple(tuple(p) for p in polygons))
        border = np.zeros(len(values), bool)
        border[edges[border_edges].ravel()] = True
        free = np.zeros(len(values), bool)
        body = relax(values[:, :3], edges, border, 4)
        blend = relax(values[:, 3:], edges, free, 6)
        folded = np.stack((np.abs(body[:, 0]), body[:, 1], body[:, 2]), axis=1)
        near = np.linalg.norm(folded - self.at.joints["left_shoulder"], axis=1)
        shoulder = smoothstep(0.20, 0.10, near)[:, None]  # where skinning alone leaves an edge as arms go down
        blend = (1 - shoulder) * blend + shoulder * relax(blend, edges, free, 50)
        tri = triangles_of_polygons(polygons)
        normals = unit(relax(vertex_normals(body, tri), edges, free, 8))  # slivers along a cut point anywhere
        edge = np.maximum(level_of(body), 0.0)
        rest = relax(body + ease_of(body, normals)[:, None] * normals, edges, border, smoothing)
        if name == "shoes":
            rest[:, 2] = np.maximum(rest[:, 2], body[:, 2].min() - 0.008)
        mesh = MovingMesh(self.collection, name, polygons, rest, [material], subdivisions=0, thickness_m=0.0025)
        for key, numbers in _patterns(name, body, normals, edge, self.at).items():
            mesh.mesh.attributes.new(key, "FLOAT", "POINT").data.foreach_set("value", numbers.astype(np.float32))
        blend /= blend.sum(1, keepdims=True)
        return Garment(mesh, rest, vertex_normals(rest, tri), blend.astype(np.float32), self.at, folds)


def _shirt_ease(at: Landmarks, seed: int) -> Ease:
    def ease(points: Array, normals: Array) -> Array:
        sleeve = smoothstep(0.16, 0.26, np.abs(points[:, 0]))
        low = smoothstep(at.joints["spine2"][2], at.joints["pelvis"][2], points[:, 2])
        loose = fractal_noise(points * [1.0, 1.0, 0.6], 14.0, 3, seed) - 0.45
        return 0.010 + 0.004 * sleeve + 0.010 * low + 0.012 * loose

    return ease


def _trouser_ease(at: Landmarks, seed: int) -> Ease:
    knee, ankle = at.joints["left_knee"][2], at.joints["left_ankle"][2]

    def ease(points: Array, normals: Array) -> Array:
        low = smoothstep(knee + 0.25, ankle + 0.05, points[:, 2])
        inner = smoothstep(0.05, 0.015, np.abs(points[:, 0]))
        loose = value_noise(points * [1.0, 1.0, 0.5], 20.0, seed + 3) - 0.45
        return (0.005 + 0.020 * low + 0.006 * loose) * (1 - 0.8 * inner)

    return ease


def _shoe_ease(points: Array, normals: Array) -> Array:
    return np.full(len(points), 0.009)


def _belt_ease(points: Array, normals: Array) -> Array:
    return np.full(len(points), 0.030)


def _patterns(name: str, body: Array, normals: Array, edge: Array, at: Landmarks) -> dict[str, Array]:
    """What a garment's material reads per vertex."""
    if name == "shirt":
        sleeve = np.abs(body[:, 0]) - abs(at.joints["left_shoulder"][0]) - 0.01
        return {"trunk": body[:, 2] + 10.0, "sleeve": sleeve, "edge": edge}
    if name == "trousers":
        worn = smoothstep(0.1, -0.8, normals[:, 1]) * (0.5 + 0.5 * np.exp(-(((body[:, 2] + 0.25) / 0.22) ** 2)))
        return {"fade": worn, "seam": body[:, 1] - at.joints["left_knee"][1] + 10.0 * (np.abs(normals[:, 0]) < 0.6)}
    if name == "belt":
        return {}
    return {"sole": body[:, 2] - body[:, 2].min() + 0.008}
