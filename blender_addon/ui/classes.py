"""Registers all operators and panels."""

from __future__ import annotations

import bpy

from . import operators_backend, operators_scene, panels_backend, panels_scene

CLASSES = (*operators_backend.CLASSES, *operators_scene.CLASSES, *panels_backend.CLASSES, *panels_scene.CLASSES)


def register() -> None:
    """Register them in the order panels are shown in."""
    for kind in CLASSES:
        bpy.utils.register_class(kind)


def unregister() -> None:
    """Unregister them."""
    for kind in reversed(CLASSES):
        bpy.utils.unregister_class(kind)
