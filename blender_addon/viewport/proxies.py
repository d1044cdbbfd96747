"""Proxy meshes step aside where the avatar's picture is drawn, and come back when there is none.

Both are in the same place, so a drawn proxy would pierce its own picture. It is hidden with the eye of the view layer
(bones and picture stay, and so do final renders) as long as a view shows the picture; never while it is selected for
work on it, and not where it is invisible to the camera anyway (role SHADOW in Cycles' and EEVEE's views).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bpy

from ..services.rig_info import proxy_of

HIDDEN: set[str] = set()
"""Names of proxies this session hid."""


def update(overlay: Any) -> None:
    """Hide and show as the views are now (from the timer: handlers may not change data)."""
    context = bpy.context
    layer = context.view_layer
    if layer is None:
        return
    pictured = {name for view in overlay.views.values() for name in view.showing}
    solid = any(view.showing and view.shading in {"SOLID", "WIREFRAME"} for view in overlay.views.values())
    wanted = set()
    for name in pictured:
        rig_object = layer.objects.get(name.partition(" [")[0])
        proxy = proxy_of(rig_object) if rig_object is not None else None
        if proxy is not None and (solid or proxy.visible_camera) and not rig_object.data.effigy.show_proxy:
            wanted.add(proxy.name)
    _apply(layer, wanted)


def show_all() -> None:
    """Bring back whatever was hidden here."""
    if bpy.context.view_layer is not None:
        _apply(bpy.context.view_layer, set())
    HIDDEN.clear()


@contextmanager
def stepped_aside(layer: Any) -> Iterator[None]:
    """All proxies hidden meanwhile, but those that are to be kept in the viewport."""
    hidden = [
        item
        for item in layer.objects
        if item.type == "MESH"
        and item.data.effigy_proxy
        and not item.hide_get(view_layer=layer)
        and not (item.parent is not None and item.parent.type == "ARMATURE" and item.parent.data.effigy.show_proxy)
    ]
    for item in hidden:
        item.hide_set(True, view_layer=layer)
    try:
        yield
    finally:
        for item in hidden:
            item.hide_set(False, view_layer=layer)


def _apply(layer: Any, wanted: set[str]) -> None:
    for name in HIDDEN - wanted:
        proxy = layer.objects.get(name)
        if proxy is not None:
            proxy.hide_set(False, view_layer=layer)
        HIDDEN.discard(name)
    for name in wanted - HIDDEN:
        proxy = layer.objects.get(name)
        busy = proxy is None or proxy.mode != "OBJECT" or proxy.hide_get(view_layer=layer)
        if not busy:
            proxy.hide_set(True, view_layer=layer)
            HIDDEN.add(name)
