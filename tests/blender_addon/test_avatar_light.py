"""An avatar may be lit by something else than its scene: in final pictures, in views, as splats and in the panel."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
import pytest

from blender_addon.engine import MAPS
from blender_addon.services import native_splats, pose_read, scene_light, world_read
from blender_addon.ui import operators_relight, panels_relight
from blender_addon.viewport import contents, overlay

from . import shots
from .drawn import draw
from .test_lamps import add_light


def hdri(name: str, colour: tuple[float, float, float]) -> Any:
    image = bpy.data.images.new(name, 8, 4, float_buffer=True)
    image.pixels.foreach_set(np.tile(np.float32((*colour, 1.0)), 32))
    image.pack()
    return image


@pytest.fixture
def pair(scene_with_avatar: Any) -> tuple[Any, Any]:
    """Two of the head 'tiny', side by side before the camera, the World red."""
    scene = bpy.context.scene
    first = bpy.context.object
    bpy.ops.effigy.add_avatar(avatar_id="tiny")
    second = bpy.context.object
    first.location.x, second.location.x = -0.2, 0.2
    scene.render.film_transparent = True
    scene.world = bpy.data.worlds.new("Red")
    if scene.world.node_tree is None:
        scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (1.0, 0.05, 0.05, 1.0)
    scene.effigy.light = "WORLD"
    scene.camera.location.x = 0.0
    scene.camera.data.lens *= 0.5
    return first, second


def colours(folder: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean linear colour of the left and the right half where an avatar is."""
    picture = shots.render_exr(folder / "pair.exr", single=True)
    half = picture.shape[1] // 2
    sides = (picture[:, : half - 2], picture[:, half + 2 :])
    return tuple(side[side[..., 3] > 0.9][:, :3].mean(0) for side in sides)


def test_one_avatar_keeps_a_light_of_its_own(pair: Any, tmp_path: Any) -> None:
    scene = bpy.context.scene
    left, right = colours(tmp_path)
    assert left[0] > 2 * left[2]
    np.testing.assert_allclose(left, right, rtol=0.25)
    own = pair[1].effigy_light
    own.light, own.image = "OWN", hdri("Blue", (0.05, 0.05, 1.0))
    same, blue = colours(tmp_path)
    np.testing.assert_allclose(same, left, rtol=1e-3)
    assert blue[2] > blue[0]
    own.light = "CAPTURED"
    same, captured = colours(tmp_path)
    np.testing.assert_allclose(same, left, rtol=1e-3)
    scene.effigy.light = "CAPTURED"
    own.light = "WORLD"
    both_captured, red = colours(tmp_path)
    np.testing.assert_allclose(red, right, rtol=1e-3)
    np.testing.assert_allclose(both_captured, captured, rtol=0.25)


def test_lamps_of_the_scene_join_an_own_light_with_its_exposure(pair: Any) -> None:
    scene, layer = bpy.context.scene, bpy.context.view_layer
    scene.effigy.light = "CAPTURED"
    add_light("SUN", energy=3.0)
    own = pair[1].effigy_light
    own.light, own.image, own.exposure = "OWN", hdri("Blue", (0.05, 0.05, 1.0)), 1.0
    kept = contents.Contents()

    def content() -> Any:
        layer.update()
        kept.frame_changed(bpy.context.evaluated_depsgraph_get())
        return kept.of(scene, layer, overlay.choose_light)

    first = content()
    lights = first.lights
    assert lights.picture is None
    assert len(lights.beside) == 1
    assert sum(one is not None for one in lights.own) == 1
    sent, lamps = next(one for one in lights.own if one is not None)
    assert (sent.strength, lamps) == (2.0, 2.0)
    mine = [one is not None for one in lights.own].index(True)
    own.rotation = 0.5
    second = content()
    changed = [a.stamp != b.stamp for a, b in zip(first.actors, second.actors, strict=True)]
    assert changed == [place == mine for place in range(2)], "only its own picture is another"
    own.use_lamps = False
    assert content().lights.own[mine][1] == 0
    depsgraph = bpy.context.evaluated_depsgraph_get()
    own.use_lamps = True
    layer.update()
    state = pose_read.read_avatar(pair[1].evaluated_get(depsgraph), depsgraph, np.eye(4))
    alone = scene_light.chosen_lights(scene, [state.light], depsgraph, world_read.read_world(scene.world, MAPS), MAPS)
    assert alone.alone().picture.radiance is sent.radiance
    np.testing.assert_allclose(alone.alone().beside.suns[0, 3:6], 6.0)
    assert native_splats.scene_light.chosen_lights is scene_light.chosen_lights


def test_the_panel_and_dropped_pictures_follow_the_selected_avatar(pair: Any, tmp_path: Any) -> None:
    scene, (first, second) = bpy.context.scene, pair
    path = tmp_path / "sky.exr"
    image = hdri("Sky", (0.2, 0.4, 0.8))
    image.filepath_raw, image.file_format = str(path), "OPEN_EXR"
    image.save()
    second.effigy_light.light = "CAPTURED"
    bpy.context.view_layer.objects.active = second
    texts = draw(panels_relight.EFFIGY_PT_relight)
    assert texts.count("light") == 2, "its own choice and the scene's"
    operators_relight.light_scene(scene, str(path), second)
    assert second.effigy_light.light == "OWN"
    assert second.effigy_light.image == image
    assert scene.effigy_relight.image is None
    assert {"rotation", "strength", "exposure"} <= set(draw(panels_relight.EFFIGY_PT_relight))
    bpy.context.view_layer.objects.active = first
    operators_relight.light_scene(scene, str(path), first)
    assert any(node.type == "TEX_ENVIRONMENT" for node in scene.world.node_tree.nodes), "the scene's light is the World"
    copy = second.copy()
    assert (copy.effigy_light.light, copy.effigy_light.image) == ("OWN", second.effigy_light.image)
    assert second.keyframe_insert("effigy_light.rotation")
