"""Cryptomatte, holdout, indirect-only, orthographic and several cameras, in files that an independent reader opens."""

from __future__ import annotations

import json
import subprocess

import bpy
import numpy as np
import pytest
from mathutils import Matrix

from blender_addon.logic import cryptomatte
from blender_addon.services.rig_info import avatar_of

from . import shots
from .conftest import ROOT, backend_python

READ_EXR = """
import json, sys
import numpy as np, OpenEXR
file = OpenEXR.File(sys.argv[1], separate_channels=True)
header = {k: v for k, v in file.header().items() if isinstance(v, str)}
np.savez(sys.argv[2], **{name: channel.pixels for name, channel in file.channels().items()})
print(json.dumps(header))
"""


def open_exr(path, folder) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Text attributes and channels, read by OpenEXR's own library in the backend's environment."""
    command = [backend_python(), "-c", READ_EXR, str(path), str(folder / "read.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if "No module named 'OpenEXR'" in done.stderr:
        pytest.skip("OpenEXR is not installed beside the backend (pip install -e .[dev])")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), dict(np.load(folder / "read.npz"))


def two_avatars(bpy_module):
    """'tiny' twice, one behind the other and aside, as Anna and Zoë."""
    scene = bpy_module.context.scene
    scene.render.film_transparent = True
    anna = next(avatar_of(o) for o in scene.objects if avatar_of(o) is not None)
    camera = scene.camera
    camera.animation_data_clear()
    bpy_module.ops.effigy.add_avatar(avatar_id="tiny")
    zoe = bpy_module.context.object
    anna.name, zoe.name = "Anna", "Zoë"
    zoe.location = (0.12, 0.25, 0.0)
    return anna, zoe


def test_the_hash_is_murmur3() -> None:
    # Values of the reference implementation (smhasher's MurmurHash3_x86_32, seed 0).
    known = {"": 0, "a": 0x3C2569B2, "ab": 0x9BBFD75F, "abc": 0xB3DD93FA, "abcd": 0x43ED676A, "hello": 0x248BFA47}
    assert {text: cryptomatte.murmur3(text) for text in known} == known


def test_ids_are_normal_floats() -> None:
    for number in range(3000):
        assert cryptomatte.name_bits(f"name {number}") >> 23 & 255 not in (0, 255)


def test_ranks_are_sorted_and_names_are_merged() -> None:
    coverage = np.float32([[[0.2, 0.5, 0.1], [0.0, 0.3, 0.0]]])
    first, second, third = cryptomatte.ranked(coverage, ["a", "b", "a"], 6)
    a, b = (np.float32(cryptomatte.name_id(name)) for name in "ab")
    np.testing.assert_allclose(first[0], [[b, 0.5, a, 0.3], [b, 0.3, 0, 0]], rtol=1e-6)
    assert not second.any()
    assert not third.any()
    (only,) = cryptomatte.ranked(coverage, ["a", "b", "c"], 2)
    np.testing.assert_allclose(only[0, 0], [b, 0.5, a, 0.2], rtol=1e-6)
    assert not cryptomatte.ranked(np.zeros((2, 2, 0), np.float32), [], 6)[0].any()


def test_mattes_of_overlapping_avatars_are_read_back_by_name(scene_with_avatar, tmp_path) -> None:
    anna, zoe = two_avatars(scene_with_avatar)
    layer = scene_with_avatar.context.view_layer
    layer.use_pass_cryptomatte_object = layer.use_pass_cryptomatte_asset = True
    layer.use_pass_cryptomatte_material = True
    layer.pass_cryptomatte_depth = 4
    crowd = bpy.data.objects.new("Crowd", None)
    scene_with_avatar.context.collection.objects.link(crowd)
    zoe.parent = crowd
    shots.render_exr(tmp_path / "m.exr")
    header, channels = open_exr(tmp_path / "m.exr", tmp_path)

    def matte(kind: str, name: str) -> np.ndarray:
        """What the specification tells a compositor to do, from the file alone."""
        key = next(k[: -len("/name")] for k, v in header.items() if k.endswith("/name") and v == f"{layer.name}.{kind}")
        assert header[f"{key}/hash"] == "MurmurHash3_32"
        assert header[f"{key}/conversion"] == "uint32_to_float32"
        manifest = json.loads(header[f"{key}/manifest"])
        wanted = np.array([int(manifest[name], 16)], np.uint32).view(np.float32)[0]
        cover = np.zeros((shots.SIZE, shots.SIZE), np.float32)
        for rank in range(2):
            for id_letter, cover_letter in ("rg", "ba"):
                path = f"{layer.name}.{kind}{rank:02d}"
                ids, covers = (
                    next(channels[f"{path}.{c}"] for c in (letter, letter.upper()) if f"{path}.{c}" in channels)
                    for letter in (id_letter, cover_letter)
                )
                cover += np.where(ids == wanted, covers, 0)
        return cover

    by_object = {name: matte("CryptoObject", name) for name in ("Anna", "Zoë")}
    alpha = channels[f"{layer.name}.Combined.A"]
    np.testing.assert_allclose(sum(by_object.values()), alpha, atol=4e-3)
    assert by_object["Anna"][shots.SIZE // 2, shots.SIZE // 2] > 0.9
    assert ((by_object["Anna"] > 0.05) & (by_object["Zoë"] > 0.05)).sum() > 5, "edges in front of the other one"
    for name, other in (("Anna", zoe), ("Zoë", anna)):
        other.is_holdout = True
        seen = shots.render_exr(tmp_path / "one.exr")["Combined"][..., 3]
        other.is_holdout = False
        np.testing.assert_allclose(by_object[name], seen, atol=6e-3)
    np.testing.assert_allclose(matte("CryptoAsset", "Crowd"), by_object["Zoë"], atol=1e-6)
    np.testing.assert_allclose(matte("CryptoMaterial", "tiny"), alpha, atol=4e-3)


def compositor(scene):
    """An empty compositing tree and the node that is its output; works before and from Blender 5."""
    if hasattr(scene, "compositing_node_group"):
        tree = bpy.data.node_groups.new("Comp", "CompositorNodeTree")
        scene.compositing_node_group = tree
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        return tree, tree.nodes.new("NodeGroupOutput")
    scene.use_nodes = True
    scene.node_tree.nodes.clear()
    return scene.node_tree, scene.node_tree.nodes.new("CompositorNodeComposite")


def test_blenders_own_node_picks_an_avatar_by_name(scene_with_avatar, tmp_path) -> None:
    two_avatars(scene_with_avatar)
    scene = scene_with_avatar.context.scene
    scene_with_avatar.context.view_layer.use_pass_cryptomatte_object = True
    mattes = shots.render_exr(tmp_path / "m.exr")
    tree, output = compositor(scene)
    layers, node = tree.nodes.new("CompositorNodeRLayers"), tree.nodes.new("CompositorNodeCryptomatteV2")
    node.source, node.scene, node.matte_id = "RENDER", scene, "Zoë"
    tree.links.new(layers.outputs["Image"], node.inputs["Image"])
    tree.links.new(node.outputs["Matte"], output.inputs[0])
    picked = shots.render_exr(tmp_path / "z.exr", single=True)
    wanted = np.float32(cryptomatte.name_id("Zoë"))
    ranks = mattes["CryptoObject00"]
    expected = np.where(ranks[..., 0] == wanted, ranks[..., 1], 0) + np.where(ranks[..., 2] == wanted, ranks[..., 3], 0)
    assert expected.max() > 0.9
    np.testing.assert_allclose(picked[..., 0], expected, atol=5e-3)


def test_holdout_and_indirect_collections_of_a_view_layer(scene_with_avatar, tmp_path) -> None:
    anna, zoe = two_avatars(scene_with_avatar)
    scene = scene_with_avatar.context.scene
    for name, item in (("Front", anna), ("Back", zoe)):
        group = bpy.data.collections.new(name)
        scene.collection.children.link(group)
        for one in (item, *item.children):
            for owner in list(one.users_collection):
                owner.objects.unlink(one)
            group.objects.link(one)
    for name in ("Held", "Indirect"):
        scene.view_layers.new(name)
    scene.view_layers["Held"].layer_collection.children["Front"].holdout = True
    scene.view_layers["Indirect"].layer_collection.children["Front"].indirect_only = True
    picture = shots.render_exr(tmp_path / "v.exr")
    whole, held, indirect = picture["Combined"], picture["Held.Combined"], picture["Indirect.Combined"]
    middle = (shots.SIZE // 2, shots.SIZE // 2)
    assert whole[middle][3] > 0.9
    assert held[middle][3] < 0.05, "a hole where the front one is"
    assert held[..., 3].max() > 0.9, "the other is there"
    assert indirect[..., 3].sum() > held[..., 3].sum() + 50, "nothing stands before the other"
    assert indirect[..., 3].sum() < whole[..., 3].sum()


def test_orthographic_pictures_are_as_large_from_afar(scene_with_avatar, tmp_path) -> None:
    scene = scene_with_avatar.context.scene
    scene.render.film_transparent = True
    camera = scene.camera
    place = camera.matrix_world.copy()
    camera.animation_data_clear()
    camera.constraints.clear()
    camera.matrix_world = place
    camera.data.type, camera.data.ortho_scale = "ORTHO", 0.5
    near = shots.render_exr(tmp_path / "n.exr")["Combined"]
    camera.matrix_world = place @ Matrix.Translation((0, 0, 3))
    far = shots.render_exr(tmp_path / "f.exr")["Combined"]
    assert 0.2 < (near[..., 3] > 0.5).mean() < 0.95
    np.testing.assert_allclose(near, far, atol=0.05)


def test_several_cameras_give_several_views(scene_with_avatar, tmp_path) -> None:
    scene = scene_with_avatar.context.scene
    scene.render.film_transparent = True
    scene.render.use_multiview, scene.render.views_format = True, "MULTIVIEW"
    first = scene.camera
    first.name = "Shot_left"
    second = first.copy()
    second.name = "Shot_right"
    second.animation_data_clear()
    second.data = first.data.copy()
    second.data.lens = first.data.lens / 2
    scene.collection.objects.link(second)
    for view, suffix in (("left", "_left"), ("right", "_right")):
        scene.render.views[view].camera_suffix = suffix
    scene.render.image_settings.views_format = "INDIVIDUAL"
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = str(tmp_path / "view")
    scene_with_avatar.ops.render.render(write_still=True)
    sizes = [(shots.read_picture(tmp_path / f"view{suffix}.png")[..., 3] > 0.5).sum() for suffix in ("_left", "_right")]
    assert sizes[0] > 1.7 * sizes[1], "with half the focal length it is smaller"
