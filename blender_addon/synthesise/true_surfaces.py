"""The surfaces a capture was rendered from, as plain triangles: ground truth for geometry.

    python -m blender_addon.synthesise.true_surfaces --like demo_body --frames 0 12 5 17 --output surfaces_full.npz

Needs a Python that has bpy; the person is posed again from the capture's settings, with folds and subdivisions, so it
is what the path tracer saw, but for the inner side of cloth, which would only lie beneath the outer one.
`python -m avatars.captures.bake_surfaces` makes it small.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import bpy
import numpy as np

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "blender_addon.synthesise"

from .._shared import errors, template
from . import scene as stage
from .motion_body import on_floor
from .performances import perform
from .person import Person
from .settings import KNOWN, CaptureSettings
from .surface import Array


def true_surfaces(settings: CaptureSettings, arrays: template.TemplateArrays, frames: list[int]) -> dict[str, Any]:
    """Triangles of every piece in those frames, and the points of the hair.

    Returns `frames` [T], for each piece PART `PART.faces` [F, 3] and `PART.vertices` [T, V, 3] m, and `hair` [T, N, 3]
    m. Raises BadConfig for a frame that the capture lacks, or for one of a bust.
    """
    if settings.view != "body":
        raise errors.BadConfig("true surfaces are made of whole bodies", found=settings.view, expected="body")
    wrong = [frame for frame in frames if not 0 <= frame < settings.frames]
    if wrong or not frames:
        raise errors.BadConfig("no such frame", found=str(wrong or "none"), expected=f"below {settings.frames}")
    performance = perform(
        settings.performance, arrays, settings.frames, settings.seed, settings.fps, settings.test_last
    )
    shape = np.array(settings.shape)
    performance = on_floor(performance, arrays, preset=settings.preset, shape=shape)
    scene = stage.new_scene("True surfaces", 64, 1, threads=0)
    person = Person(
        scene.collection,
        arrays,
        settings.preset,
        shape,
        strands=settings.strands,
        seed=settings.seed,
        hair_length=settings.hair_length,
        hair_melanin=settings.hair_melanin,
        plain=bool(settings.lights()),
    )
    bpy.context.window.scene = scene  # the dependency graph below is that of the window's scene
    found: dict[str, Any] = {"frames": np.array(frames, np.int32)}
    pieces: dict[str, list[Array]] = {}
    hair: list[Array] = []
    moving = [mesh.object for _, mesh in person.meshes] + [one.mesh.object for one in person.clothes.garments]
    for item in moving:
        for modifier in item.modifiers:
            modifier.show_viewport = modifier.type != "SOLIDIFY"
    for frame in frames:
        person.pose(performance.rotations[frame], performance.translations[frame], performance.expressions[frame])
        graph = bpy.context.evaluated_depsgraph_get()
        graph.update()
        for item in moving:
            vertices, faces = _triangles(item.evaluated_get(graph))
            name = item.name.split(".")[0]  # Blender numbers names that the file has already
            pieces.setdefault(name, []).append(vertices)
            found[f"{name}.faces"] = faces
        curves = person.strands[0].curves
        points = np.zeros(len(curves.points) * 3, np.float32)
        curves.attributes["position"].data.foreach_get("vector", points)
        hair.append(points.reshape(-1, 3))
    for name, moments in pieces.items():
        found[f"{name}.vertices"] = np.stack(moments).astype(np.float32)
    found["hair"] = np.stack(hair)
    return found


def _triangles(item: Any) -> tuple[Array, np.ndarray]:
    """Vertices [V, 3] and triangles [F, 3] of an evaluated object."""
    mesh = item.to_mesh()
    mesh.calc_loop_triangles()
    vertices = np.zeros(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", vertices)
    faces = np.zeros(len(mesh.loop_triangles) * 3, np.int32)
    mesh.loop_triangles.foreach_get("vertices", faces)
    item.to_mesh_clear()
    return vertices.reshape(-1, 3), faces.reshape(-1, 3)


def main(arguments: list[str]) -> int:
    """Write the file; 1 with one sentence where that cannot be."""
    parser = argparse.ArgumentParser(prog="true_surfaces", description=__doc__)
    parser.add_argument("--like", choices=sorted(KNOWN), default="demo_body", help="the capture")
    parser.add_argument("--frames", type=int, nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True, help=".npz")
    chosen = parser.parse_args(arguments)
    try:
        found = true_surfaces(KNOWN[chosen.like], template.load_template(None), chosen.frames)
    except errors.EffigyError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    np.savez_compressed(chosen.output, **found)
    sys.stdout.write(f"{chosen.output}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:]))
