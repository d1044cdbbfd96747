"""The World as light: axes, rotation, tint and strength agree with what Blender itself shows in each direction."""

from __future__ import annotations

import numpy as np
import pytest
from mathutils import Euler

from blender_addon.logic import world_maths
from blender_addon.services import world_read
from shared import errors, types

RED, GREEN, BLUE, WHITE = (1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 2, 2)


def quadrants(bpy, *, is_float: bool = True):
    """A map whose column quarters are red, green, blue, white from the left; the lower half is black."""
    image = bpy.data.images.new("Quadrants", 16, 8, float_buffer=is_float)
    pixels = np.zeros((8, 16, 4), np.float32)
    for column, colour in enumerate((RED, GREEN, BLUE, WHITE)):
        pixels[4:, column * 4 : column * 4 + 4, :3] = colour  # Blender's row 0 is the bottom
    pixels[..., 3] = 1
    image.pixels.foreach_set(pixels.reshape(-1))
    return image


def hdri_world(bpy, image, **mapping):
    world = bpy.data.worlds.new("W")
    if world.node_tree is None:
        world.use_nodes = True
    nodes, links = world.node_tree.nodes, world.node_tree.links
    texture = nodes.new("ShaderNodeTexEnvironment")
    texture.image = image
    background = next(node for node in nodes if node.type == "BACKGROUND")
    links.new(texture.outputs["Color"], background.inputs["Color"])
    if mapping:
        node, coordinates = nodes.new("ShaderNodeMapping"), nodes.new("ShaderNodeTexCoord")
        node.vector_type = mapping.get("vector_type", "POINT")
        node.inputs["Rotation"].default_value = mapping["rotation"]
        links.new(coordinates.outputs["Generated"], node.inputs["Vector"])
        links.new(node.outputs["Vector"], texture.inputs["Vector"])
    bpy.context.scene.world = world
    return world, background, texture


def towards(azimuth_degrees: float, elevation_degrees: float = 30.0) -> np.ndarray:
    a, e = np.radians((azimuth_degrees, elevation_degrees))
    return np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])


def test_quadrants_lie_where_the_environment_type_says(addon) -> None:
    world, background, _ = hdri_world(addon, quadrants(addon))
    background.inputs["Strength"].default_value = 3.0
    light = world_read.read_world(world, world_read.MapCache()).light
    # columns from the left look towards azimuth 180..90, 90..0, 0..-90, -90..-180
    for azimuth, colour in ((135, RED), (45, GREEN), (-45, BLUE), (-135, WHITE)):
        np.testing.assert_allclose(world_maths.sample(light.radiance, towards(azimuth)), colour, atol=1e-6)
    assert not world_maths.sample(light.radiance, towards(45, -30)).any()
    np.testing.assert_allclose(light.gain, 3)


@pytest.mark.parametrize("vector_type", ["POINT", "TEXTURE", "VECTOR"])
@pytest.mark.parametrize("turn", [(0, 0, np.radians(90)), (np.radians(20), 0, np.radians(-40))])
def test_the_backend_and_the_background_see_the_same_turned_light(addon, vector_type, turn) -> None:
    world, _, _ = hdri_world(addon, quadrants(addon), rotation=turn, vector_type=vector_type)
    cache = world_read.MapCache()
    light = world_read.read_world(world, cache).light
    matrix = np.array(Euler(turn).to_matrix())
    looked_at = towards(120) @ (matrix if vector_type == "TEXTURE" else matrix.T)
    expected = world_maths.sample(light.radiance, looked_at)
    sent = world_read.sent_light(light, cache)
    environment = types.Environment(sent.radiance.astype(np.float32), sent.rotation_rad, sent.strength)
    # Environment.rotation_rad turns the light about +z: what shone from e now shines from Rz(rotation) e
    c, s = np.cos(-environment.rotation_rad), np.sin(-environment.rotation_rad)
    unturned = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ towards(120)
    np.testing.assert_allclose(world_maths.sample(environment.radiance, unturned), expected, atol=2e-2)
    camera = types.Camera(
        1,
        1,
        [[10, 0, 0.5], [0, 10, 0.5], [0, 0, 1]],
        np.block([[_looking(towards(120)), np.zeros((3, 1))], [0, 0, 0, 1]]),
    )
    seen = world_maths.background(camera, light.radiance, light.map_from_world)
    np.testing.assert_allclose(seen[0, 0], expected, atol=1e-3)


def _looking(forward: np.ndarray) -> np.ndarray:
    right = np.cross(forward, (0, 0, 1))
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward], axis=1)


def test_turning_the_sky_sends_nothing_new_but_a_tint_does(addon) -> None:
    world, background, texture = hdri_world(addon, quadrants(addon), rotation=(0, 0, 0.1))
    cache = world_read.MapCache()
    first = world_read.sent_light(world_read.read_world(world, cache).light, cache)
    next(n for n in world.node_tree.nodes if n.type == "MAPPING").inputs["Rotation"].default_value[2] = 1.1
    second = world_read.sent_light(world_read.read_world(world, cache).light, cache)
    assert second.radiance is first.radiance
    assert second.rotation_rad == pytest.approx(first.rotation_rad - 1.0, abs=1e-5)
    mix = world.node_tree.nodes.new("ShaderNodeMix")
    mix.data_type, mix.blend_type = "RGBA", "MULTIPLY"
    mix.inputs[0].default_value = 1.0
    mix.inputs[7].default_value = (0.5, 1.0, 0.25, 1)
    world.node_tree.links.new(texture.outputs["Color"], mix.inputs[6])
    world.node_tree.links.new(mix.outputs[2], background.inputs["Color"])
    tinted = world_read.sent_light(world_read.read_world(world, cache).light, cache)
    np.testing.assert_allclose(tinted.radiance, first.radiance * np.float16([0.5, 1, 0.25]), atol=1e-3)


