"""Registers all operators and panels."""

from __future__ import annotations

import bpy

from . import operators_backend, operators_scene, operators_synthesis, panels_backend, panels_scene

PAGES = (operators_backend, operators_scene, operators_synthesis, panels_backend, panels_scene)
CLASSES = tuple(kind for page in PAGES for kind in page.CLASSES)


def register() -> None:
    """Register them in the order panels are shown in."""
    for kind in CLASSES:
        bpy.utils.register_class(kind)


def unregister() -> None:
    """Unregister them."""
    for kind in reversed(CLASSES):
        bpy.utils.unregister_class(kind)
