"""The proxy mesh and its rig in other programs' files: posed, voiced and read back, vertices are where they were."""

from __future__ import annotations

from pathlib import Path

import addon_utils
import numpy as np
import pytest
from mathutils import kdtree

from blender_addon.services import exporting, pose_write, rig_build, rig_info
from shared import template

from . import people
from .test_rig import random_pose

FRAMES = (1, 4)
MODULES = {"MESH": ("io_scene_gltf2", "gltf"), "FBX": ("io_scene_fbx", "fbx")}
LARGEST_M, MEAN_M = {"MESH": 0.02, "FBX": 1e-4}, {"MESH": 5e-4, "FBX": 1e-5}
"""glTF has four joints a vertex in every program; the open body has up to eight."""


def evaluated_vertices(bpy, mesh_object) -> np.ndarray:
    """World places [V, 3] of a mesh after shape keys and armature."""
    depsgraph = bpy.context.evaluated_depsgraph_get()
    shown = mesh_object.evaluated_get(depsgraph)
    mesh = shown.to_mesh()
    flat = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", flat)
    shown.to_mesh_clear()
    world = np.array(shown.matrix_world)
    return flat.reshape(-1, 3) @ world[:3, :3].T + world[:3, 3]


def distances_m(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of each point to its nearest other one: exporters split and reorder vertices."""
    tree = kdtree.KDTree(len(others))
    for index, place in enumerate(others):
        tree.insert(place, index)
    tree.balance()
    return np.array([tree.find(place)[2] for place in points])


@pytest.mark.parametrize("form", ["MESH", "FBX"])
def test_a_posed_and_voiced_body_comes_back_vertex_for_vertex(addon, tmp_path: Path, form: str) -> None:
    bpy = addon
    module, operator = MODULES[form]
    addon_utils.enable(module)
    human = template.load_template()
    body = rig_build.add_avatar(bpy.context, people.detail(human))
    body.location = (0.4, -0.2, 0.1)
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = FRAMES
    for frame, seed in zip(FRAMES, (1, 2), strict=True):
        pose_write.set_pose(body, *random_pose(55, seed, 0.4))
        pose_write.set_expressions(body, {"jawOpen": 0.25 * frame, "mouthSmileLeft": 1.0 / frame})
        pose_write.key_pose(body, frame)
        pose_write.key_expressions(body, frame, ("jawOpen", "mouthSmileLeft"))
    wanted = {}
    for frame in FRAMES:
        scene.frame_set(frame)
        wanted[frame] = evaluated_vertices(bpy, rig_info.proxy_of(body))
    path = exporting.export_mesh(bpy.context, body, form, tmp_path / "body")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    addon_utils.enable(module)
    getattr(bpy.ops.import_scene, operator)(filepath=str(path))
    mesh = max((o for o in bpy.data.objects if o.type == "MESH"), key=lambda o: len(o.data.vertices))
    for frame in FRAMES:
        bpy.context.scene.frame_set(frame)
        found = evaluated_vertices(bpy, mesh)
        apart = distances_m(found, wanted[frame])  # glTF leaves out vertices without a face
        assert apart.max() < LARGEST_M[form]
        assert apart.mean() < MEAN_M[form]
