"""Cameras around an avatar: orbits, turntables, fitting, and paths to and from files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Vector

from .._shared import camera_files, errors, rotations
from ..logic.camera_maths import OPENCV_FROM_BLENDER
from ..logic.joint_regions import FACE, plain, region_of
from .camera_read import read_camera, read_size
from .curves import CurveWriter, curves_of
from .rig_info import proxy_of, rig_of

Step = tuple[int, int]
MARGIN = 1.08
PARTS = (
    ("WHOLE", "Whole", "All of the avatar as it is posed now"),
    ("UPPER", "Upper Body", "Head, chest and shoulders"),
    ("HEAD", "Head", "The head alone"),
)
UPPER = ("spine2", "spine3", "neck", "collar", "shoulder", "head")


def avatar_points(context: Any, armature_object: Any, part: str = "WHOLE") -> np.ndarray:
    """[N, 3] m in the world: the posed proxy's vertices of a part, or the bones' ends where the proxy was deleted."""
    rig = rig_of(armature_object)
    joints = {name for name in rig.joint_names if _belongs(name, part)} or set(rig.joint_names)
    depsgraph = context.evaluated_depsgraph_get()
    proxy = proxy_of(armature_object)
    if proxy is None:
        evaluated = armature_object.evaluated_get(depsgraph)
        bones = [evaluated.pose.bones[name] for name in rig.joint_names if name in joints]
        local = np.array([point for bone in bones for point in (bone.head, bone.tail)])
        return _in_world(local, evaluated.matrix_world)
    evaluated = proxy.evaluated_get(depsgraph)
    mesh = evaluated.to_mesh()
    points = np.empty((len(mesh.vertices), 3), np.float32)
    mesh.vertices.foreach_get("co", points.reshape(-1))
    wanted = {group.index for group in proxy.vertex_groups if group.name in joints}
    if part != "WHOLE":
        kept = [v.index for v in mesh.vertices if any(g.group in wanted and g.weight > 0.5 for g in v.groups)]
        points = points[kept] if kept else points
    evaluated.to_mesh_clear()
    return _in_world(points, evaluated.matrix_world)


def fit_camera(context: Any, armature_object: Any, part: str = "WHOLE") -> Any:
    """Move the scene's camera (a new one before the avatar where there is none) so that a part fills the picture.

    It keeps looking the way it does. Returns the camera.
    """
    camera = context.scene.camera
    if camera is None:
        camera = _new_camera(context, armature_object, "camera", 85.0)
        camera.matrix_world = _before(armature_object)
        context.scene.camera = camera
    points = avatar_points(context, armature_object, part)
    middle = (points.min(0) + points.max(0)) / 2
    wider = (points - middle) * MARGIN + middle
    context.view_layer.update()
    place, scale = camera.camera_fit_coords(context.evaluated_depsgraph_get(), wider.reshape(-1).tolist())
    world = camera.matrix_world.copy()
    world.translation = place
    camera.matrix_world = world
    if camera.data.type == "ORTHO":
        camera.data.ortho_scale = scale
    return camera


def add_orbit(context: Any, armature_object: Any, start: int, frames: int, *, part: str, turns: float = 1.0) -> Any:
    """A camera that goes round the avatar on a circle, which can be edited as any curve; the camera.

    It always looks at the middle. Whole turns repeat without a seam: the last frame is one step before the first.
    """
    points = avatar_points(context, armature_object, part)
    middle = Vector(((points.min(0) + points.max(0)) / 2).tolist())
    lens = 85.0 if part == "HEAD" else 50.0
    camera = _new_camera(context, armature_object, "orbit camera", lens)
    radius = _distance(context.scene, camera, points)
    circle = bpy.data.curves.new(f"{armature_object.name} orbit", "CURVE")
    circle.dimensions, circle.use_path, circle.path_duration = "3D", True, frames
    spline = circle.splines.new("BEZIER")
    spline.bezier_points.add(3)
    spline.use_cyclic_u = True
    handle = 4 / 3 * math.tan(math.pi / 8) * radius  # of four cubic pieces that are a circle to 0.03 %
    for point, turn in zip(spline.bezier_points, range(4), strict=True):
        angle = turn * math.pi / 2
        out, along = Vector((math.sin(angle), -math.cos(angle), 0)), Vector((math.cos(angle), math.sin(angle), 0))
        point.co = out * radius
        point.handle_left_type = point.handle_right_type = "FREE"
        point.handle_left, point.handle_right = point.co - along * handle, point.co + along * handle
    path = bpy.data.objects.new(circle.name, circle)
    path.location, path.rotation_euler.z = middle, armature_object.matrix_world.to_euler().z
    target = bpy.data.objects.new(f"{armature_object.name} look-at", None)
    target.location, target.empty_display_size = middle, 0.05
    for item in (path, target):
        context.collection.objects.link(item)
    follow = camera.constraints.new("FOLLOW_PATH")
    follow.target, follow.use_fixed_location = path, True
    track = camera.constraints.new("TRACK_TO")
    track.target, track.track_axis, track.up_axis = target, "TRACK_NEGATIVE_Z", "UP_Y"
    context.view_layer.update()
    began = camera.matrix_world.translation - middle  # which point a closed path begins at is Blender's own affair
    facing = armature_object.matrix_world.to_euler().z - math.pi / 2
    path.rotation_euler.z += facing - math.atan2(began.y, began.x)
    once = min(turns, 1.0)  # further turns are repeats of the first
    for frame, factor in ((start, 0.0), (start + frames * once / turns, once)):
        follow.offset_factor = factor
        follow.keyframe_insert("offset_factor", frame=frame)
    _straight(camera, repeat=turns >= 1.0)
    context.scene.camera = camera
    return camera


def add_turntable(context: Any, armature_object: Any, start: int, frames: int, *, part: str, turns: float = 1.0) -> Any:
    """A still camera before an avatar that turns about itself; the camera.

    The turn is keyed on the object's delta rotation, so its own place and keys stay as they are.
    """
    camera = _new_camera(context, armature_object, "turntable camera", 85.0 if part == "HEAD" else 50.0)
    context.scene.camera = camera
    camera.matrix_world = _before(armature_object)
    fit_camera(context, armature_object, part)
    for frame, angle in ((start, 0.0), (start + frames, turns * 2 * math.pi)):
        armature_object.delta_rotation_euler.z = angle
        armature_object.keyframe_insert("delta_rotation_euler", index=2, frame=frame)
    armature_object.delta_rotation_euler.z = 0.0
    _straight(armature_object, "delta_rotation_euler", repeat=True)
    return camera


def write_path(context: Any, frames: range, result: list[str]) -> Iterator[Step]:
    """Read the scene's camera on every frame and put the file's text into `result`; the current frame comes back."""
    scene = context.scene
    if scene.camera is None:
        raise errors.EffigyError("The scene has no camera", do="Add one and make it the active camera")
    before, cameras = scene.frame_current, []
    try:
        for index, frame in enumerate(frames):
            scene.frame_set(frame)
            evaluated = scene.camera.evaluated_get(context.evaluated_depsgraph_get())
            cameras.append(read_camera(evaluated, read_size(scene)))
            yield index + 1, len(frames)
    finally:
        scene.frame_set(before)
    result.append(camera_files.path_json(cameras, list(frames), scene.render.fps / scene.render.fps_base))


def key_path(context: Any, path: camera_files.CameraPath, start: int, name: str, *, set_size: bool = True) -> Any:
    """A new camera, made the scene's, keyed along a path that was read; one frame of the path a frame of the scene.

    start: frame of the first camera. Gaps in the file's frame numbers stay gaps. set_size: also take over the size of
    the picture.
    """
    scene, first = context.scene, path.cameras[0]
    lens = bpy.data.cameras.new(name)
    lens.sensor_fit, lens.sensor_width, lens.clip_start = "HORIZONTAL", 36.0, 0.01
    camera = bpy.data.objects.new(name, lens)
    camera.rotation_mode = "QUATERNION"
    context.collection.objects.link(camera)
    scene.camera = camera
    worlds = np.array([c.world_from_camera @ OPENCV_FROM_BLENDER for c in path.cameras])
    turns = rotations.continuous(rotations.quaternions_from_matrices(worlds[:, :3, :3]))
    width = np.array([c.width_px for c in path.cameras], np.float64)
    height = np.array([c.height_px for c in path.cameras], np.float64)
    K = np.array([c.K for c in path.cameras])
    lenses = {
        "lens": K[:, 0, 0] * 36.0 / width,
        "shift_x": (width / 2 - K[:, 0, 2]) / width,
        "shift_y": (K[:, 1, 2] - height / 2) / width,
    }
    if set_size:
        render = scene.render
        render.resolution_x, render.resolution_y, render.resolution_percentage = first.width_px, first.height_px, 100
        render.pixel_aspect_x, render.pixel_aspect_y = 1.0, max(float(K[0, 0, 0] / K[0, 1, 1]), 1e-3)
        if render.pixel_aspect_y < 1.0:
            render.pixel_aspect_x, render.pixel_aspect_y = 1.0 / render.pixel_aspect_y, 1.0
        if abs(K[0, 0, 0] / K[0, 1, 1] - 1) < 1e-3:
            render.pixel_aspect_x = render.pixel_aspect_y = 1.0
    camera.location, camera.rotation_quaternion = worlds[0, :3, 3], turns[0]
    for key, values in lenses.items():
        setattr(lens, key, float(values[0]))
    if len(path.cameras) > 1:
        _key_all(camera, lens, path.frames, start, worlds[:, :3, 3], turns, lenses)
    return camera


def _key_all(
    camera: Any,
    lens: Any,
    frames: tuple[int, ...],
    start: int,
    places: np.ndarray,
    turns: np.ndarray,
    lenses: dict[str, np.ndarray],
) -> None:
    at = np.array(frames) - frames[0]
    dense = bool((np.diff(at) == 1).all())
    body, optics = CurveWriter(camera, camera.name), CurveWriter(lens, lens.name)

    def put(writer: CurveWriter, path: str, index: int, values: np.ndarray) -> None:
        if dense:
            writer.put(path, index, "", start, values)
        else:  # the curve runs straight through a gap
            whole = np.arange(at[-1] + 1)
            order = np.argsort(at, kind="stable")
            writer.put(path, index, "", start, np.interp(whole, at[order], values[order]))

    for axis in range(3):
        put(body, "location", axis, places[:, axis])
    for axis in range(4):
        put(body, "rotation_quaternion", axis, turns[:, axis])
    for key, values in lenses.items():
        put(optics, key, 0, values)
    body.finish()
    optics.finish()


def _belongs(joint: str, part: str) -> bool:
    if part == "HEAD":
        return region_of(joint) == FACE or plain(joint) == "head"
    return part == "WHOLE" or region_of(joint) == FACE or plain(joint) in UPPER


def _in_world(points: np.ndarray, matrix: Any) -> np.ndarray:
    world = np.array(matrix)
    return points.astype(np.float64) @ world[:3, :3].T + world[:3, 3]


def _new_camera(context: Any, armature_object: Any, what: str, lens_mm: float) -> Any:
    lens = bpy.data.cameras.new(f"{armature_object.name} {what}")
    lens.lens, lens.sensor_width, lens.clip_start = lens_mm, 36.0, 0.05
    camera = bpy.data.objects.new(lens.name, lens)
    context.collection.objects.link(camera)
    return camera


def _before(armature_object: Any) -> Matrix:
    """Axes of a camera that looks at the avatar's front, level."""
    turn = armature_object.matrix_world.to_euler().z
    return Matrix.Rotation(turn, 4, "Z") @ Matrix.Rotation(math.pi / 2, 4, "X")


def _distance(scene: Any, camera: Any, points: np.ndarray) -> float:
    """How far from the middle the camera must stay to have everything in view from any side."""
    middle = (points.min(0) + points.max(0)) / 2
    around = float(np.linalg.norm((points - middle)[:, :2], axis=1).max())
    above = float(np.abs(points[:, 2] - middle[2]).max())
    size = read_size(scene)
    K = read_camera(camera, size).K
    wide = math.atan(size.width_px / 2 / K[0, 0])
    high = math.atan(size.height_px / 2 / K[1, 1])
    return MARGIN * max(around / math.sin(wide), above / math.tan(high) + around)


def _straight(owner: Any, path: str = "", *, repeat: bool) -> None:
    """Keys joined by straight lines, going on for ever where it repeats."""
    for curve in curves_of(owner):
        if path and curve.data_path != path:
            continue
        for point in curve.keyframe_points:
            point.interpolation = "LINEAR"
        if repeat and not any(m.type == "CYCLES" for m in curve.modifiers):
            cycles = curve.modifiers.new("CYCLES")
            cycles.mode_before = cycles.mode_after = "REPEAT_OFFSET" if path else "REPEAT"
