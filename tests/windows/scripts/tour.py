"""Takes the pictures of docs/tour.md, with a trained head:

    python -m tests.windows run tests/windows/scripts/tour.py --size 1360 900 --library FOLDER -- AVATAR [VERSION]

VERSION is an edited version of that avatar in the same library, for the picture of Edit.
The rectangles of the parts (left, top, width, height) are in the results, to cut them out.
"""

import math

import bpy
from mathutils import Euler, Vector
from panels import add_avatar

PARTS = ("train", "relight", "camera", "render")
SMILE = {"mouthSmileLeft": 0.55, "mouthSmileRight": 0.6, "cheekSquintLeft": 0.3, "browInnerUp": 0.25}


def look_at(w, target, distance, yaw_deg):
    """From the front, a little from above."""
    eye = w.space.region_3d
    eye.view_location, eye.view_distance = target, distance
    eye.view_rotation = Euler((math.radians(85), 0, math.radians(yaw_deg))).to_quaternion()


def rectangle(w, kind):
    """Of a region of the 3D view on the screen."""
    region = w.region(kind)
    return [region.x, w.window.height - region.y - region.height, region.width, region.height]


def open_with_sliders(w, *names):
    """Open these parts, of Animate the expressions alone."""
    w.only_panels(*names)
    for kind in w.addon("ui.classes").CLASSES:
        if getattr(kind, "bl_parent_id", "") == "EFFIGY_PT_animate" and kind.__name__ != "EFFIGY_PT_face":
            bpy.utils.unregister_class(kind)
            kind.bl_options = kind._real_options | {"DEFAULT_CLOSED"}
            bpy.utils.register_class(kind)


def main(w):
    """All pictures."""
    overlay = w.addon("viewport.overlay").OVERLAY
    write = w.addon("services.pose_write")

    def settled():
        yield 0.6
        yield from w.wait_for(lambda: all(view.sharp for view in overlay.views.values()), "the picture", 90)
        yield 0.5

    rig = yield from add_avatar(w, w.arguments[0])
    head = rig.matrix_world @ rig.pose.bones["head"].head
    scene, space = bpy.context.scene, w.space
    space.overlay.show_cursor = space.overlay.show_object_origins = False
    space.overlay.show_bones = False
    open_with_sliders(w, "EFFIGY_PT_library", "EFFIGY_PT_animate")
    yield from w.show_sidebar()
    write.set_expressions(rig, SMILE)
    rig.pose.bones["head"].rotation_mode = "XYZ"
    rig.pose.bones["head"].rotation_euler = (0.05, 0.12, 0.04)
    look_at(w, head + Vector((0.12, 0, -0.05)), 1.02, 12)
    yield from settled()
    w.grab("view")
    w.results["sidebar"], w.results["window"] = rectangle(w, "UI"), rectangle(w, "WINDOW")
    open_with_sliders(w, "EFFIGY_PT_animate")
    yield from w.redraw()
    yield 0.5
    w.grab("animate")

    # bones
    space.show_region_ui = False
    space.overlay.show_bones = True
    bpy.context.view_layer.objects.active = rig
    with w.override():
        bpy.ops.object.mode_set(mode="POSE")
    look_at(w, head + Vector((0, 0, 0.0)), 0.8, 18)
    yield from settled()
    w.grab("pose")
    with w.override():
        bpy.ops.object.mode_set(mode="OBJECT")
    space.overlay.show_bones = False

    # depth
    place = head + Vector((0, -0.02, 0.0))
    bpy.ops.mesh.primitive_torus_add(location=place, major_radius=0.19, minor_radius=0.012, rotation=(0.35, 0.25, 0))
    ring = bpy.context.object
    bpy.ops.object.shade_smooth()
    ring.color, space.shading.color_type = (0.9, 0.55, 0.1, 1.0), "OBJECT"
    ring.select_set(False)
    yield from settled()
    w.grab("depth")
    bpy.data.objects.remove(ring)
    bpy.context.view_layer.objects.active = rig
    rig.select_set(True)

    # light
    with w.override():
        bpy.ops.effigy.use_engine()
        bpy.ops.effigy.studio_light(light="city")
    space.shading.type = "RENDERED"
    space.overlay.show_overlays = False
    look_at(w, head + Vector((0, 0, -0.03)), 0.85, 25)
    yield 1.0
    yield from settled()
    w.grab("rendered")
    space.shading.type = "SOLID"

    # edit
    if len(w.arguments) > 1:
        scene.render.engine, space.overlay.show_overlays = "BLENDER_EEVEE_NEXT", True
        bpy.context.scene.effigy.light = "CAPTURED"
        w.only_panels("EFFIGY_PT_edit")
        yield from w.show_sidebar()
        connection = w.addon("services.connection").CONNECTION
        yield from w.wait_for(lambda: rig.data.effigy.avatar_id in connection.state.editors, "the editors", 60)
        scene.effigy_edit.prompt = next(
            a for a in connection.state.avatars if a.avatar_id == w.arguments[1]
        ).edit.prompt
        look_at(w, head + Vector((0.08, 0, -0.05)), 1.02, 12)
        with w.override():
            bpy.ops.effigy.wipe(avatar_id=w.arguments[1])
        bpy.context.window_manager.effigy_panels.wipe_at = 0.41
        yield 1.5
        yield from settled()
        w.grab("edit")
        with w.override():
            bpy.ops.effigy.wipe(avatar_id=w.arguments[1])
        space.show_region_ui = False

    # parts
    scene.render.engine = "EFFIGY"
    for part in PARTS:
        w.only_panels(f"EFFIGY_PT_{part}")
        yield from w.show_sidebar()
        yield 0.5
        w.grab(f"part_{part}")
        w.results[part] = rectangle(w, "UI")
        space.show_region_ui = False
    guards = w.addon("logic.faults").GUARDS
    w.results["faults"] = [fault.sentence + fault.detail for fault in guards.log.newest()]
