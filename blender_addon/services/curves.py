"""Whole animation curves written at once: thousands of keys in the time Blender's own operators take for a few.

Blender 4.4 gave actions slots and layers and Blender 5 took the flat list of curves away; the difference lives here.
A writer works on a copy of the owner's action, so giving up leaves what was there.
"""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

LINEAR = 1
"""Blender's number of the interpolation; keys on every frame need no handles."""


class CurveWriter:
    """Collects curves for one data-block; `finish` makes them its action, `discard` forgets them."""

    def __init__(self, owner: Any, name: str) -> None:
        """owner: an object or a shape-key block's owner. Keys outside what is written stay as they are."""
        self.owner = owner
        data = owner.animation_data
        self._old = data.action if data is not None else None
        self._slot: Any = None
        if self._old is None:
            self._action = bpy.data.actions.new(name)
        else:
            self._action = self._old.copy()
        if hasattr(self._action, "slots"):
            old_slot = data.action_slot if data is not None else None
            known = self._action.slots.get(old_slot.identifier) if old_slot is not None else None
            self._slot = known or self._action.slots.new(id_type=owner.id_type, name=owner.name)
        self._place = self._channels()
        self._known = {(curve.data_path, curve.array_index): curve for curve in self._place.fcurves}

    def put(
        self,
        data_path: str,
        index: int,
        group: str,
        start: int,
        values: NDArray[Any],
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        """One key a frame from `start` on, or only those of `rows`; a curve that does not move gets a single key."""
        if len(values) > 1 and np.ptp(values) < 1e-7:
            last = start + len(values) - 1
            frames, values = np.array([start], np.float64), np.asarray(values[:1])
        else:
            last = start + len(values) - 1
            kept = np.arange(len(values)) if rows is None else rows
            frames, values = start + kept.astype(np.float64), np.asarray(values)[kept]
        curve = self._known.get((data_path, index))
        if curve is None:
            curve = self._place.fcurves.new(data_path, index=index)
            if group:
                groups = self._place.groups
                curve.group = groups.get(group) or groups.new(group)
            self._known[data_path, index] = curve
        _write(curve, frames, np.asarray(values, np.float64), start, last)

    def finish(self) -> None:
        """Give the owner the new action; the old one goes where nothing else uses it."""
        data = self.owner.animation_data or self.owner.animation_data_create()
        name = self._old.name if self._old is not None else ""
        data.action = self._action
        if self._slot is not None:
            data.action_slot = self._slot
        if self._old is not None and self._old.users == 0 and not self._old.library:
            bpy.data.actions.remove(self._old)
            self._action.name = name

    def discard(self) -> None:
        """Leave the owner as it was."""
        bpy.data.actions.remove(self._action)

    def _channels(self) -> Any:
        """What holds `fcurves` and `groups`: the action itself, or since Blender 4.4 the slot's channel bag."""
        if self._slot is None:
            return self._action
        layers = self._action.layers
        layer = layers[0] if layers else layers.new("Layer")
        strip = layer.strips[0] if layer.strips else layer.strips.new(type="KEYFRAME")
        return strip.channelbag(self._slot, ensure=True)


def curves_of(owner: Any) -> list[Any]:
    """The animation curves of a data-block's action, in any version of Blender."""
    data = owner.animation_data
    if data is None or data.action is None:
        return []
    if not hasattr(data.action, "layers"):
        return list(data.action.fcurves)
    found = []
    for layer in data.action.layers:
        for strip in layer.strips:
            bag = strip.channelbag(data.action_slot) if data.action_slot is not None else None
            found += list(bag.fcurves) if bag is not None else []
    return found


_KEPT = (("co", 2, np.float32), ("handle_left", 2, np.float32), ("handle_right", 2, np.float32))
_KEPT_NUMBERS = ("interpolation", "handle_left_type", "handle_right_type")


def _write(curve: Any, frames: NDArray[Any], values: NDArray[Any], first: int, last: int) -> None:
    """Put keys into a curve in place of those between two frames."""
    points = curve.keyframe_points
    old = {name: _read(points, name, width) for name, width, _ in _KEPT}
    numbers = {name: _read_int(points, name) for name in _KEPT_NUMBERS}
    outside = (old["co"][:, 0] < first - 0.5) | (old["co"][:, 0] > last + 0.5)
    fresh = np.stack([frames, values], 1).astype(np.float32)
    merged = {name: np.concatenate([old[name][outside], fresh]) for name in old}
    order = np.argsort(merged["co"][:, 0], kind="stable")
    codes = {"interpolation": LINEAR, "handle_left_type": 4, "handle_right_type": 4}  # automatic, clamped
    points.clear()
    points.add(len(order))
    for name, value in merged.items():
        points.foreach_set(name, np.ascontiguousarray(value[order]).reshape(-1))
    for name, code in codes.items():
        whole = np.concatenate([numbers[name][outside], np.full(len(fresh), code, np.int32)])[order]
        points.foreach_set(name, np.ascontiguousarray(whole))
    curve.update()


def _read(points: Any, name: str, width: int) -> NDArray[np.float32]:
    flat = np.empty(len(points) * width, np.float32)
    points.foreach_get(name, flat)
    return flat.reshape(-1, width)


def _read_int(points: Any, name: str) -> NDArray[np.int32]:
    flat = np.empty(len(points), np.int32)
    points.foreach_get(name, flat)
    return flat
