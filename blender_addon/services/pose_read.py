"""Read every avatar's evaluated pose from a dependency graph: after animation, constraints, IK, drivers, instancing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._shared import messages
from ..logic import rig_layout, visemes
from . import scene_light
from .rig_info import RigInfo, proxy_of, rig_of

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class MatteNames:
    """What Cryptomatte calls an avatar: the armature, the avatar of the library, and its topmost parent."""

    object: str = ""
    material: str = ""
    asset: str = ""


@dataclass(frozen=True, eq=False)
class AvatarState:
    """One avatar at one instant. key tells it apart from the others of the scene and is the same at every instant."""

    key: tuple[Any, ...]
    avatar_id: str
    digest: str
    world_from_avatar: Float64
    rotations: Float32
    translation: Float32
    expression: Float32
    holdout: bool = False
    names: MatteNames = MatteNames()
    light: scene_light.OwnLight | None = None


def read_avatars(depsgraph: Any, view_layer: Any = None) -> list[AvatarState]:
    """All avatars a depsgraph shows that the backend draws, also those inside instanced collections, in a fixed order.

    view_layer: whose holdout and indirect-only collections count; an avatar that is only seen indirectly is left out.
    Raises BadAvatar for an armature that is mirrored, unevenly scaled or whose rest pose was edited.
    """
    found = []
    for instance in depsgraph.object_instances:
        evaluated = instance.object
        if evaluated.type != "ARMATURE" or not evaluated.data.effigy.avatar_id or evaluated.data.effigy.mesh_only:
            continue
        # An instance is only valid inside this loop: everything is copied out of it.
        key: tuple[Any, ...] = (evaluated.original.name_full,)
        shown = evaluated.original
        if instance.is_instance:
            shown = instance.parent.original
            key += (shown.name_full, *instance.persistent_id)
        if view_layer is not None and shown.indirect_only_get(view_layer=view_layer):
            continue
        state = read_avatar(evaluated, depsgraph, np.array(instance.matrix_world), key)
        holdout = view_layer is not None and shown.holdout_get(view_layer=view_layer)
        found.append(replace(state, holdout=bool(holdout), names=_matte_names(evaluated, shown)))
    return sorted(found, key=lambda state: state.key)


def _matte_names(evaluated: Any, shown: Any) -> MatteNames:
    top = shown
    while top.parent is not None:
        top = top.parent
    own = evaluated.data.effigy
    return MatteNames(evaluated.original.name, own.avatar_name or own.avatar_id, top.name)


def read_avatar(evaluated: Any, depsgraph: Any, world_from_avatar: Float64, key: tuple[Any, ...] = ()) -> AvatarState:
    """The state of one evaluated armature object that is an avatar."""
    rig = rig_of(evaluated)
    name = evaluated.original.name
    posed, rest = _bone_matrices(evaluated, rig, name)
    rig_layout.check_rest(rest, rig.bone_heads(), rig.joint_names, name)
    rotations, translation = rig_layout.pose_from_bones(posed, rest, rig.parents)
    return AvatarState(
        key,
        evaluated.data.effigy.avatar_id,
        evaluated.data.effigy.digest,
        rig_layout.rigid_with_uniform_scale(world_from_avatar, name),
        rig.from_bones(rotations).astype(np.float32),
        translation.astype(np.float32),
        _expressions(evaluated, rig, depsgraph),
        light=scene_light.own_light(evaluated),
    )


def stack(samples: list[list[AvatarState]]) -> tuple[messages.AvatarInstance, ...]:
    """One AvatarInstance per avatar from its states at S instants; avatars not seen at every instant are left out."""
    by_key = [{state.key: state for state in states} for states in samples]
    common = _seen_at_each(samples)
    instances = []
    for key in common:
        states = [states[key] for states in by_key]
        instances.append(
            messages.AvatarInstance(
                avatar_id=states[0].avatar_id,
                digest=states[0].digest,
                world_from_avatar=np.stack([state.world_from_avatar for state in states]),
                rotations=np.stack([state.rotations for state in states]),
                translations=np.stack([state.translation for state in states]),
                expressions=np.stack([state.expression for state in states]),
                holdout=states[0].holdout,
            )
        )
    return tuple(instances)


def matte_names(samples: list[list[AvatarState]]) -> tuple[MatteNames, ...]:
    """What Cryptomatte calls the avatars of `stack`, in the same order."""
    common = set(_seen_at_each(samples))
    return tuple(state.names for state in samples[0] if state.key in common) if samples else ()


def own_lights(samples: list[list[AvatarState]]) -> tuple[scene_light.OwnLight | None, ...]:
    """The choices of light of the avatars of `stack`, in the same order, at the middle instant."""
    common = set(_seen_at_each(samples))
    return tuple(state.light for state in samples[len(samples) // 2] if state.key in common) if samples else ()


def _seen_at_each(samples: list[list[AvatarState]]) -> list[tuple[Any, ...]]:
    others = [{state.key for state in states} for states in samples[1:]]
    first = [state.key for state in samples[0]] if samples else []
    return [key for key in first if all(key in keys for keys in others)]


def _bone_matrices(evaluated: Any, rig: RigInfo, name: str) -> tuple[Float64, Float64]:
    """Posed and rest matrices [J, 4, 4] of the rig's joints in armature space, without the user's extra bones."""
    bones = evaluated.pose.bones
    order = _places(bones, rig.joint_names)
    if min(order) < 0:
        rig_layout.missing_bone(rig.joint_names[order.index(-1)], name)
    matrices = []
    for collection, attribute in ((bones, "matrix"), (evaluated.data.bones, "matrix_local")):
        flat = np.empty(len(collection) * 16, np.float32)
        collection.foreach_get(attribute, flat)
        # Blender hands out matrices column by column.
        matrices.append(flat.reshape(-1, 4, 4).transpose(0, 2, 1))
    rest_order = _places(evaluated.data.bones, rig.joint_names)
    return matrices[0][order].astype(np.float64), matrices[1][rest_order].astype(np.float64)


def _places(collection: Any, names: Sequence[str]) -> list[int]:
    """Where each name stands in one of Blender's collections, -1 where it is not; find() would search each time."""
    there = {name: place for place, name in enumerate(collection.keys())}
    return [there.get(name, -1) for name in names]


def _expressions(evaluated: Any, rig: RigInfo, depsgraph: Any) -> Float32:
    """Values [E] of the proxy's shape keys, those of the visemes spread over the expressions they are made of.

    A muted or deleted key is 0, and so are all where the proxy is gone.
    """
    values = np.zeros(len(rig.expression_names), np.float32)
    proxy = proxy_of(evaluated)
    if proxy is None or proxy.data.shape_keys is None:
        return values
    blocks = proxy.data.shape_keys.evaluated_get(depsgraph).key_blocks
    raw, muted = np.empty(len(blocks), np.float32), np.empty(len(blocks), np.bool_)
    blocks.foreach_get("value", raw)
    blocks.foreach_get("mute", muted)
    raw[muted] = 0.0
    places = np.array(_places(blocks, rig.expression_names), np.intp)
    values[places >= 0] = raw[places[places >= 0]]
    if visemes.speaks(rig.expression_names):
        places = np.array(_places(blocks, visemes.VISEMES))
        spoken = np.where(places >= 0, raw[places], 0.0).astype(np.float32)
        if spoken.any():
            values += spoken @ visemes.combinations(rig.expression_names)
    return values
