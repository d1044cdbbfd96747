"""Registers all operators and panels."""

from __future__ import annotations

import bpy

from . import (
    operators_backend,
    operators_camera,
    operators_log,
    operators_motion,
    operators_playblast,
    operators_render,
    operators_rig,
    operators_scene,
    operators_synthesis,
    panels_animate,
    panels_backend,
    panels_camera,
    panels_edit,
    panels_face,
    panels_library,
    panels_motion,
    panels_relight,
    panels_render,
    panels_rig,
    panels_train,
)

PAGES = (
    operators_backend,
    operators_camera,
    operators_log,
    operators_motion,
    operators_playblast,
    operators_render,
    operators_rig,
    operators_scene,
    operators_synthesis,
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
)
CLASSES = tuple(kind for page in PAGES for kind in page.CLASSES)


def register() -> None:
    """Register them; the order of the sidebar's parts is the table in `parts`."""
    for kind in CLASSES:
        bpy.utils.register_class(kind)


def unregister() -> None:
    """Unregister them."""
    for kind in reversed(CLASSES):
        bpy.utils.unregister_class(kind)
