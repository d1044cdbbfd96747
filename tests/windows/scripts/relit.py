"""A person that holds materials, lit by World HDRI and lamps through the Relight part: a picture of each, and what the
light changed where on the person.

Words: the avatar, `rendered` to also look at the EFFIGY engine's rendered shading.
"""

import math

import bpy
from mathutils import Euler, Vector
from panels import add_avatar

STEP_S = 0.3


def lamp(kind, place, aim, **settings):
    """A lamp of the scene that looks at a point."""
    light = bpy.data.lights.new(kind.title(), kind)
    for name, value in settings.items():
        setattr(light, name, value)
    item = bpy.data.objects.new(kind.title(), light)
    item.location = place
    item.rotation_euler = (Vector(place) - Vector(aim)).to_track_quat("Z", "Y").to_euler()
    bpy.context.scene.collection.objects.link(item)
    return item


def main(w):
    """Steps for tests/windows/test_viewport.py and for looking."""
    overlay = w.addon("viewport.overlay").OVERLAY
    faults = w.addon("logic.faults").GUARDS.log
    scene = bpy.context.scene
    for name in ("Light", "Camera"):
        bpy.data.objects.remove(bpy.data.objects[name])
    rig = yield from add_avatar(w, w.arguments[0])
    bpy.context.view_layer.update()
    places = {name: rig.matrix_world @ rig.pose.bones[name].head for name in ("pelvis", "head")}
    chest = places["pelvis"].lerp(places["head"], 0.6)
    eye = w.space.region_3d
    eye.view_location, eye.view_distance = chest + Vector((0.25, 0, -0.1)), 2.2
    eye.view_rotation = Euler((math.radians(86), 0, 0)).to_quaternion()
    w.space.overlay.show_bones = w.space.overlay.show_cursor = False
    w.space.overlay.show_extras = True
    sides = [chest + Vector((side, -0.12, 0.0)) for side in (-0.1, 0.1)]

    shown = {"number": -1}

    def newer():
        view = next(iter(overlay.views.values()), None)
        return view is not None and view.sharp and view.number > shown["number"]

    def look(name):
        yield from w.redraw()
        yield from w.wait_for(newer, f"a new picture: {name}", 90)
        yield STEP_S
        shown["number"] = max(view.number for view in overlay.views.values())
        w.results[name] = [list(w.pixel(*w.place_of(place))) for place in sides]
        w.grab(name)

    w.only_panels("EFFIGY_PT_relight")
    yield from w.show_sidebar()
    yield from look("captured")

    with w.override():
        bpy.ops.effigy.studio_light(light="sunset")
    yield from look("sunset")
    with w.override():
        bpy.ops.effigy.studio_light(light="city")
    yield from look("city")

    # lamps alone: a dark World
    world = bpy.data.worlds.new("Dark")
    if world.node_tree is None:
        world.use_nodes = True
    back = next(node for node in world.node_tree.nodes if node.type == "BACKGROUND")
    back.inputs["Color"].default_value = (0.02, 0.02, 0.03, 1)
    scene.world, scene.effigy.light = world, "WORLD"
    point = lamp("POINT", chest + Vector((-0.7, -0.7, 0.5)), chest, energy=40.0, color=(1.0, 0.75, 0.45))
    yield from look("point_left")
    point.location = chest + Vector((0.7, -0.7, 0.5))
    yield from look("point_right")
    bpy.data.objects.remove(point)
    area = lamp("AREA", chest + Vector((-0.9, -0.9, 0.3)), chest, energy=40.0, size=0.8, color=(0.5, 0.7, 1.0))
    sun = lamp("SUN", chest + Vector((3, -1.5, 2.5)), chest, energy=1.5, angle=0.02)
    yield from look("area_and_sun")

    # by the panel: one light off, and a light of its own for this avatar
    yield from w.click_button("effigy_relight.use_lamps")
    yield from look("lamps_off")
    scene.effigy_relight.use_lamps = True
    rig.effigy_light.light = "CAPTURED"
    yield from look("own_captured")
    rig.effigy_light.light = "SCENE"
    if "rendered" in w.arguments[1:]:
        with w.override():
            bpy.ops.effigy.use_engine()
        w.space.shading.type = "RENDERED"
        sun.data.energy, area.data.energy = 3.0, 60.0
        yield from look("rendered")
    w.results["faults"] = [fault.sentence + fault.detail for fault in faults.newest()]
