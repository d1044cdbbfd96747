"""Every panel of the sidebar, opened alone and drawn with an avatar in the scene; a picture of each."""

import math

import bpy
from mathutils import Euler, Vector


def add_avatar(w, avatar_id):
    """Connect, add the avatar and look at its face."""
    connection = w.addon("services.connection").CONNECTION
    yield from w.wait_for(lambda: connection.state and connection.state.avatars, "the library", 60)
    bpy.data.objects.remove(bpy.data.objects["Cube"])
    with w.override():
        bpy.ops.effigy.add_avatar(avatar_id=avatar_id)
    yield from w.wait_for(lambda: any(item.type == "ARMATURE" for item in bpy.data.objects), "the avatar", 60)
    rig = next(item for item in bpy.data.objects if item.type == "ARMATURE")
    head = rig.matrix_world @ rig.pose.bones["head"].head
    eye = w.space.region_3d
    # Left of the sidebar
    eye.view_location, eye.view_distance = head + Vector((0.14, 0, -0.02)), 1.3
    eye.view_rotation = Euler((math.radians(86), 0, math.radians(12))).to_quaternion()
    return rig


def top_panels(w):
    """Names of the sidebar's parts, in their order."""
    kinds = [kind for kind in w.addon("ui.classes").CLASSES if issubclass(kind, bpy.types.Panel)]
    parts = [k for k in kinds if k.bl_space_type == "VIEW_3D" and not getattr(k, "bl_parent_id", "")]
    return [kind.__name__ for kind in sorted(parts, key=lambda kind: kind.bl_order)]


def main(w):
    """Steps for tests/windows/test_panels.py. Words: the avatar; `engine` chooses EFFIGY first."""
    guards = w.addon("logic.faults").GUARDS
    overlay = w.addon("viewport.overlay").OVERLAY
    yield from add_avatar(w, w.arguments[0])
    with w.override():
        bpy.ops.effigy.use_engine()
    w.only_panels(top_panels(w)[0])  # a panel that was drawn closed once stays closed
    yield from w.show_sidebar()
    yield from w.wait_for(lambda: any(view.sharp for view in overlay.views.values()), "the avatar's picture", 60)
    w.results["panels"] = []
    for name in top_panels(w):
        w.only_panels(name)
        yield from w.redraw()
        yield 0.3
        drawn = guards[name]
        w.results["panels"].append([name, drawn.problem])
        w.grab(f"panel_{name.removeprefix('EFFIGY_PT_')}")
    w.only_panels()
    yield from w.redraw()
    w.grab("sidebar")
    w.results["faults"] = [fault.sentence + fault.detail for fault in guards.log.newest()]
