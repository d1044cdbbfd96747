"""The one door to `shared`: the copy inside an installed extension, the repository's package when run from source.

An installed extension lives at `bl_ext.<repository>.effigy` and may not change sys.path, so the builder puts a copy of
`shared` beside this file; its modules import each other relatively and work under either name.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

if (Path(__file__).parent / "shared").is_dir():
    from .shared import (
        camera_files,
        desk_messages,
        edit_messages,
        errors,
        lamps,
        mesh_asset,
        messages,
        motions,
        performance,
        private_files,
        rotations,
        template,
        track_messages,
        types,
        wire,
    )
else:
    from shared import (
        camera_files,
        desk_messages,
        edit_messages,
        errors,
        lamps,
        mesh_asset,
        messages,
        motions,
        performance,
        private_files,
        rotations,
        template,
        track_messages,
        types,
        wire,
    )

__all__ = [
    "camera_files",
    "desk_messages",
    "edit_messages",
    "errors",
    "lamps",
    "mesh_asset",
    "messages",
    "motions",
    "performance",
    "private_files",
    "rotations",
    "shared_module",
    "template",
    "track_messages",
    "types",
    "wire",
]


def shared_module(name: str) -> ModuleType:
    """A module of `shared` that is loaded when it is first needed (`client` brings pyzmq)."""
    return importlib.import_module(f"{errors.__package__}.{name}")
