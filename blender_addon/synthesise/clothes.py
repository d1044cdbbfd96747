"""A crew-neck T-shirt cut from the template's tights surface along a smooth neckline."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np
from numpy.typing import NDArray

from .._shared import template
from .anatomy import HeadFrame, neckline_level
from .materials import Colour, cloth_material
from .meshes import MovingMesh
from .noise import fractal_noise, smoothstep
from .surface import Array, clip_to_level, edges_of, relax, unit, vertex_normals

BAND_WIDTH = 0.24  # of the rib band at the neckline, head units
HIDDEN_BELOW = 0.45  # skin this far under the neckline is left out, head units
DARK_BLUE: tuple[Colour, Colour] = ((0.036, 0.058, 0.110), (0.056, 0.086, 0.152))
RIBS = 150


@dataclass(frozen=True, eq=False)
class Shirt:
    """The moving mesh with its rest vertices [N, 3] m and skinning weights [N, J]."""

    mesh: MovingMesh
    rest: Array
    weights: NDArray[np.float32]

    def move(self, skinning: Array, rotations: Array) -> None:
        """Follow the joints' skinning transforms [J, 4, 4]; this shirt has no folds that follow the rotations."""
        self.mesh.move(template.skin(self.rest, self.weights, skinning).astype(np.float64))


def hidden_skin(frame: HeadFrame, vertices: Array) -> NDArray[np.bool_]:
    """[V] skin vertices that are well under the shirt and need not be rendered."""
    return neckline_level(frame.coordinates(vertices)) > HIDDEN_BELOW


def make_shirt(
    collection: bpy.types.Collection, arrays: template.TemplateArrays, vertices: Array, frame: HeadFrame, *, seed: int
) -> Shirt:
    """A shirt over rest vertices [V, 3] m of the template."""
    faces = arrays.faces["tights"]
    level = neckline_level(frame.coordinates(vertices))
    clipped = clip_to_level(faces, level)
    edges, border = edges_of(clipped.polygons)
    on_border = np.zeros(len(clipped.pair), bool)
    on_border[edges[border].ravel()] = True

    body = clipped.at(vertices)
    depth = clipped.at(level[:, None])[:, 0]
    normals = unit(clipped.at(vertex_normals(vertices, faces)))
    away = smoothstep(0.1, 1.2, depth)
    ease = 0.0045 + 0.006 * away + 0.010 * away * (fractal_noise(body * [1.0, 1.0, 0.6], 16.0, 3, seed) - 0.4)
    rest = relax(body + ease[:, None] * normals, edges, on_border, 6)
    rest = np.where((((rest - body) * normals).sum(1) < 0.004)[:, None], body + 0.004 * normals, rest)

    mesh = MovingMesh(
        collection,
        "shirt",
        clipped.polygons,
        rest,
        [cloth_material("jersey", *DARK_BLUE, BAND_WIDTH)],
        subdivisions=2,
        thickness_m=0.0022,
    )
    side, front, _ = frame.coordinates(rest).T
    for name, values in (("depth", depth), ("rib", RIBS * np.arctan2(side, front + 1.9))):
        mesh.mesh.attributes.new(name, "FLOAT", "POINT").data.foreach_set("value", values.astype(np.float32))
    return Shirt(mesh, rest, clipped.at(arrays.weights.astype(np.float64)).astype(np.float32))
