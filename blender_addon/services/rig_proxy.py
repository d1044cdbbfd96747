"""The proxy: the light skinned mesh that stands for an avatar, with shape keys for expressions and visemes."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np

from .._shared import errors, types
from ..logic import visemes
from .rig_info import proxy_of

COLOUR_ATTRIBUTE = "Colour"
MATERIAL = "Effigy Proxy"
SLIDER_LIMITS = (-10.0, 10.0)
"""Blender's own limits of a shape key's range."""
ROLES = (
    ("VISIBLE", "Visible", "Cycles and EEVEE render the proxy like any mesh"),
    ("SHADOW", "Shadow Only", "The camera does not see it, but it casts shadows and shows in mirrors"),
    ("HIDDEN", "Not Rendered", "Left out of renders; it still shows in the viewport"),
)
"""What the proxy does in renders by Cycles and EEVEE. The EFFIGY engine never draws it."""


def make_proxy(name: str, proxy: types.ProxyMesh, rig: types.Rig) -> Any:
    """The mesh object, not yet linked: colours, shape keys of all expressions and, for named ones, of the visemes."""
    mesh = bpy.data.meshes.new(f"{name} proxy")
    faces = [face[:3] if face[2] == face[3] else face for face in proxy.faces.tolist()]
    mesh.from_pydata(proxy.vertices, [], faces)
    mesh.shade_smooth()
    mesh.effigy_proxy = True
    colour = mesh.color_attributes.new(COLOUR_ATTRIBUTE, "FLOAT_COLOR", "POINT")
    rgba = np.ones((len(proxy.vertices), 4), np.float32)
    rgba[:, :3] = proxy.colour
    colour.data.foreach_set("color", rgba.reshape(-1))
    mesh.materials.append(_material())
    mesh_object = bpy.data.objects.new(f"{name} proxy", mesh)
    mesh_object.shape_key_add(name="Basis", from_mix=False)
    for index, expression in enumerate(rig.expression_names):
        key = _shape_key(mesh_object, expression, proxy, proxy.expression_offsets[index])
        if rig.expression_ranges is not None:  # a shape key goes from 0 to 1 unless it is told otherwise
            low, high = rig.expression_ranges[index].tolist()
            key.slider_min, key.slider_max = max(low, SLIDER_LIMITS[0]), min(high, SLIDER_LIMITS[1])
    if visemes.speaks(rig.expression_names):
        mixed = np.tensordot(visemes.combinations(rig.expression_names), proxy.expression_offsets, axes=1)
        for viseme, offsets in zip(visemes.VISEMES, mixed, strict=True):
            _shape_key(mesh_object, viseme, proxy, offsets)
    return mesh_object


def _shape_key(mesh_object: Any, name: str, proxy: types.ProxyMesh, offsets: Any) -> Any:
    key = mesh_object.shape_key_add(name=name, from_mix=False)
    moved = proxy.vertices.copy()
    moved[proxy.expression_vertices] += offsets
    key.data.foreach_set("co", moved.reshape(-1))
    key.value = 0.0
    return key


def bind(proxy_object: Any, rig_object: Any, proxy: types.ProxyMesh, rig: types.Rig) -> None:
    """Skin the mesh by the armature and make it the armature's child."""
    groups = [proxy_object.vertex_groups.new(name=name) for name in rig.joint_names]
    for joints, weights in zip(proxy.joints.T.tolist(), proxy.weights.T.tolist(), strict=True):
        for vertex, (joint, weight) in enumerate(zip(joints, weights, strict=True)):
            if weight > 0:
                groups[joint].add((vertex,), weight, "ADD")
    modifier = proxy_object.modifiers.new("Skeleton", "ARMATURE")
    modifier.object = rig_object
    proxy_object.parent = rig_object
    _keep_expressions_evaluated(rig_object, proxy_object)


def role_of(rig_object: Any) -> str:
    """What the avatar's proxy does in Cycles' and EEVEE's renders: one of ROLES; HIDDEN where it was deleted."""
    proxy = proxy_of(rig_object)
    if proxy is None or proxy.hide_render:
        return "HIDDEN"
    return "VISIBLE" if proxy.visible_camera else "SHADOW"


def set_role(rig_object: Any, role: str) -> None:
    """Set one of ROLES. Raises NotFound where the proxy was deleted."""
    proxy = proxy_of(rig_object)
    if proxy is None:
        raise errors.NotFound(f"The proxy mesh of {rig_object.name!r} was deleted", do="Add the avatar again")
    proxy.hide_render = role == "HIDDEN"
    proxy.visible_camera = role != "SHADOW"
    if role == "SHADOW":
        proxy.visible_shadow = proxy.visible_glossy = proxy.visible_diffuse = proxy.visible_transmission = True


def _keep_expressions_evaluated(rig_object: Any, proxy_object: Any) -> None:
    """Tie the armature to its shape keys, so that expressions play even where the proxy is hidden.

    Blender evaluates only what a visible object needs; an avatar is its armature, and a driver states a need.
    """
    keys = proxy_object.data.shape_keys
    if keys is None or len(keys.key_blocks) < 2:
        return
    driver = rig_object.driver_add("effigy.expressions_evaluated").driver
    driver.type = "SUM"
    variable = driver.variables.new()
    variable.targets[0].id_type = "KEY"
    variable.targets[0].id = keys
    variable.targets[0].data_path = f'key_blocks["{bpy.utils.escape_identifier(keys.key_blocks[1].name)}"].value'


def _material() -> Any:
    """The material all proxies share: the mesh's own colours, so Cycles and EEVEE show more than grey."""
    material = bpy.data.materials.get(MATERIAL)
    if material is None:
        material = bpy.data.materials.new(MATERIAL)
        if material.node_tree is None:  # before Blender 5 a new material has no nodes
            material.use_nodes = True
        nodes, links = material.node_tree.nodes, material.node_tree.links
        shader = next(node for node in nodes if node.type == "BSDF_PRINCIPLED")
        colour = nodes.new("ShaderNodeVertexColor")
        colour.layer_name = COLOUR_ATTRIBUTE
        links.new(colour.outputs["Color"], shader.inputs["Base Color"])
    return material
