"""Avatars as Blender's own Gaussian splats (where this Blender has them): a point cloud that follows the armature.

An alternative to the backend's pictures: Cycles and EEVEE draw the Gaussians themselves, with depth of field, holdout
and occlusion by meshes. While Blender renders, every frame waits for its Gaussians; in the viewport they are asked for
as the pose changes and put in place when they arrive, so the window never waits. Files are saved without them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np
from bpy.app.handlers import persistent

from .._shared import errors, messages
from ..logic import splat_attributes
from ..logic.faults import GUARDS
from ..logic.light_maps import LightMaps
from . import pose_read, scene_light, world_read
from .backend import BACKEND
from .connection import CONNECTION
from .preferences import settings
from .rig_info import avatar_of

POLL_S = 0.03
TIMEOUT_S = 30.0
MAPS = world_read.MapCache()


def has_kind() -> bool:
    """Whether this Blender's point clouds can be Gaussian splats, asked by feature."""
    kinds = bpy.types.PointCloud.bl_rna.properties.get("type")
    return (
        kinds is not None
        and splat_attributes.KIND in kinds.enum_items
        and "resize" in bpy.types.PointCloud.bl_rna.functions
    )


def why_not() -> str:
    """Why this Blender cannot draw Gaussians itself, in one sentence; empty where it can: three points are tried."""
    if not has_kind():
        return "This Blender has no Gaussian splats of its own (Blender 5.3 brings them); the backend draws the avatars"
    trial = bpy.data.pointclouds.new("Effigy trial")
    try:
        splat_attributes.fill(trial, splat_attributes.three_points())
        if len(trial.points) != 3 or trial.type != splat_attributes.KIND:
            return "This Blender's Gaussian splats did not take three points; please report this Blender's version"
    except (RuntimeError, TypeError, AttributeError, KeyError) as error:
        return f"This Blender's Gaussian splats differ from those known ({error}); please report this"
    finally:
        bpy.data.pointclouds.remove(trial)
    return ""


def add(context: Any, avatar: Any) -> Any:
    """The new point cloud object of an avatar, a child of its armature. Raises EffigyError."""
    reason = why_not()
    if reason:
        raise errors.EffigyError(reason)
    cloud = bpy.data.objects.new(f"{avatar.name} splats", bpy.data.pointclouds.new(f"{avatar.name} splats"))
    cloud.parent = avatar
    cloud.effigy.splats_of = avatar
    context.collection.objects.link(cloud)
    return cloud


@dataclass
class _Shown:
    """What a point cloud shows and waits for."""

    key: str = ""
    ticket: Any = None
    asked_key: str = ""


