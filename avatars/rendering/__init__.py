"""Gaussians, surfels and meshes to images. `rasterise` and `rasterise_surfels` are the only doors to rasterisers."""

from avatars.rendering.cameras import CameraBatch
from avatars.rendering.mesh import rasterise_mesh
from avatars.rendering.mesh_drawing import MeshDrawing, draw_mesh
from avatars.rendering.mesh_edges import MeshEdges
from avatars.rendering.rasterise import Rasterised, rasterise
from avatars.rendering.seen_colours import seen_colours
from avatars.rendering.surfels import SurfelImage, rasterise_surfels

__all__ = [
    "CameraBatch",
    "MeshDrawing",
    "MeshEdges",
    "Rasterised",
    "SurfelImage",
    "draw_mesh",
    "rasterise",
    "rasterise_mesh",
    "rasterise_surfels",
    "seen_colours",
]
