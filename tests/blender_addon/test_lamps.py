"""Lights of a scene: what is read of them is what Cycles lights a white matt sphere with."""

from __future__ import annotations

import math
from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils import Vector

from blender_addon.services import lamp_read
from shared import lamps

from . import shots

BALL_M = 0.1
PLACE = Vector((0.9, -1.2, 1.3))


def add_light(kind: str, place: Vector = PLACE, **settings: object) -> object:
    """A light that points at the origin."""
    light = bpy.data.lights.new(kind, kind)
    for name, value in settings.items():
        setattr(light, name, value)
    item = bpy.data.objects.new(kind, light)
    item.location = place
    item.rotation_euler = place.to_track_quat("Z", "Y").to_euler()
    bpy.context.scene.collection.objects.link(item)
    bpy.context.view_layer.update()
    return item


def cycles(samples: int = 64, size: int = 33) -> None:
    """Direct light only, a black World, raw values."""
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.max_bounces = samples, False, 0
    scene.cycles.seed, scene.cycles.pixel_filter_type = 1, "BOX"
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.film_transparent = True
    scene.world = bpy.data.worlds.new("Black")
    scene.world.color = (0, 0, 0)
    if scene.world.node_tree is not None:
        for node in scene.world.node_tree.nodes:
            if node.type == "BACKGROUND":
                node.inputs["Strength"].default_value = 0


def white(item: object) -> None:
    """Give a mesh a white matt material."""
    material = bpy.data.materials.new("White")
    if material.node_tree is None:
        material.use_nodes = True
    nodes = material.node_tree.nodes
    nodes.clear()
    matt, output = nodes.new("ShaderNodeBsdfDiffuse"), nodes.new("ShaderNodeOutputMaterial")
    matt.inputs["Color"].default_value = (1, 1, 1, 1)
    material.node_tree.links.new(matt.outputs[0], output.inputs["Surface"])
    item.data.materials.clear()
    item.data.materials.append(material)


def lit_ball(folder: Path) -> np.ndarray:
    """What Cycles shows of the side of a small white sphere at the origin that faces PLACE, [33, 33, 3]."""
    cycles()
    bpy.ops.mesh.primitive_uv_sphere_add(segments=64, ring_count=32, radius=BALL_M)
    bpy.ops.object.shade_smooth()
    white(bpy.context.object)
    lens = bpy.data.cameras.new("Lens")
    lens.type, lens.ortho_scale = "ORTHO", 2.2 * BALL_M
    eye = bpy.data.objects.new("Eye", lens)
    eye.location, eye.rotation_euler = 3 * PLACE, PLACE.to_track_quat("Z", "Y").to_euler()
    bpy.context.scene.collection.objects.link(eye)
    bpy.context.scene.camera = eye
    return shots.render_exr(folder / "ball.exr", single=True)[..., :3]


KINDS = {
    "sun": ("SUN", {"energy": 3.0, "angle": 0.3}),
    "bare sun": ("SUN", {"energy": 30.0, "angle": 0.3, "normalize": False}),
    "point": ("POINT", {"energy": 80.0, "shadow_soft_size": 0.25, "color": (1.0, 0.5, 0.25)}),
    "bare point": ("POINT", {"energy": 80.0, "shadow_soft_size": 0.25, "normalize": False}),
    "spot": ("SPOT", {"energy": 80.0, "shadow_soft_size": 0.05, "spot_size": 0.8, "spot_blend": 0.3}),
    "square": ("AREA", {"energy": 50.0, "shape": "SQUARE", "size": 0.8}),
    "bare disc": ("AREA", {"energy": 50.0, "shape": "DISK", "size": 0.6, "normalize": False}),
    "ellipse": ("AREA", {"energy": 50.0, "shape": "ELLIPSE", "size": 0.5, "size_y": 0.2}),
    "narrow": ("AREA", {"energy": 5.0, "shape": "RECTANGLE", "size": 0.04, "size_y": 0.02, "spread": 1.2}),
    "warm": ("SUN", {"energy": 1.0, "exposure": 1.0, "use_temperature": True, "temperature": 3000.0}),
}


