"""Composite Avatars with a real Cycles render: what is nearer hides the other; undoing leaves a user's nodes alone."""

from __future__ import annotations

import sys
from typing import Any

import bpy
import numpy as np
import pytest

from blender_addon.services import composite, rig_proxy
from blender_addon.services.rig_info import avatar_of
from shared import errors

from . import shots

pytestmark = pytest.mark.timeout(600)
MIDDLE = (shots.SIZE // 2, shots.SIZE // 2)
GREEN = (0.0, 1.0, 0.0)


def cycles_scene(bpy_module: Any) -> tuple[Any, Any]:
    """The avatar 'tiny' before a grey World, in Cycles with two samples; the scene and the avatar."""
    scene = bpy_module.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = 2, False
    scene.cycles.device = "CPU"
    world = bpy.data.worlds.new("Grey")
    scene.world = world
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.2, 0.2, 0.2, 1)
    scene.effigy.light = "CAPTURED"
    scene.camera.animation_data_clear()
    return scene, next(avatar_of(o) for o in scene.objects if avatar_of(o) is not None)


def plate(scene: Any, *, before: bool, avatar: Any) -> Any:
    """A green glowing square, before or behind the face as the camera sees it, in the picture's middle."""
    camera = scene.camera.matrix_world
    back = camera.translation
    forward = -camera.col[2].to_3d()
    distance = 0.5 if before else 2.0
    bpy.ops.mesh.primitive_plane_add(size=0.1 * distance, location=back + distance * forward)
    square = bpy.context.object
    square.rotation_euler = camera.to_euler()
    material = bpy.data.materials.new("Green")
    material.use_nodes = True
    nodes = material.node_tree.nodes
    glow = nodes.new("ShaderNodeEmission")
    glow.inputs["Color"].default_value = (*GREEN, 1)
    output = next(node for node in nodes if node.type == "OUTPUT_MATERIAL")
    material.node_tree.links.new(glow.outputs[0], output.inputs["Surface"])
    square.data.materials.append(material)
    return square


def is_green(pixel: np.ndarray) -> bool:
    return bool(pixel[1] > 0.8 and pixel[0] < 0.1)


def user_nodes(scene: Any) -> Any:
    """A compositing tree as a user has it: render layers, a hue node and an exposure, and a second branch."""
    if hasattr(scene, "compositing_node_group"):
        tree = bpy.data.node_groups.new("Mine", "CompositorNodeTree")
        scene.compositing_node_group = tree
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        output = tree.nodes.new("NodeGroupOutput")
    else:
        scene.use_nodes = True
        tree = scene.node_tree
        tree.nodes.clear()
        output = tree.nodes.new("CompositorNodeComposite")
    layers, glow, viewer = (tree.nodes.new(f"CompositorNode{kind}") for kind in ("RLayers", "Exposure", "Viewer"))
    layers.scene = scene
    layers.location, glow.location, glow.label = (10, 20), (300, 20), "mine"
    glow.inputs["Exposure"].default_value = 0.0
    tree.links.new(layers.outputs["Image"], glow.inputs["Image"])
    tree.links.new(glow.outputs["Image"], output.inputs[0])
    tree.links.new(layers.outputs["Image"], viewer.inputs["Image"])
    tree.nodes.active = glow
    return tree


def described(tree: Any) -> Any:
    """Everything of a node tree that a user could notice."""
    nodes = {}
    for node in tree.nodes:
        values = {}
        for name in node.bl_rna.properties.keys():  # noqa: SIM118 - a bpy collection
            value = getattr(node, name)
            if isinstance(value, (bool, int, float, str)):
                values[name] = value
        values["location"] = tuple(node.location)
        values["inputs"] = [
            tuple(s.default_value)
            if hasattr(s.default_value, "__len__") and not isinstance(s.default_value, str)
            else s.default_value
            for s in node.inputs
            if hasattr(s, "default_value")
        ]
        nodes[node.name] = values
    links = sorted(
        (link.from_node.name, link.from_socket.identifier, link.to_node.name, link.to_socket.identifier)
        for link in tree.links
    )
    return nodes, links, tree.nodes.active.name if tree.nodes.active else None


