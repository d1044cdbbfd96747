"""Files dropped into a 3D view: videos, avatars, HDRIs and motions go to the operator that takes them.

Blender runs `bl_import_operator` with `filepath`; where two handlers fit a file, it asks which is meant.
"""

from __future__ import annotations

from typing import Any

import bpy


class _Dropped:
    """Handlers of files dropped into a 3D view."""

    @classmethod
    def poll_drop(cls, context: Any) -> bool:
        """Only in 3D views."""
        return context.area is not None and context.area.type == "VIEW_3D"


HANDLERS = (
    ("video", "Track the person in it (Effigy)", "effigy.track_video", ".mp4;.mov;.mkv;.webm;.avi;.m4v;.mpg;.mpeg"),
    ("avatar", "Effigy avatar", "effigy.import_avatar", ".avatar;.ply;.json"),
    ("hdri", "Light Effigy avatars", "effigy.open_hdri", ".exr;.hdr"),
    ("motion", "Motion for the Effigy avatar", "effigy.import_motion", ".npz;.frame;.bvh;.fbx;.glb;.gltf"),
)
"""(name, label, operator, endings). The motion's operator registers when it is there."""


def _handler(name: str, label: str, operator: str, endings: str) -> type[Any]:
    values = {
        "bl_idname": f"EFFIGY_FH_{name}",
        "bl_label": label,
        "bl_import_operator": operator,
        "bl_file_extensions": endings,
        "__doc__": f"{label}: files dropped into a 3D view",
    }
    return type(f"EFFIGY_FH_{name}", (_Dropped, bpy.types.FileHandler), values)


# Blender 4.2, the oldest we run in, has file handlers.
CLASSES = tuple(_handler(*values) for values in HANDLERS)
