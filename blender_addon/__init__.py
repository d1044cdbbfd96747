"""Effigy's Blender add-on: animatable Gaussian avatars as armatures, rendered by the EFFIGY engine. GPL-3.0-or-later.

Layers: `logic` is plain Python and numpy, `services` turn Blender data into `shared` types and back, `ui` holds
operators and panels, `engine.py` the render engine. Nothing happens at import and bpy is imported by `register` only,
so the zip builder (`python -m blender_addon.build`) runs in any Python.
"""

from __future__ import annotations


def register() -> None:
    """Register classes, properties and (with a window) the timer that takes results from the network thread."""
    from . import registration

    registration.register()


def unregister() -> None:
    """Undo `register`: no class, property, handler, timer, thread or idle child process is left."""
    from . import registration

    registration.unregister()
