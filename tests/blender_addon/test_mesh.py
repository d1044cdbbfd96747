"""A person as an ordinary mesh: posed as the model skins it, painted, and out again as glTF, FBX and USD."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import addon_utils
import bpy as blender
import numpy as np
import pytest

from blender_addon.services import exporting, mesh_build, pose_read, pose_write, rig_info
from shared import errors, mesh_asset, template, types

from .conftest import ROOT, backend_python
from .test_export_mesh import distances_m, evaluated_vertices
from .test_panel_operators import connected  # noqa: F401
from .test_rig import random_pose


def write_asset(folder: Path) -> mesh_asset.MeshAsset:
    """The open body in an A-pose with textures: the numbers a backend writes, made here without it."""
    t = template.load_template()
    vertices, joints = template.rest(t)
    names = t.joint_names
    canonical = np.zeros((len(names), 3), np.float32)
    for name, angle in (("left_shoulder", 0.8), ("right_shoulder", -0.8), ("left_hip", -0.3), ("right_hip", 0.3)):
        canonical[names.index(name), 1] = angle
    order = np.argsort(-t.weights, axis=1)[:, :8]
    weights = np.take_along_axis(t.weights, order, axis=1)
    weights /= weights.sum(1, keepdims=True)
    bones, _ = template.joint_transforms(canonical, joints, t.parents)
    blended = np.einsum("vk,vkab->vab", weights, bones[order])
    placed = np.einsum("vab,vb->va", blended[:, :3, :3], vertices) + blended[:, :3, 3]
    quads = t.faces["skin"]
    faces = np.concatenate((quads[:, :3], quads[:, [0, 2, 3]]))
    rig = types.Rig(t.template_id, t.digest, names, t.parents, joints, t.expression_names, np.zeros(0))
    mesh = types.ProxyMesh(
        placed,
        np.concatenate((faces, faces[:, 2:]), 1),
        np.zeros(len(faces), np.int32),
        ("skin",),
        order,
        weights,
        np.full((len(vertices), 3), 0.5),
        t.expression_vertices,
        t.expression_dirs,
    )
    uv = np.random.default_rng(0).uniform(0, 1, (len(faces), 3, 2)).astype(np.float32)
    folder.mkdir()
    textures = {"colour": "colour.png", "normal": "normal.png", "orm": "orm.png"}
    for key, colour in (("colour", (0.8, 0.1, 0.1)), ("normal", (0.5, 0.5, 1)), ("orm", (1, 0.25, 0))):
        image = blender.data.images.new(key, 8, 8)
        image.pixels.foreach_set(np.tile(np.array((*colour, 1), np.float32), 64))
        image.filepath_raw, image.file_format = str(folder / textures[key]), "PNG"
        image.save()
        blender.data.images.remove(image)
    still = np.zeros_like(canonical)
    asset = mesh_asset.MeshAsset("Ada", "ada", "d" * 64, rig, mesh, canonical, still, uv, textures)
    mesh_asset.write_mesh_files(folder, asset)
    return mesh_asset.read_mesh(folder)


def test_posed_vertices_are_the_models(addon, tmp_path: Path) -> None:
    asset = write_asset(tmp_path / "ada")
    body = mesh_build.add_mesh(addon.context, tmp_path / "ada")
    mesh = rig_info.proxy_of(body)
    for seed in (1, 2):
        rotations, translation = random_pose(len(asset.rig.joint_names), seed, 0.5)
        pose_write.set_pose(body, rotations, translation)
        addon.context.view_layer.update()
        apart = np.abs(evaluated_vertices(addon, mesh) - asset.posed(rotations, translation)).max()
        assert apart < 1e-4, "tenth of a millimetre"
        evaluated = body.evaluated_get(addon.context.evaluated_depsgraph_get())
        state = pose_read.read_avatar(evaluated, addon.context.evaluated_depsgraph_get(), np.eye(4))
        np.testing.assert_allclose(
            template.rotation_matrices(state.rotations), template.rotation_matrices(rotations), atol=1e-5
        )
    pose_write.set_pose(body, np.zeros_like(asset.canonical))
    pose_write.set_expressions(body, {"jawOpen": 0.7})
    addon.context.view_layer.update()
    jaw = asset.rig.expression_names.index("jawOpen")
    moved = evaluated_vertices(addon, mesh) - asset.posed(np.zeros_like(asset.canonical), np.zeros(3))
    most = np.abs(moved[asset.mesh.expression_vertices]).max()
    assert most == pytest.approx(0.7 * np.abs(asset.mesh.expression_offsets[jaw]).max(), rel=0.1)
    assert pose_read.read_avatars(addon.context.evaluated_depsgraph_get()) == [], "the backend draws no mesh"


def test_a_trained_mesh_moves_as_it_was_trained(addon, tmp_path: Path) -> None:
    """Exported by the backend, posed by Blender: within a tenth of a millimetre of the avatar's own vertices."""
    code = "import sys; from pathlib import Path; from tests.avatars.surface_body.people import write_person as write; "
    command = [backend_python(), "-c", code + "write(Path(sys.argv[1]))", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    truth = np.load(tmp_path / "truth.npz")
    assert addon.ops.effigy.import_mesh(directory=str(tmp_path / "mesh")) == {"FINISHED"}
    body = addon.context.object
    mesh = rig_info.proxy_of(body)
    for frame in range(len(truth["vertices"])):
        pose_write.set_pose(body, truth["rotations"][frame], truth["translations"][frame])
        shown = dict(zip(truth["names"].tolist(), truth["expressions"][frame].tolist(), strict=True))
        pose_write.set_expressions(body, shown)
        addon.context.view_layer.update()
        apart_m = np.abs(evaluated_vertices(addon, mesh) - truth["vertices"][frame]).max()
        assert apart_m < 1e-4
    assert np.abs(truth["vertices"][0] - truth["vertices"][1]).max() > 0.1


def test_it_is_painted_and_unwrapped(addon, tmp_path: Path) -> None:
    asset = write_asset(tmp_path / "ada")
    mesh = rig_info.proxy_of(mesh_build.add_mesh(addon.context, tmp_path / "ada"))
    layer = mesh.data.uv_layers[0].data
    flat = np.empty(len(layer) * 2, np.float32)
    layer.foreach_get("uv", flat)
    np.testing.assert_allclose(flat.reshape(-1, 3, 2), asset.uv, atol=1e-6)
    (material,) = mesh.data.materials
    shader = next(node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    sources = {
        name: shader.inputs[name].links[0].from_node for name in ("Base Color", "Roughness", "Metallic", "Normal")
    }
    assert [sources[name].type for name in sources] == ["TEX_IMAGE", "SEPARATE_COLOR", "SEPARATE_COLOR", "NORMAL_MAP"]
    image = sources["Base Color"].image
    assert image.packed_file is not None
    assert image.colorspace_settings.name == "sRGB"
    assert sources["Normal"].inputs["Color"].links[0].from_node.image.colorspace_settings.name == "Non-Color"
    document = json.loads((tmp_path / "ada" / "mesh.json").read_text())
    (tmp_path / "ada" / "mesh.json").write_text(json.dumps(document | {"joints": ["a"]}))
    with pytest.raises(RuntimeError, match="damaged"):
        addon.ops.effigy.import_mesh(directory=str(tmp_path / "ada"))


@pytest.mark.parametrize(("form", "module"), [("MESH", "io_scene_gltf2"), ("FBX", "io_scene_fbx"), ("USD", "")])
def test_it_leaves_as_files_with_textures(addon, tmp_path: Path, form: str, module: str) -> None:
    if module:
        addon_utils.enable(module)
    write_asset(tmp_path / "ada")
    addon.ops.effigy.import_mesh(directory=str(tmp_path / "ada"))
    body = addon.context.object
    rotations, translation = random_pose(55, 3, 0.3)
    pose_write.set_pose(body, rotations, translation)
    pose_write.key_pose(body, 1)
    addon.context.scene.frame_set(1)
    wanted = evaluated_vertices(addon, rig_info.proxy_of(body))
    path = exporting.export_mesh(addon.context, body, form, tmp_path / "out")
    addon.ops.wm.read_factory_settings(use_empty=True)
    if module:
        addon_utils.enable(module)
    importer = {"MESH": addon.ops.import_scene.gltf, "FBX": addon.ops.import_scene.fbx, "USD": addon.ops.wm.usd_import}
    importer[form](filepath=str(path))
    addon.context.scene.frame_set(1)
    mesh = max((o for o in addon.data.objects if o.type == "MESH"), key=lambda o: len(o.data.vertices))
    textures = {node.image.name for node in mesh.data.materials[0].node_tree.nodes if node.type == "TEX_IMAGE"}
    assert textures, "the base colour came along"
    assert mesh.data.uv_layers
    found = evaluated_vertices(addon, mesh)
    apart = distances_m(found[:: max(1, len(found) // 2000)], wanted)
    assert apart.mean() < 1e-3  # glTF holds four weights a vertex


def test_one_button_makes_it_and_brings_it_in(connected, backend) -> None:  # noqa: F811
    ops = connected.ops.effigy
    ops.add_avatar(avatar_id="tiny")
    head = connected.context.object
    assert ops.mesh_to_scene() == {"FINISHED"}
    made = connected.context.object
    assert made is not head
    assert made.data.effigy.mesh_only
    mesh = rig_info.proxy_of(made)
    assert len(mesh.data.polygons) > 1000
    assert mesh.data.materials[0].node_tree is not None
    assert not ops.mesh_to_scene.poll(), "a mesh is no avatar to make one of"
    with pytest.raises(errors.BadAvatar, match="there is no mesh"):
        mesh_build.add_mesh(connected.context, Path("/nowhere"))
