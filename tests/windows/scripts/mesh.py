"""Mesh into Scene, clicked: a person of the library as an ordinary mesh, lit by the scene, posed beside the avatar.

    python -m tests.windows run tests/windows/scripts/mesh.py --library FOLDER -- AVATAR OUT

OUT: this session's folder of results as the machine outside names it: there the backend writes the mesh.
"""

import math
import tempfile
from pathlib import Path

import bpy
from mathutils import Euler, Matrix, Vector

RAISED_RAD = 0.8


def meshes():
    """Armatures that are ordinary meshes."""
    return [item for item in bpy.data.objects if item.type == "ARMATURE" and item.data.effigy.mesh_only]


def main(w):
    """Steps for tests/windows/test_panels.py. Words: the avatar, and OUT."""
    connection = w.addon("services.connection").CONNECTION
    w.addon("logic.faults").GUARDS.log.notice = None
    person, outside = w.arguments[0], Path(w.arguments[1])
    if not outside.exists():
        outside.parent.mkdir(parents=True, exist_ok=True)
        outside.symlink_to(w.out)
    before, tempfile.tempdir = tempfile.tempdir, str(outside)
    yield from w.wait_for(lambda: connection.state and connection.state.avatars, "the library", 60)
    for item in list(bpy.data.objects):
        bpy.data.objects.remove(item)
    with w.override():
        bpy.ops.effigy.add_avatar(avatar_id=person)
    yield from w.wait_for(lambda: bpy.context.object and bpy.context.object.type == "ARMATURE", "the avatar", 60)
    avatar = bpy.context.object
    w.only_panels("EFFIGY_PT_export")
    yield from w.show_sidebar()
    yield 0.5
    w.grab("mesh_button")
    yield from w.click_button("effigy.mesh_to_scene")
    (body,) = yield from w.wait_for(meshes, "the mesh", 90)
    tempfile.tempdir = before
    body.matrix_world = Matrix.Translation((1.1, 0, 0)) @ body.matrix_world
    for rig in (avatar, body):
        rig.pose.bones["left_shoulder"].rotation_quaternion = Euler((0, RAISED_RAD, 0)).to_quaternion()
    mesh = next(child for child in body.children if child.type == "MESH")
    w.results["faces"] = len(mesh.data.polygons)
    w.results["textures"] = sorted(
        node.image.name for node in mesh.active_material.node_tree.nodes if node.type == "TEX_IMAGE"
    )
    w.results["keys"] = len(mesh.data.shape_keys.key_blocks)
    w.results["uv"] = len(mesh.data.uv_layers)
    w.space.shading.type, w.space.shading.color_type, w.space.shading.light = "SOLID", "TEXTURE", "FLAT"
    w.space.overlay.show_bones = False
    eye = w.space.region_3d
    eye.view_location, eye.view_distance = Vector((0.9, 0, 0.9)), 4.2
    eye.view_rotation = Euler((math.radians(86), 0, math.radians(8))).to_quaternion()
    yield from w.redraw()
    yield from w.wait_for(
        lambda: all(view.sharp for view in w.addon("viewport.overlay").OVERLAY.views.values()), "it", 60
    )
    yield 1.0
    w.grab("mesh_made")
    chests = [rig.matrix_world @ rig.pose.bones["spine2"].head + Vector((0, -0.2, 0)) for rig in (body, avatar)]
    w.results["chests"] = w.pixels(*(w.place_of(chest) for chest in chests))
    w.results["faults"] = [fault.sentence + fault.detail for fault in w.addon("logic.faults").GUARDS.log.newest()]
