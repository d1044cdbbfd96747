"""How an avatar's bones look: their custom shapes, made here as wire meshes, and their bone collections."""

from __future__ import annotations

import math
from typing import Any

import bpy
from mathutils import Euler

from ..logic.joint_regions import REGIONS, region_of, shape_of

COLLECTION = "Effigy Bone Shapes"
MARK = "effigy_bone_shape"
MECHANISM = "Mechanism"
"""Bone collection of what only drivers and constraints move; not shown."""
CONTROLS = "IK Controls"
_RING = 24
Wire = tuple[list[tuple[float, float, float]], list[tuple[int, int]]]


def assign_collections(armature: Any) -> None:
    """Put every bone of an armature's data into the collection of its part of the body."""
    used = {region_of(bone.name) for bone in armature.bones}
    for region in REGIONS:
        if region in used:
            armature.collections.new(region)
    for bone in armature.bones:
        assign(armature, bone, region_of(bone.name))


def assign(armature: Any, bone: Any, collection: str, *, visible: bool = True) -> None:
    """Put one bone into a bone collection, made where there is none."""
    found = armature.collections.get(collection) or armature.collections.new(collection)
    found.is_visible = visible
    found.assign(bone)


def set_shapes(rig_object: Any, joint_names: tuple[str, ...], scene: Any) -> None:
    """Give the bones of an avatar's joints their custom shapes, drawn as wires in the colours of Blender's themes."""
    for name in joint_names:
        look, bone = shape_of(name), rig_object.pose.bones[name]
        colour = {"left_": "THEME04", "right_": "THEME01"}.get(name[: name.find("_") + 1], "THEME09")
        set_shape(bone, look.shape, look.radius_m, scene, along=look.along, colour=colour)


def set_shape(pose_bone: Any, kind: str, radius_m: float, scene: Any, *, along: float = 0.0, colour: str) -> None:
    """One bone's shape. along: where on the bone it sits, 0 at its head and 1 at its tail."""
    pose_bone.custom_shape = shape_object(kind, scene)
    pose_bone.use_custom_shape_bone_size = False
    pose_bone.custom_shape_scale_xyz = (radius_m,) * 3
    pose_bone.custom_shape_translation = (0.0, along * pose_bone.bone.length, 0.0)
    pose_bone.bone.show_wire = True
    pose_bone.color.palette = colour


def shape_object(kind: str, scene: Any) -> Any:
    """The object all bones of this file with this shape share; made and hidden away in the scene at first use."""
    for known in bpy.data.objects:
        if known.library is None and known.get(MARK) == kind:
            return known
    points, edges = _WIRES[kind]()
    mesh = bpy.data.meshes.new(f"Effigy {kind}")
    mesh.from_pydata(points, edges, [])
    made = bpy.data.objects.new(f"Effigy {kind}", mesh)
    made[MARK] = kind
    _hidden_collection(scene).objects.link(made)
    return made


def _hidden_collection(scene: Any) -> Any:
    found = next((c for c in bpy.data.collections if c.library is None and c.get(MARK)), None)
    if found is None:
        found = bpy.data.collections.new(COLLECTION)
        found[MARK] = "all"
        found.hide_viewport = found.hide_render = found.hide_select = True
        scene.collection.children.link(found)
        for layer in scene.view_layers:
            layer.layer_collection.children[found.name].exclude = True
    return found


def _closed(points: list[tuple[float, float, float]], start: int = 0) -> list[tuple[int, int]]:
    count = len(points)
    return [(start + i, start + (i + 1) % count) for i in range(count)]


def _circle(radius: float = 1.0, y: float = 0.0) -> list[tuple[float, float, float]]:
    """Around the bone's own axis, y."""
    turns = (2 * math.pi * i / _RING for i in range(_RING))
    return [(radius * math.cos(t), y, radius * math.sin(t)) for t in turns]


def _ring() -> Wire:
    points = _circle()
    return points, _closed(points)


def _disc() -> Wire:
    """Two circles and a cross, as a target to look at."""
    outer, inner = _circle(), _circle(0.35)
    points = [*outer, *inner]
    return points, _closed(outer) + _closed(inner, len(outer))


def _box() -> Wire:
    """A flat box with cut corners, for what carries a whole part of the body."""
    plate = [(1.0, 0.7), (0.7, 1.0), (-0.7, 1.0), (-1.0, 0.7), (-1.0, -0.7), (-0.7, -1.0), (0.7, -1.0), (1.0, -0.7)]
    low, high = [(x, -0.25, z) for x, z in plate], [(x, 0.25, z) for x, z in plate]
    uprights = [(i, i + len(low)) for i in (0, 3, 4, 7)]
    return [*low, *high], _closed(low) + _closed(high, len(low)) + uprights


def _paddle() -> Wire:
    """A half circle before the chin with a handle."""
    arc = [(math.cos(math.pi * i / 12), 0.6 * math.sin(math.pi * i / 12), 0.0) for i in range(13)]
    return arc, _closed(arc)


def _cube() -> Wire:
    corners = [(x, y, z) for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)]
    near = [
        (a, b) for a in range(8) for b in range(a + 1, 8) if sum(p != q for p, q in zip(corners[a], corners[b])) == 1
    ]
    return corners, near


def _sphere() -> Wire:
    flat = _circle()
    points, edges = list(flat), _closed(flat)
    for turn in (Euler((math.pi / 2, 0, 0)), Euler((0, 0, math.pi / 2))):
        matrix = turn.to_matrix()
        more = [tuple(matrix @ _vector(point)) for point in flat]
        edges += _closed(more, len(points))
        points += more
    return points, edges


def _vector(point: tuple[float, float, float]) -> Any:
    from mathutils import Vector

    return Vector(point)


_WIRES = {"ring": _ring, "disc": _disc, "box": _box, "paddle": _paddle, "cube": _cube, "sphere": _sphere}
ALL_COLLECTIONS = (*REGIONS, CONTROLS, MECHANISM)