@pytest.mark.parametrize("own_nodes", [True, False])
def test_meshes_and_avatars_hide_each_other(scene_with_avatar, tmp_path, own_nodes: bool) -> None:
    scene, avatar = cycles_scene(scene_with_avatar)
    if own_nodes:
        user_nodes(scene)
    square = plate(scene, before=True, avatar=avatar)
    composite.add(scene, scene_with_avatar.context.view_layer)
    assert rig_proxy.role_of(avatar) == "SHADOW"
    before = shots.render_exr(tmp_path / "before.exr", single=True)
    assert is_green(before[MIDDLE]), "the plate is nearer"
    skin = before[shots.SIZE // 2 - 12, shots.SIZE // 2]
    assert not is_green(skin)
    assert np.abs(skin[:3] - 0.2).max() > 0.1, "beside the plate the face, not the World"
    square.location += 1.5 * -scene.camera.matrix_world.col[2].to_3d()
    square.scale *= 4
    behind = shots.render_exr(tmp_path / "behind.exr", single=True)
    assert not is_green(behind[MIDDLE]), "the face is nearer"
    assert np.abs(behind[MIDDLE][:3] - skin[:3]).max() < 0.5
    np.testing.assert_allclose(behind[1, 1, :3], 0.2, atol=0.02)
    green = (behind[..., 1] > 0.8) & (behind[..., 0] < 0.1)
    assert not green[MIDDLE]


def test_edges_of_a_mesh_before_an_avatar_have_no_fringe_of_what_is_behind_it(scene_with_avatar, tmp_path) -> None:
    scene, avatar = cycles_scene(scene_with_avatar)
    scene.cycles.samples = 16
    scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (0, 0, 5, 1)
    square = plate(scene, before=True, avatar=avatar)
    square.scale *= 0.5
    square.rotation_euler.rotate_axis("Z", 0.4)  # so that its edges run through pixels
    composite.add(scene, scene_with_avatar.context.view_layer)
    picture = shots.render_exr(tmp_path / "edges.exr", single=True)
    assert is_green(picture[MIDDLE])
    reach = shots.SIZE // 8
    part = picture[MIDDLE[0] - reach : MIDDLE[0] + reach, MIDDLE[1] - reach : MIDDLE[1] + reach]
    green = (part[..., 1] > 0.8) & (part[..., 0] < 0.1)
    assert 0.05 < green.mean() < 0.8, "the plate's edges are in this part"
    assert part[..., 2].max() < 1.0, "nothing of the blue World beside the plate"
    assert picture[1, 1, 2] > 4


def test_see_through_pixels_show_what_is_behind_on_both_sides(scene_with_avatar, tmp_path) -> None:
    scene, avatar = cycles_scene(scene_with_avatar)
    scene.render.film_transparent = True
    plate(scene, before=True, avatar=avatar)
    composite.add(scene, scene_with_avatar.context.view_layer)
    picture = shots.render_exr(tmp_path / "t.exr", single=True)
    assert is_green(picture[MIDDLE])
    assert picture[1, 1, 3] == 0, "nothing is there"
    beside = picture[shots.SIZE // 2 - 12, shots.SIZE // 2]
    assert beside[3] > 0.9
    assert not is_green(beside), "the avatar shows where the scene is clear"


def test_the_proxy_casts_shadows_without_being_seen(scene_with_avatar, tmp_path) -> None:
    scene, avatar = cycles_scene(scene_with_avatar)
    composite.add(scene, scene_with_avatar.context.view_layer)
    avatars = scene.effigy.avatars_scene
    camera = scene.camera.matrix_world
    bpy.ops.mesh.primitive_plane_add(size=20, location=camera.translation - 1.6 * camera.col[2].to_3d())
    bpy.context.object.rotation_euler = camera.to_euler()
    light = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    light.data.energy, light.data.angle = 5.0, 0.0
    light.rotation_euler = camera.to_euler()
    light.rotation_euler.rotate_axis("Y", 0.5)
    scene.collection.objects.link(light)
    scene.cycles.samples = 8
    lit = shots.render_exr(tmp_path / "lit.exr", single=True)
    rig_proxy.set_role(avatar, "HIDDEN")
    unlit = shots.render_exr(tmp_path / "unlit.exr", single=True)
    darker = (unlit[..., :3].mean(-1) - lit[..., :3].mean(-1)) > 0.2
    assert darker.sum() > 60, "a shadow falls on the wall beside the head"
    assert not darker[MIDDLE], "the picture of the avatar itself is the backend's"
    assert avatars.render.engine == "EFFIGY"


@pytest.mark.parametrize("own_nodes", [True, False])
def test_undoing_leaves_everything_as_it_was(scene_with_avatar, own_nodes: bool) -> None:
    scene, avatar = cycles_scene(scene_with_avatar)
    layer = scene_with_avatar.context.view_layer
    tree = user_nodes(scene) if own_nodes else None
    before = described(tree) if tree else None
    kept = {name: {block.name for block in getattr(bpy.data, name)} for name in ("scenes", "node_groups")}
    role, depth = rig_proxy.role_of(avatar), layer.use_pass_z
    scene_with_avatar.ops.effigy.composite()
    assert layer.use_pass_z
    if tree:
        nodes, links, active = described(tree)
        ours = set(composite.record_of(scene).nodes)
        assert {name: value for name, value in nodes.items() if name not in ours} == before[0], "no node was touched"
        assert active == before[2]
        assert ours == {composite.GROUP, composite.SOURCE}
        assert links != before[1]
    with pytest.raises(RuntimeError, match="already"):
        scene_with_avatar.ops.effigy.composite()
    scene_with_avatar.ops.effigy.composite_remove()
    assert {name: {block.name for block in getattr(bpy.data, name)} for name in kept} == kept
    assert (rig_proxy.role_of(avatar), layer.use_pass_z) == (role, depth)
    assert composite.record_of(scene) is None
    if tree:
        assert described(tree) == before
    elif hasattr(scene, "compositing_node_group"):
        assert scene.compositing_node_group is None
    else:
        assert not scene.use_nodes


def test_what_the_user_did_since_is_kept(scene_with_avatar) -> None:
    scene, _ = cycles_scene(scene_with_avatar)
    tree = user_nodes(scene)
    group = composite.add(scene, scene_with_avatar.context.view_layer)
    later = tree.nodes.new("CompositorNodeInvert")
    target = group.outputs["Image"].links[0].to_socket
    tree.links.new(group.outputs["Image"], later.inputs["Color"])
    tree.links.new(later.outputs[0], target)
    composite.remove(scene)
    (link,) = later.inputs["Color"].links
    assert link.from_node.type == "R_LAYERS"
    assert target.links[0].from_node == later


def test_the_copy_follows_its_scene(scene_with_avatar, tmp_path) -> None:
    scene, _ = cycles_scene(scene_with_avatar)
    composite.add(scene, scene_with_avatar.context.view_layer)
    scene.render.resolution_x, scene.render.resolution_percentage = 96, 50
    scene.render.film_transparent = True
    other = scene.camera.copy()
    scene.collection.objects.link(other)
    other.matrix_world = scene.camera.matrix_world
    other.data = other.data.copy()
    other.data.shift_x = 0.25
    plain = shots.render_exr(tmp_path / "a.exr", single=True)
    scene.camera = other
    assert plain.shape == (32, 48, 4)
    shifted = shots.render_exr(tmp_path / "b.exr", single=True)
    columns = [np.average(np.arange(48), weights=picture[..., 3].sum(0)) for picture in (plain, shifted)]
    assert columns[0] - columns[1] > 5
    bpy.ops.effigy.add_avatar(avatar_id="tiny")
    bpy.context.object.location.x = 0.3
    rig_proxy.set_role(bpy.context.object, "SHADOW")
    scene.camera.data.shift_x = 0
    assert shots.render_exr(tmp_path / "c.exr", single=True)[:, -6:, 3].sum() > plain[:, -6:, 3].sum() + 20


def test_a_copy_may_be_renamed_and_its_loss_is_told(scene_with_avatar, tmp_path, capfd) -> None:
    from blender_addon import batch

    scene, _ = cycles_scene(scene_with_avatar)
    composite.add(scene, scene_with_avatar.context.view_layer)
    scene.effigy.avatars_scene.name = "Whatever"
    scene.name = "Other"
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = str(tmp_path / "r_")
    assert batch.run(["--frames", "2"]) == 0
    (picture,) = tmp_path.iterdir()
    kept = picture.read_bytes()
    bpy.data.scenes.remove(scene.effigy.avatars_scene)
    assert batch.run(["--frames", "2"]) == 1
    assert "was deleted" in capfd.readouterr().err
    assert picture.read_bytes() == kept, "an earlier picture stays, and does not pass for a new one"
    composite.remove(scene)
    assert len(bpy.data.scenes) == 1


def test_what_does_not_fit_is_refused_and_changes_nothing(scene_with_avatar) -> None:
    scene = scene_with_avatar.context.scene
    layer = scene_with_avatar.context.view_layer
    with pytest.raises(errors.EffigyError, match="rendered by Effigy itself"):
        composite.add(scene, layer)
    scene, _ = cycles_scene(scene_with_avatar)
    tree = user_nodes(scene)
    next(node for node in tree.nodes if node.type == "R_LAYERS").scene = bpy.data.scenes.new("Elsewhere")
    before = described(tree)
    with pytest.raises(errors.EffigyError, match="does not show view layer"):
        composite.add(scene, layer)
    assert described(tree) == before
    assert len(bpy.data.scenes) == 2
    with pytest.raises(errors.EffigyError, match="No avatars were composited"):
        composite.remove(scene)


def test_a_failure_of_the_avatars_is_a_failure_of_the_frame(scene_with_avatar, tmp_path, capfd) -> None:
    from blender_addon import batch

    scene, avatar = cycles_scene(scene_with_avatar)
    composite.add(scene, scene_with_avatar.context.view_layer)
    avatar.scale.x = -1
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = str(tmp_path / "c_")
    assert batch.run(["--frames", "2"]) == 1
    assert "mirrored" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
    avatar.scale.x = 1
    assert batch.run(["--frames", "2"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["c_0002.png"]
    sys.stdout.flush()