@dataclass
class Follower:
    """Keeps all point clouds of a file up to date; one per registered add-on."""

    shown: dict[str, _Shown] = field(default_factory=dict)
    sent_light: str = ""

    def clouds(self, scene: Any) -> list[Any]:
        """Objects of a scene that hold an avatar's Gaussians; asked at every change, so most files end at once."""
        if not bpy.data.pointclouds or not has_kind():
            return []
        return [item for item in scene.objects if item.effigy.splats_of is not None and item.type == "POINTCLOUD"]

    def render(self, scene: Any, depsgraph: Any) -> None:
        """Bring all clouds to the frame that renders, waiting for the backend. Raises EffigyError."""
        for item in self.clouds(scene):
            request, light, key = self._request(item, depsgraph)
            if self.shown.setdefault(item.name, _Shown()).key != key:
                cloud = BACKEND.cloud(settings(scene), request, LightMaps(light), lambda: False)
                splat_attributes.fill(item.data, cloud)
                self.shown[item.name].key = key

    def ask(self, scene: Any, depsgraph: Any) -> None:
        """Ask for what changed, without waiting; one question for a cloud at a time."""
        for item in self.clouds(scene):
            state = self.shown.setdefault(item.name, _Shown())
            if state.ticket is not None:
                continue
            request, light, key = self._request(item, depsgraph)
            if state.key == key:
                continue
            if light is not None and request.environment != self.sent_light:
                CONNECTION.ask(messages.PutEnvironment(request.environment, light), TIMEOUT_S)
                self.sent_light = request.environment
            state.ticket, state.asked_key = CONNECTION.ask(request, TIMEOUT_S), key
            if not bpy.app.timers.is_registered(_poll):
                bpy.app.timers.register(_poll, first_interval=POLL_S)

    def take(self, scene: Any) -> bool:
        """Put answers that arrived in place; whether any is still awaited."""
        for item in self.clouds(scene):
            state = self.shown.get(item.name)
            if state is None or state.ticket is None or not state.ticket.done:
                continue
            ticket, state.ticket = state.ticket, None
            try:
                answer = ticket.result()
            except errors.EffigyError as error:
                state.key, self.sent_light = state.asked_key, ""  # asked again when something changes
                GUARDS.log.add("native splats", error)
                continue
            if isinstance(answer, messages.GaussianCloud):
                splat_attributes.fill(item.data, answer)
                state.key = state.asked_key
        return any(state.ticket is not None for state in self.shown.values())

    def empty(self) -> None:
        """Take all Gaussians out of the file's data: a saved file holds none."""
        for item in bpy.data.objects if bpy.data.pointclouds and has_kind() else ():
            if item.effigy.splats_of is not None and item.type == "POINTCLOUD":
                item.data.resize(0)
        self.shown.clear()

    def _request(self, item: Any, depsgraph: Any) -> tuple[messages.PoseGaussians, Any, str]:
        """What to ask for, its light map, and a key that changes with what would be seen."""
        scene, avatar = depsgraph.scene, item.effigy.splats_of
        if avatar_of(avatar) is not avatar:
            raise errors.EffigyError(f"{item.name!r} shows an armature that is no avatar", do="Delete the point cloud")
        evaluated = avatar.evaluated_get(depsgraph)
        state = pose_read.read_avatar(evaluated, depsgraph, np.array(evaluated.matrix_world))
        (instance,) = pose_read.stack([[state]])
        world = world_read.read_world(scene.world, MAPS)
        lights = scene_light.chosen_lights(scene, [state.light], depsgraph, world, MAPS).alone()
        sent = lights.picture
        digest, radiance, light = "", None, {}
        if sent is not None:
            radiance, light = np.ascontiguousarray(sent.radiance, np.float16), lights.fields()
            digest = hashlib.sha256(radiance.tobytes()).hexdigest()
        request = messages.PoseGaussians(f"splats/{item.name}"[:80], instance, digest, **light)
        seen = hashlib.sha256()
        for part in (instance.rotations, instance.translations, instance.expressions):
            seen.update(part.tobytes())
        # Where it stands matters only for how light falls on it.
        turned = instance.world_from_avatar if sent is not None else np.zeros(0)
        beside = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in light.items()}
        seen.update(repr((instance.avatar_id, instance.digest, digest, beside, np.round(turned, 6).tolist())).encode())
        return request, radiance, seen.hexdigest()


FOLLOWER = Follower()


def _poll() -> float | None:
    return POLL_S if GUARDS["native splats"].run(FOLLOWER.take, bpy.context.scene) else None


@persistent
def _changed(scene: Any, depsgraph: Any = None) -> None:
    if depsgraph is None or not FOLLOWER.clouds(scene):
        return
    if bpy.app.background or bpy.app.is_job_running("RENDER"):
        try:
            FOLLOWER.render(scene, depsgraph)
        except errors.EffigyError as error:
            from .frame_files import WRITER

            WRITER.failure = str(error)
            GUARDS.log.add("native splats", error)
    else:
        GUARDS["native splats"].run(FOLLOWER.ask, scene, depsgraph)


@persistent
def _saving(*_: Any) -> None:
    FOLLOWER.empty()


@persistent
def _saved(*_: Any) -> None:
    if not bpy.app.background:
        GUARDS["native splats"].run(FOLLOWER.ask, bpy.context.scene, bpy.context.evaluated_depsgraph_get())


HANDLERS = {
    "frame_change_post": _changed,
    "depsgraph_update_post": _changed,
    "save_pre": _saving,
    "save_post": _saved,
}


def register() -> None:
    """Follow frames, edits and saving."""
    for name, handler in HANDLERS.items():
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    """Let go of them."""
    for name, handler in HANDLERS.items():
        getattr(bpy.app.handlers, name).remove(handler)
    if bpy.app.timers.is_registered(_poll):
        bpy.app.timers.unregister(_poll)
    FOLLOWER.shown.clear()
    MAPS.pixels.clear()
    MAPS.sent.clear()
