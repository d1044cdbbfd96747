"""Make an avatar's armature and proxy mesh in a scene from what the backend tells about it."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
from mathutils import Vector

from .._shared import messages, types
from ..logic import rig_layout
from . import pose_write
from .rig_info import rig_to_json

COLOUR_ATTRIBUTE = "Colour"
MATERIAL = "Effigy Proxy"
SLIDER_LIMITS = (-10.0, 10.0)
"""Blender's own limits of a shape key's range."""


def add_avatar(context: Any, detail: messages.AvatarDetail) -> Any:
    """The new armature object, selected and active, in its captured pose, with its skinned proxy as a child."""
    if context.object is not None and context.object.mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    name = detail.summary.name or detail.summary.avatar_id
    armature = bpy.data.armatures.new(name)
    armature.effigy.avatar_id = detail.summary.avatar_id
    armature.effigy.digest = detail.summary.digest
    armature.effigy.avatar_name = name
    armature.effigy.rig = rig_to_json(detail.rig, detail.rest_pose)
    rig_object = bpy.data.objects.new(name, armature)
    rig_object.show_in_front = True
    armature.display_type = "STICK"  # thin enough to see the face behind
    context.collection.objects.link(rig_object)
    for selected in context.selected_objects:
        selected.select_set(False)
    context.view_layer.objects.active = rig_object
    rig_object.select_set(True)
    _make_bones(rig_object, detail.rig)
    proxy = _make_proxy(name, detail.proxy, detail.rig)
    context.collection.objects.link(proxy)
    _bind(proxy, rig_object, detail.proxy, detail.rig)
    pose_write.set_pose(rig_object, detail.rest_pose)
    return rig_object


def _make_bones(rig_object: Any, rig: types.Rig) -> None:
    tails = rig_layout.bone_tails(rig.joint_names, rig.parents, rig.rest_joints)
    bpy.ops.object.mode_set(mode="EDIT")
    try:
        bones: list[Any] = []
        for index, name in enumerate(rig.joint_names):
            bone = rig_object.data.edit_bones.new(name)
            bone.head, bone.tail = rig.rest_joints[index].tolist(), tails[index].tolist()
            bone.align_roll(Vector(rig_layout.roll_axis(rig.rest_joints[index], tails[index])))
            if rig.parents[index] >= 0:
                bone.parent = bones[rig.parents[index]]
            bones.append(bone)
    finally:
        bpy.ops.object.mode_set(mode="OBJECT")
    for bone in rig_object.pose.bones:
        bone.rotation_mode = "QUATERNION"
        bone.lock_scale = (True, True, True)
        if bone.parent is not None:  # a body's joints turn; only the root also travels
            bone.lock_location = (True, True, True)


def _make_proxy(name: str, proxy: types.ProxyMesh, rig: types.Rig) -> Any:
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
    moved = proxy.vertices.copy()
    for index, expression in enumerate(rig.expression_names):
        key = mesh_object.shape_key_add(name=expression, from_mix=False)
        moved[proxy.expression_vertices] = proxy.vertices[proxy.expression_vertices] + proxy.expression_offsets[index]
        key.data.foreach_set("co", moved.reshape(-1))
        if rig.expression_ranges is not None:  # a shape key goes from 0 to 1 unless it is told otherwise
            low, high = rig.expression_ranges[index].tolist()
            key.slider_min, key.slider_max = max(low, SLIDER_LIMITS[0]), min(high, SLIDER_LIMITS[1])
        key.value = 0.0
    return mesh_object


def _bind(proxy_object: Any, rig_object: Any, proxy: types.ProxyMesh, rig: types.Rig) -> None:
    groups = [proxy_object.vertex_groups.new(name=name) for name in rig.joint_names]
    for joints, weights in zip(proxy.joints.T.tolist(), proxy.weights.T.tolist(), strict=True):
        for vertex, (joint, weight) in enumerate(zip(joints, weights, strict=True)):
            if weight > 0:
                groups[joint].add((vertex,), weight, "ADD")
    modifier = proxy_object.modifiers.new("Skeleton", "ARMATURE")
    modifier.object = rig_object
    proxy_object.parent = rig_object
    _keep_expressions_evaluated(rig_object, proxy_object)


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
