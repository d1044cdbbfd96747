"""Keyed example motion for an avatar and a keyed camera path around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import bpy
from mathutils import Vector

from ..logic import talking
from . import pose_write
from .rig_info import rig_of

WORLD_NAME = "Effigy World"


def key_performance(
    armature_object: Any, scene: Any, start: int, frames: int, progress: Callable[[int], None] = lambda frame: None
) -> None:
    """Key the example performance on every frame from `start`: bones on the armature, values on the shape keys."""
    rig = rig_of(armature_object)
    fps = scene.render.fps / scene.render.fps_base
    motion = talking.performance(rig.joint_names, rig.expression_names, rig.rest_pose, frames, fps)
    names = talking.moving_expressions(motion, rig.expression_names)
    for index in range(frames):
        pose_write.set_pose(armature_object, motion.rotations[index], motion.translations[index])
        pose_write.key_pose(armature_object, start + index)
        values = dict(zip(rig.expression_names, motion.expressions[index].tolist(), strict=True))
        pose_write.set_expressions(armature_object, values)
        pose_write.key_expressions(armature_object, start + index, names)
        progress(index + 1)


def face_centre(armature_object: Any) -> Vector:
    """World point between the eyes, or the top of the head bone, or the middle of the armature."""
    bones = armature_object.data.bones
    eyes = [bones[name].head_local for name in ("left_eye", "right_eye") if name in bones]
    if eyes:
        local = sum(eyes, Vector()) / len(eyes)
    elif "head" in bones:
        local = (bones["head"].head_local + bones["head"].tail_local) / 2
    else:
        local = sum((bone.head_local for bone in bones), Vector()) / len(bones)
    return armature_object.matrix_world @ local


def add_camera_path(
    context: Any, armature_object: Any, start: int, frames: int, *, arc_degrees: float = 50.0, distance_m: float = 1.0
) -> Any:
    """A camera that travels on a slow arc in front of the avatar's face, keyed and tracking an empty there.

    The path is keys on a turning empty, so its speed and reach are edited in two curves. Returns the camera object.
    """
    scale = armature_object.matrix_world.median_scale
    centre = face_centre(armature_object) - Vector((0, 0, 0.025 * scale))
    camera, _ = _camera_on_arm(context, armature_object, start, frames, centre, (arc_degrees, distance_m, 85.0))
    return camera


def add_body_camera_path(
    context: Any, armature_object: Any, start: int, frames: int, *, arc_degrees: float = 80.0, distance_m: float = 3.4
) -> Any:
    """The same around a whole body as it stands in frame `start`; the camera goes along where the pelvis goes."""
    context.scene.frame_set(start)
    joints = sorted((bone.head.copy() for bone in armature_object.pose.bones), key=lambda place: place.z)
    centre = armature_object.matrix_world @ ((joints[0] + joints[-1]) / 2)
    shape = (arc_degrees, distance_m, 50.0)
    camera, pivot = _camera_on_arm(context, armature_object, start, frames, centre, shape)
    for item in (pivot, camera.constraints[0].target):
        follow = item.constraints.new("COPY_LOCATION")
        follow.target, follow.subtarget, follow.use_z = armature_object, "pelvis", False
    return camera


def _camera_on_arm(
    context: Any, armature_object: Any, start: int, frames: int, centre: Vector, shape: tuple[float, float, float]
) -> tuple[Any, Any]:
    """The camera and the turning empty that carries it. shape: arc in degrees, distance in m, lens in mm."""
    arc_degrees, distance_m, lens_mm = shape
    scene = context.scene
    scale = armature_object.matrix_world.median_scale
    target = bpy.data.objects.new(f"{armature_object.name} look-at", None)
    target.empty_display_size = 0.05 * scale
    target.location = centre
    pivot = bpy.data.objects.new(f"{armature_object.name} camera arm", None)
    pivot.empty_display_size = 0.05 * scale
    pivot.location = target.location
    lens = bpy.data.cameras.new(f"{armature_object.name} camera")
    lens.lens, lens.sensor_width = lens_mm, 36.0
    lens.clip_start = 0.05
    camera = bpy.data.objects.new(lens.name, lens)
    camera.parent = pivot
    camera.location = (0, -distance_m * scale, 0.04 * scale)
    for item in (target, pivot, camera):
        context.collection.objects.link(item)
    track = camera.constraints.new("TRACK_TO")
    track.target, track.track_axis, track.up_axis = target, "TRACK_NEGATIVE_Z", "UP_Y"
    facing = armature_object.matrix_world.to_euler().z
    half = math.radians(arc_degrees) / 2
    keys = ((0.0, -half, 1.0), (0.5, 0.15 * half, 0.92), (1.0, half, 1.0))
    for part, angle, nearness in keys:
        frame = start + part * (frames - 1)
        pivot.rotation_euler.z = facing + angle
        pivot.keyframe_insert("rotation_euler", index=2, frame=frame)
        camera.location.y = -distance_m * scale * nearness
        camera.keyframe_insert("location", index=1, frame=frame)
    scene.camera = camera
    return camera, pivot


def studio_light_files() -> dict[str, str]:
    """Name -> file of the HDRIs that come with Blender, such as 'forest'."""
    lights = bpy.context.preferences.studio_lights
    return {light.name.rpartition(".")[0]: light.path for light in lights if light.type == "WORLD" and light.path}


def world_from_hdri(
    scene: Any, path: str, *, strength: float = 1.0, camera_colour: tuple[float, float, float] | None = None
) -> Any:
    """Give the scene a World lit by an HDRI, with a Mapping node; returns that node (its Rotation can be keyed).

    camera_colour: what the camera sees instead of the HDRI, as photographers put a backdrop behind a sitter.
    """
    world = bpy.data.worlds.new(WORLD_NAME)
    if world.node_tree is None:  # before Blender 5
        world.use_nodes = True
    nodes, links = world.node_tree.nodes, world.node_tree.links
    nodes.clear()
    kinds = ("TexCoord", "Mapping", "TexEnvironment", "Background", "OutputWorld")
    coordinates, mapping, texture, light, output = (nodes.new(f"ShaderNode{kind}") for kind in kinds)
    texture.image = bpy.data.images.load(path, check_existing=True)
    light.inputs["Strength"].default_value = strength
    links.new(coordinates.outputs["Generated"], mapping.inputs["Vector"])
    links.new(mapping.outputs["Vector"], texture.inputs["Vector"])
    links.new(texture.outputs["Color"], light.inputs["Color"])
    surface = light.outputs["Background"]
    if camera_colour is not None:
        rays, backdrop, mix = (nodes.new(f"ShaderNode{kind}") for kind in ("LightPath", "Background", "MixShader"))
        backdrop.inputs["Color"].default_value = (*camera_colour, 1.0)
        links.new(rays.outputs["Is Camera Ray"], mix.inputs[0])
        links.new(surface, mix.inputs[1])
        links.new(backdrop.outputs["Background"], mix.inputs[2])
        surface = mix.outputs["Shader"]
    links.new(surface, output.inputs["Surface"])
    for index, node in enumerate(nodes):
        node.location = (220 * index, 0)
    scene.world = world
    return mapping
