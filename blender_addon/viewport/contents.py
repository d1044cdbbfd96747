"""What a scene shows of avatars and light, read again only after Blender said that something changed."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from .._shared import errors, messages
from ..logic import view_maths
from ..logic.rig_layout import RigInfo
from ..services import pose_read, scene_light
from ..services.rig_info import rig_of

Float64 = NDArray[np.float64]
RELEVANT = ("ARMATURE", "EMPTY", "LIGHT")
RELEVANT_DATA = ("Armature", "Key", "Collection", "Scene", "World", "Image")


@dataclass(frozen=True, eq=False)
class Actor:
    """One avatar of a scene. shown: name of the object (in the view layer) whose visibility counts; centre and reach:
    the ball it is inside, world axes, m; stamp: equal for equal pictures."""

    state: pose_read.AvatarState
    shown: str
    centre_m: Float64
    reach_m: float
    stamp: int


@dataclass(frozen=True, eq=False)
class Content:
    """All avatars of a view layer and the light on them, own ones in their order. problem: why there are none, in one
    sentence."""

    actors: tuple[Actor, ...] = ()
    lights: scene_light.Lights = field(default_factory=scene_light.Lights)
    light_stamp: Any = None
    problem: str = ""


class Contents:
    """The newest Content of each (scene, view layer). Handlers mark, drawing reads."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Content] = {}
        self._changed: set[tuple[str, str]] = set()
        self.reads = 0

    def of(self, scene: Any, view_layer: Any, choose_light: Any) -> Content:
        """The present content. choose_light(depsgraph, own lights of the avatars) -> scene_light.Lights."""
        key = (scene.name_full, view_layer.name)
        if key not in self._kept or key in self._changed:
            self._changed.discard(key)
            self._kept[key] = self._read(view_layer, choose_light)
            self.reads += 1
        return self._kept[key]

    def changed(self, depsgraph: Any) -> None:
        """Note an update of a dependency graph, where it can matter."""
        updates = depsgraph.updates
        if len(updates) and not any(_matters(update.id) for update in updates):
            return
        self._changed.add((depsgraph.scene.name_full, depsgraph.view_layer.name))

    def frame_changed(self, depsgraph: Any) -> None:
        """Note that the frame changed."""
        self._changed.add((depsgraph.scene.name_full, depsgraph.view_layer.name))

    def clear(self) -> None:
        """Forget everything: another file, or undo."""
        self._kept.clear()
        self._changed.clear()

    def _read(self, view_layer: Any, choose_light: Any) -> Content:
        depsgraph = view_layer.depsgraph
        if depsgraph is None:
            return Content()
        try:
            states = pose_read.read_avatars(depsgraph)
            if not states:
                return Content()
            lights = choose_light(depsgraph, [state.light for state in states])
            stamp, own = lights.stamps()
            actors = tuple(_actor(state, view_layer, lit) for state, lit in zip(states, own, strict=True))
        except errors.EffigyError as error:
            return Content(problem=str(error))
        return Content(actors, lights, stamp)


def _matters(changed: Any) -> bool:
    """Whether a changed datablock can be seen in an avatar's picture."""
    if isinstance(changed, bpy.types.Object):
        return changed.type in RELEVANT or changed.instance_type != "NONE"
    return type(changed).__name__ in RELEVANT_DATA or isinstance(changed, (bpy.types.NodeTree, bpy.types.Light))


def _actor(state: pose_read.AvatarState, view_layer: Any, lit: Any) -> Actor:
    name = state.key[1] if len(state.key) > 1 else state.key[0]
    rig_object = _object(state.key[0], view_layer)
    rig = rig_of(rig_object) if rig_object is not None else None
    matrix = np.asarray(state.world_from_avatar, np.float64)
    scale = float(np.cbrt(abs(np.linalg.det(matrix[:3, :3]))))
    root, reach = (np.zeros(3), 2.0) if rig is None else _ball(rig)
    centre = matrix[:3, :3] @ (root + state.translation) + matrix[:3, 3]
    parts = (state.world_from_avatar, state.rotations, state.translation, state.expression)
    stamp = hash((state.key, state.avatar_id, state.digest, lit, *(part.tobytes() for part in parts)))
    return Actor(state, name, centre, reach * scale, stamp)


@functools.lru_cache(maxsize=64)
def _ball(rig: RigInfo) -> tuple[Float64, float]:
    """Rest place [3] of a rig's root, m, and how far from it any part can be."""
    root = rig.rest_joints[int(np.flatnonzero(rig.parents < 0)[0])]
    return root.astype(np.float64), view_maths.reach_m(rig.parents, rig.rest_joints)


def _object(name_full: str, view_layer: Any) -> Any:
    """The original object; an instanced collection's lies outside the view layer."""
    name = name_full.partition(" [")[0]
    return view_layer.objects.get(name) or bpy.data.objects.get(name)


def is_seen(actor: Actor, view_layer: Any, space: Any) -> bool:
    """Whether this 3D view shows the avatar: local view, local collections, but not the hiding of all armatures."""
    shown = view_layer.objects.get(actor.shown.partition(" [")[0])
    if shown is None or shown.visible_in_viewport_get(space):
        return True
    if space.show_object_viewport_armature:
        return False
    # "Armatures" are switched off in this view to see the avatar without its bones.
    return space.local_view is None or shown.local_view_get(space)


def instance(actor: Actor) -> messages.AvatarInstance:
    """The avatar as a RenderRequest names it."""
    return pose_read.stack([[actor.state]])[0]
