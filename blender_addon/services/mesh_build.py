"""Bring a person in as an ordinary mesh: armature, skinned mesh with UVs and shape keys, Principled material."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from .._shared import mesh_asset
from ..logic.joint_regions import FEET
from . import pose_write, rig_build, rig_proxy, rig_shapes
from .rig_info import rig_to_json

ROUGHNESS = 0.7
"""Where the person has no roughness of their own."""
UV_LAYER = "UVMap"


def add_mesh(context: Any, folder: Path) -> Any:
    """The new armature object, selected and active, in the captured pose, its skinned mesh a child. Raises BadAvatar.

    The armature's rest pose is the canonical pose the vertices were made in, so that skinning is the model's own.
    """
    asset = mesh_asset.read_mesh(Path(folder))
    rig_object = rig_build.new_armature(context, asset.name)
    armature, own = rig_object.data, rig_object.data.effigy
    own.avatar_id, own.digest, own.avatar_name = asset.avatar_id or asset.name, asset.digest, asset.name
    own.mesh_only = True
    canonical = asset.canonical if np.any(asset.canonical) else None
    own.rig = rig_to_json(asset.rig, asset.rest_pose, _floor_m(asset), canonical)
    rig_build.make_bones(rig_object, replace(asset.rig, rest_joints=asset.canonical_joints().astype(np.float32)))
    rig_shapes.assign_collections(armature)
    rig_shapes.set_shapes(rig_object, asset.rig.joint_names, context.scene)
    mesh_object = rig_proxy.make_proxy(asset.name, asset.mesh, asset.rig)
    mesh_object.name = mesh_object.data.name = f"{asset.name} mesh"
    context.collection.objects.link(mesh_object)
    _unwrap(mesh_object.data, asset.uv)
    mesh_object.data.materials.clear()
    mesh_object.data.materials.append(make_material(asset, Path(folder)))
    rig_proxy.bind(mesh_object, rig_object, asset.mesh, asset.rig)
    rig_build.turn_jaw_by_visemes(rig_object, mesh_object)
    pose_write.set_captured_pose(rig_object)
    return rig_object


def _floor_m(asset: Any) -> float | None:
    if not any(name in asset.rig.joint_names for name in FEET):
        return None
    still = np.zeros_like(asset.canonical)
    return float(asset.posed(still, np.zeros(3))[:, 2].min())


def _unwrap(mesh: Any, uv: Any) -> None:
    """Give the faces their corners' UVs. Faces keep their order and first corner in from_pydata."""
    layer = mesh.uv_layers.new(name=UV_LAYER)
    layer.data.foreach_set("uv", np.ascontiguousarray(uv, np.float32).reshape(-1))


def make_material(asset: Any, folder: Path) -> Any:
    """A Principled material of the asset's textures, which are packed into the file."""
    material = bpy.data.materials.new(asset.name)
    if material.node_tree is None:  # before Blender 5 a new material has no nodes
        material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    shader = next(node for node in nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Roughness"].default_value = ROUGHNESS
    if "colour" in asset.textures:
        node = _image(nodes, asset, folder, "colour", (-700, 300))
        links.new(node.outputs["Color"], shader.inputs["Base Color"])
    if "orm" in asset.textures:
        node = _image(nodes, asset, folder, "orm", (-900, 0))
        parts = nodes.new("ShaderNodeSeparateColor")
        parts.location = (-500, 0)
        links.new(node.outputs["Color"], parts.inputs["Color"])
        links.new(parts.outputs["Green"], shader.inputs["Roughness"])
        links.new(parts.outputs["Blue"], shader.inputs["Metallic"])
    if "normal" in asset.textures:
        node = _image(nodes, asset, folder, "normal", (-900, -300))
        bent = nodes.new("ShaderNodeNormalMap")
        bent.location, bent.uv_map = (-500, -300), UV_LAYER
        links.new(node.outputs["Color"], bent.inputs["Color"])
        links.new(bent.outputs["Normal"], shader.inputs["Normal"])
    return material


def _image(nodes: Any, asset: Any, folder: Path, key: str, place: tuple[int, int]) -> Any:
    image = bpy.data.images.load(str(folder / asset.textures[key]))
    image.name = f"{asset.name} {key}"
    if key != "colour":
        image.colorspace_settings.name = "Non-Color"
    image.pack()
    node = nodes.new("ShaderNodeTexImage")
    node.image, node.location, node.label = image, place, key
    return node
