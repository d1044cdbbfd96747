"""Registers all operators and panels."""

from __future__ import annotations

import bpy

from . import (
    drops,
    operators_backend,
    operators_camera,
    operators_edit,
    operators_export,
    operators_keys,
    operators_library,
    operators_log,
    operators_mesh,
    operators_motion,
    operators_playblast,
    operators_relight,
    operators_render,
    operators_rig,
    operators_scene,
    operators_synthesis,
    operators_track,
    operators_train,
    panels_animate,
    panels_backend,
    panels_camera,
    panels_edit,
    panels_export,
    panels_face,
    panels_library,
    panels_motion,
    panels_relight,
    panels_render,
    panels_rig,
    panels_train,
)
from .safely import shielded

PAGES = (
    operators_backend,
    operators_camera,
    operators_edit,
    operators_export,
    operators_keys,
    operators_mesh,
    operators_library,
    operators_log,
    operators_motion,
    operators_playblast,
    operators_relight,
    operators_render,
    operators_rig,
    operators_scene,
    operators_synthesis,
    operators_track,
    operators_train,
    panels_backend,
    panels_library,
    panels_train,
    panels_animate,
    panels_face,
    panels_motion,
    panels_rig,
    panels_edit,
    panels_relight,
    panels_camera,
    panels_render,
    panels_export,
    drops,
)
CLASSES = tuple(kind for page in PAGES for kind in page.CLASSES)


def register() -> None:
    """Register them; the order of the sidebar's parts is the table in `parts`."""
    for kind in CLASSES:
        bpy.utils.register_class(shielded(kind))


def unregister() -> None:
    """Unregister them."""
    for kind in reversed(CLASSES):
        bpy.utils.unregister_class(kind)