@pytest.mark.parametrize("name", KINDS)
def test_strength_is_that_of_cycles(addon, tmp_path: Path, name: str) -> None:
    kind, settings = KINDS[name]
    known = getattr(bpy.types, f"{kind.title()}Light").bl_rna.properties  # normalize and others came with Blender 4.5
    settings = {key: value for key, value in settings.items() if key in known}
    add_light(kind, **settings)
    lights = lamp_read.read_lights(bpy.context.evaluated_depsgraph_get())
    towards = np.array(PLACE.normalized())
    if kind == "SUN":
        (row,) = lights.suns
        np.testing.assert_allclose(row[:3], towards, atol=1e-5)
        expected = row[3:6]
    else:
        (row,) = lights.near
        np.testing.assert_allclose(row[lamps.POSITION], PLACE, atol=1e-5)
        if kind != "POINT":
            np.testing.assert_allclose(row[lamps.AXIS], -towards, atol=1e-5)
        expected = row[lamps.INTENSITY] / ((PLACE.length - BALL_M) ** 2 + row[lamps.RADIUS] ** 2)
    found = lit_ball(tmp_path)[15:18, 15:18].mean((0, 1)) * math.pi
    np.testing.assert_allclose(expected, found, rtol=0.03, atol=1e-4)


def test_what_does_not_shine_is_left_out_and_nodes_are_told(addon) -> None:
    hidden, unseen, off = (add_light("POINT", energy=5.0) for _ in range(3))
    hidden.hide_render = hidden.hide_viewport = True
    unseen.visible_diffuse = unseen.visible_glossy = False
    off.data.energy = 0
    twice = add_light("SUN", energy=2.0)
    if twice.data.node_tree is None:
        twice.data.use_nodes = True
    emission = next(node for node in twice.data.node_tree.nodes if node.type == "EMISSION")
    emission.inputs["Strength"].default_value = 3.0
    apart = bpy.data.collections.new("Apart")
    bpy.context.scene.collection.children.link(apart)
    apart.objects.link(off)
    bpy.context.view_layer.update()
    lights = lamp_read.read_lights(bpy.context.evaluated_depsgraph_get(), gain=0.5)
    assert len(lights) == 1
    np.testing.assert_allclose(lights.suns[0, 3:6], 3.0)
    assert not lights.notes
    noise = twice.data.node_tree.nodes.new("ShaderNodeTexNoise")
    twice.data.node_tree.links.new(noise.outputs[0], emission.inputs["Color"])
    bpy.context.view_layer.update()
    lights = lamp_read.read_lights(bpy.context.evaluated_depsgraph_get())
    np.testing.assert_allclose(lights.suns[0, 3:6], 2.0)
    assert "'SUN'" in lights.notes[0]


def test_excluded_collections_are_dark_and_instances_shine(addon) -> None:
    group = bpy.data.collections.new("Lamps")
    item = add_light("POINT", Vector((0, 0, 1)), energy=5.0)
    bpy.context.scene.collection.objects.unlink(item)
    group.objects.link(item)
    bpy.context.scene.collection.children.link(group)
    layer = bpy.context.view_layer.layer_collection.children["Lamps"]
    for excluded, count in ((False, 1), (True, 0)):
        layer.exclude = excluded
        assert len(lamp_read.read_lights(bpy.context.evaluated_depsgraph_get())) == count
    for x in (1.0, 2.0):
        copy = bpy.data.objects.new("Copy", None)
        copy.instance_type, copy.instance_collection, copy.location = "COLLECTION", group, (x, 0, 0)
        bpy.context.scene.collection.objects.link(copy)
    near = lamp_read.read_lights(bpy.context.evaluated_depsgraph_get()).near
    np.testing.assert_allclose(np.sort(near[:, 1]), [1, 2])


def test_the_strongest_of_too_many_are_taken(addon) -> None:
    for index in range(lamps.MOST_LIGHTS + 3):
        add_light("POINT", energy=1.0 + index)
    lights = lamp_read.read_lights(bpy.context.evaluated_depsgraph_get())
    assert len(lights) == lamps.MOST_LIGHTS
    assert lights.near[:, 7].min() == pytest.approx(4 / (4 * math.pi), rel=1e-4)
    assert "3 weakest" in lights.notes[0]
