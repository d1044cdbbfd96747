"""Armatures of other rigs as sources of motion: read over a range of frames, imported from files, taken away again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from .._shared import errors
from ..logic import retarget
from ..logic.bvh import bvh_fps
from ..logic.linear_maps import nearest_rotations
from ..logic.motion_source import SourceMotion
from ..logic.retarget_names import CORE, Recognised, recognise
from .rig_info import rig_of

Step = tuple[int, int]
MOST_FRAMES = 200_000
_LISTS = (
    *("objects", "armatures", "meshes", "actions", "materials", "images", "collections", "node_groups", "cameras"),
    *("lights", "textures", "scenes", "texts", "curves"),
)


def recognised(armature_object: Any) -> Recognised:
    """Style and bones of a foreign armature. Raises BadCapture where it is no body that is known."""
    found = recognise(bone.name for bone in armature_object.data.bones)
    if not found.complete:
        raise errors.BadCapture(
            f"The bones of {armature_object.name!r} carry no names that are known",
            found=", ".join(bone.name for bone in armature_object.data.bones[:6]),
            expected="names of Mixamo, Rigify, SMPL, CMU's BVH, Poser or Unreal; missing "
            + ", ".join(sorted(set(CORE) - found.bones.keys())[:3]),
        )
    return found


def rest_of(armature_object: Any, found: Recognised) -> retarget.SourceRest:
    """The bones at rest, in the world."""
    world = np.array(armature_object.matrix_world, np.float64)
    bones = [armature_object.data.bones[name] for name in found.bones.values()]
    matrices = world @ np.array([np.array(bone.matrix_local) for bone in bones], np.float64)
    tails = np.array([[*bone.tail_local, 1.0] for bone in bones]) @ world.T
    rows = {joint: row for row, joint in enumerate(found.bones)}
    return retarget.SourceRest(rows, matrices[:, :3, 3], tails[:, :3], nearest_rotations(matrices[:, :3, :3]))


@dataclass
class Sampled:
    """What `sample` found: [T, B, 4, 4] world matrices."""

    posed: np.ndarray | None = None


def sample(scene: Any, armature_object: Any, found: Recognised, frames: range, result: Sampled) -> Iterator[Step]:
    """Read the evaluated bones on every frame: after constraints, IK and drivers. The scene's frame comes back."""
    if not 0 < len(frames) <= MOST_FRAMES:
        raise errors.BadCapture("The range has no frames, or too many", expected=f"1 to {MOST_FRAMES}")
    before, layer = scene.frame_current, scene.view_layers[0]
    posed = np.empty((len(frames), len(found.bones), 4, 4), np.float32)
    names = list(found.bones.values())
    try:
        for row, frame in enumerate(frames):
            scene.frame_set(frame)
            layer.update()
            evaluated = armature_object.evaluated_get(layer.depsgraph)
            bones = evaluated.pose.bones
            flat = np.empty(len(bones) * 16, np.float32)
            bones.foreach_get("matrix", flat)
            order = [bones.find(name) for name in names]
            # Blender hands out matrices column by column.
            local = flat.reshape(-1, 4, 4).transpose(0, 2, 1)[order]
            posed[row] = np.array(evaluated.matrix_world, np.float32) @ local
            yield row + 1, len(frames)
    finally:
        scene.frame_set(before)
    result.posed = posed


def source_of(
    avatar: Any, armature_object: Any, found: Recognised, posed: np.ndarray, fps: float, name: str
) -> SourceMotion:
    """The sampled motion on the avatar's joints."""
    return retarget.retargeted(name, found.style, rest_of(armature_object, found), posed, rig_of(avatar), fps)


def action_range(armature_object: Any, scene: Any) -> range:
    """The frames its action moves it on, or the scene's."""
    data = armature_object.animation_data
    if data is not None and data.action is not None:
        first, last = data.action.frame_range
        if last > first:
            return range(int(np.floor(first)), int(np.ceil(last)) + 1)
    return range(scene.frame_start, scene.frame_end + 1)


@contextlib.contextmanager
def imported_armature(context: Any, path: Path) -> Iterator[tuple[Any, Any, float]]:
    """(armature object, a scene it is alone in, its frames a second) of a .bvh, .fbx, .glb or .gltf.

    Everything the importer made is gone afterwards; selection and active object are as before. Raises BadCapture.
    """
    before = {kind: {item.session_uid for item in getattr(bpy.data, kind)} for kind in _LISTS}
    active, selected = context.view_layer.objects.active, list(context.selected_objects)
    scene, frame_range = context.scene, (context.scene.frame_start, context.scene.frame_end)
    fps = scene.render.fps / scene.render.fps_base
    made: list[Any] = []
    try:
        try:
            rate = _import(path, fps)
        finally:  # what is made from here on, such as the avatar's keys, is to stay
            made += [i for kind in _LISTS for i in getattr(bpy.data, kind) if i.session_uid not in before[kind]]
        objects = [item for item in made if item.id_type == "OBJECT"]
        armatures = sorted((o for o in objects if o.type == "ARMATURE"), key=lambda o: -len(o.data.bones))
        if not armatures:
            raise errors.BadCapture(f"{path.name} has no armature in it", expected="a skeleton with an animation")
        alone = bpy.data.scenes.new("Effigy import")
        made.append(alone)
        alone.render.fps, alone.render.fps_base = scene.render.fps, scene.render.fps_base
        parts, parent = [armatures[0]], armatures[0].parent
        while parent is not None:
            parts.append(parent)
            parent = parent.parent
        for part in parts:
            alone.collection.objects.link(part)
        yield armatures[0], alone, rate
    finally:
        bpy.data.batch_remove(made)
        scene.frame_start, scene.frame_end = frame_range
        for other in context.selected_objects:
            other.select_set(False)
        for item in selected:
            item.select_set(True)
        context.view_layer.objects.active = active


def _import(path: Path, scene_fps: float) -> float:
    """Call Blender's importer; the file's frames a second as they lie on the timeline."""
    if not path.is_file():
        raise errors.BadCapture(f"{path} does not exist")
    ending = path.suffix.lower()
    bvh = bvh_fps(path) if ending == ".bvh" else 0.0
    try:
        if bvh:
            bpy.ops.import_anim.bvh(
                filepath=str(path),
                frame_start=1,
                use_fps_scale=False,
                update_scene_fps=False,
                update_scene_duration=False,
                rotate_mode="QUATERNION",
                axis_forward="-Z",
                axis_up="Y",
            )
            return bvh
        if ending == ".fbx":
            bpy.ops.import_scene.fbx(filepath=str(path))
        else:
            bpy.ops.import_scene.gltf(filepath=str(path))
    except (RuntimeError, AttributeError) as error:
        raise errors.BadCapture(
            f"Blender's importer could not read {path.name}",
            found=_reason(str(error)),
            do=f"Enable the add-on that imports {ending} files, or check the file",
        ) from error
    return scene_fps


def _reason(said: str) -> str:
    """The line of an importer's report that says why; a traceback says it in its last one."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("Location:")]
    return (lines[-1] if "Traceback" in said else lines[0])[:200] if lines else "nothing"
