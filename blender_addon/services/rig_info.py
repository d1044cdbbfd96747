"""What an armature needs to remember of its avatar: a Rig as JSON, so a .blend works without a backend."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._shared import errors, types
from ..logic.rig_layout import RigInfo


def rig_to_json(
    rig: types.Rig,
    rest_pose: NDArray[Any],
    floor_m: float | None = None,
    canonical: NDArray[Any] | None = None,
) -> str:
    """The text stored on the armature. rest_pose: [J, 3] rad, the pose the avatar was captured in.

    canonical: [J, 3] rad, the pose that is the armature's rest pose, where that is not the template's.
    """
    return json.dumps(
        {
            "joints": rig.joint_names,
            "parents": rig.parents.tolist(),
            "rest_joints": np.round(rig.rest_joints.astype(float), 7).tolist(),
            "expressions": rig.expression_names,
            "rest_pose": np.round(np.asarray(rest_pose, dtype=float), 7).tolist(),
            "floor": floor_m,
            "canonical": None if canonical is None else np.round(np.asarray(canonical, dtype=float), 7).tolist(),
        }
    )


@functools.lru_cache(maxsize=64)
def rig_from_json(text: str) -> RigInfo:
    """The stored rig. Raises BadAvatar for a text that a foreign tool damaged."""
    try:
        stored = json.loads(text)
        rig = RigInfo(
            tuple(stored["joints"]),
            np.asarray(stored["parents"], np.int32),
            np.asarray(stored["rest_joints"], np.float32),
            tuple(stored["expressions"]),
            np.asarray(stored["rest_pose"], np.float32),
            None if stored.get("floor") is None else float(stored["floor"]),
            None if stored.get("canonical") is None else np.asarray(stored["canonical"], np.float32),
        )
        _check(rig)
        return rig
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise errors.BadAvatar(
            "The armature's avatar description is damaged", found=str(error), do="Add the avatar to the scene again"
        ) from error


def _check(rig: RigInfo) -> None:
    """Raises ValueError where the parts do not fit each other."""
    joints = len(rig.joint_names)
    if not all(isinstance(name, str) for name in (*rig.joint_names, *rig.expression_names)):
        raise ValueError("names that are no texts")
    if rig.parents.shape != (joints,) or (rig.parents >= np.arange(joints)).any() or (rig.parents < -1).any():
        raise ValueError("parents that are no tree of the joints")
    canonical = np.zeros((joints, 3)) if rig.canonical is None else rig.canonical
    for name, array in (("rest_joints", rig.rest_joints), ("rest_pose", rig.rest_pose), ("canonical", canonical)):
        if array.shape != (joints, 3) or not np.isfinite(array).all():
            raise ValueError(f"{name} {list(array.shape)} of {joints} joints")
    if rig.floor_m is not None and not np.isfinite(rig.floor_m):
        raise ValueError("a floor that is not finite")


def rig_of(armature_object: Any) -> RigInfo | None:
    """The rig of an armature object (or its evaluated copy), None where it is no avatar."""
    if armature_object is None or armature_object.type != "ARMATURE" or not armature_object.data.effigy.avatar_id:
        return None
    return rig_from_json(armature_object.data.effigy.rig)


def proxy_of(armature_object: Any) -> Any | None:
    """The proxy mesh object of an avatar's armature, None where it was deleted."""
    original = armature_object.original
    return next((child for child in original.children if child.type == "MESH" and child.data.effigy_proxy), None)


def is_drawn(any_object: Any) -> bool:
    """Whether the backend draws an avatar where this object is: an armature that no ordinary mesh stands for."""
    return rig_of(any_object) is not None and not any_object.data.effigy.mesh_only


def avatar_of(any_object: Any) -> Any | None:
    """The avatar's armature object that an object is or hangs on (its proxy, a hat parented to a bone), else None."""
    while any_object is not None:
        if any_object.type == "ARMATURE" and any_object.data.effigy.avatar_id:
            return any_object
        any_object = any_object.parent
    return None