def test_plain_and_camera_only_backgrounds(addon) -> None:
    world, background, _ = hdri_world(addon, quadrants(addon))
    nodes, links = world.node_tree.nodes, world.node_tree.links
    plain, mix, path = (nodes.new(f"ShaderNode{kind}") for kind in ("Background", "MixShader", "LightPath"))
    plain.inputs["Color"].default_value = (0.8, 0.7, 0.6, 1)
    links.new(path.outputs["Is Camera Ray"], mix.inputs[0])
    links.new(background.outputs[0], mix.inputs[1])
    links.new(plain.outputs[0], mix.inputs[2])
    links.new(mix.outputs[0], next(n for n in nodes if n.type == "OUTPUT_WORLD").inputs["Surface"])
    read = world_read.read_world(world, world_read.MapCache())
    assert read.light.is_image
    assert not read.seen.is_image
    np.testing.assert_allclose(read.seen.radiance[0, 0], (0.8, 0.7, 0.6), atol=1e-6)
    nothing = world_read.read_world(None, world_read.MapCache())
    assert nothing.light is None
    assert not nothing.seen.radiance.any()


def test_bytes_are_decoded_from_srgb(addon) -> None:
    image = quadrants(addon, is_float=False)
    image.pixels.foreach_set(np.full(16 * 8 * 4, 0.5, np.float32))
    world, _, _ = hdri_world(addon, image)
    light = world_read.read_world(world, world_read.MapCache()).light
    np.testing.assert_allclose(light.radiance, 0.2140, atol=2e-3)


def test_keyed_rotation_is_read_as_evaluated(addon) -> None:
    world, _, _ = hdri_world(addon, quadrants(addon), rotation=(0, 0, 0))
    socket = next(n for n in world.node_tree.nodes if n.type == "MAPPING").inputs["Rotation"]
    for frame, angle in ((1, 0.0), (3, 1.0)):
        socket.default_value[2] = angle
        socket.keyframe_insert("default_value", frame=frame)
    addon.context.scene.frame_set(2)
    evaluated = addon.context.evaluated_depsgraph_get().scene_eval.world
    light = world_read.read_world(evaluated, world_read.MapCache()).light
    assert world_maths.turn_about_z(light.map_from_world) == pytest.approx(-0.5, abs=1e-4)


def test_what_is_not_understood_is_told_and_missing_files_are_errors(addon) -> None:
    world, background, texture = hdri_world(addon, quadrants(addon))
    sky = world.node_tree.nodes.new("ShaderNodeTexSky")
    world.node_tree.links.new(sky.outputs[0], background.inputs["Color"])
    read = world_read.read_world(world, world_read.MapCache())
    assert read.light is None
    assert "Sky Texture" in read.problem
    world.node_tree.links.new(texture.outputs[0], background.inputs["Color"])
    missing = addon.data.images.new("gone.exr", 4, 4)
    missing.source, missing.filepath = "FILE", "//nowhere/gone.exr"
    texture.image = missing
    with pytest.raises(errors.NotFound, match=r"gone\.exr"):
        world_read.read_world(world, world_read.MapCache())


def test_shrinking_keeps_all_light_and_half_floats_stay_finite() -> None:
    rng = np.random.default_rng(3)
    radiance = rng.random((300, 700, 3)).astype(np.float32)
    radiance[100, 200] = 1e7
    small = world_maths.shrink(radiance)
    assert small.shape == (256, 512, 3)
    np.testing.assert_allclose(small.mean((0, 1)), radiance.mean((0, 1)), rtol=1e-4)
    sent = world_maths.half(np.array([np.nan, np.inf, -1.0, 1e9, 0.5]))
    np.testing.assert_array_equal(sent, np.array([0, 65504, 0, 65504, 0.5], np.float16))


@pytest.mark.parametrize(("vector_type", "turn"), [("POINT", (0.3, -0.2, 1.0)), ("TEXTURE", (0.5, 0.4, 1.0))])
def test_the_background_is_where_cycles_shows_it(addon, tmp_path, vector_type, turn) -> None:
    from .shots import render_exr
    from .test_camera import make_camera

    scene = addon.context.scene
    make_camera(addon, lens=20, shift_x=0.1)
    hdri_world(addon, quadrants(addon), rotation=turn, vector_type=vector_type)
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 48, 32, 100
    pictures = {}
    for engine in ("CYCLES", "EFFIGY"):
        scene.render.engine = engine
        if engine == "CYCLES":
            scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.device = 4, False, "CPU"
            scene.cycles.pixel_filter_type = "BOX"
        pictures[engine] = render_exr(tmp_path / f"{engine}.exr")["Combined"][..., :3]
    assert np.ptp(pictures["CYCLES"]) > 0.9, "more than one quadrant is seen"
    assert np.abs(pictures["CYCLES"] - pictures["EFFIGY"]).mean() < 0.02
