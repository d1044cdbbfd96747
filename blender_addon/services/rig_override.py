"""Linked avatars: making what is animated in a shot editable there."""

from __future__ import annotations

from typing import Any

from .rig_info import proxy_of


def expressions_are_locked(rig_object: Any) -> bool:
    """Whether the avatar is overridden in this file while its shape keys still belong to the library.

    Blender overrides objects and leaves their meshes, and with them the shape keys' values, to the library.
    """
    proxy = proxy_of(rig_object)
    return (
        proxy is not None
        and proxy.override_library is not None
        and proxy.data.library is not None
        and proxy.data.shape_keys is not None
    )


def unlock_expressions(rig_object: Any) -> bool:
    """Override the proxy's mesh as well where it is still the library's; whether that was needed."""
    if not expressions_are_locked(rig_object):
        return False
    proxy_of(rig_object).data.override_create(remap_local_usages=True)
    return True
