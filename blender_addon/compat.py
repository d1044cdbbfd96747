"""What differs between Blender 4.2 and 5.x, in one place. Found by looking for the feature, not by version."""

from __future__ import annotations

from typing import Any


def declare_depth_write(shader_info: Any) -> None:
    """Say that a shader writes gl_FragDepth, where that can be said (it must be from about 4.5 on; 4.3 has no word)."""
    if hasattr(shader_info, "depth_write"):
        shader_info.depth_write("ANY")


def bone_is_selected(pose_bone: Any) -> bool:
    """Selection belongs to pose bones from Blender 5, to their bones before."""
    return bool(getattr(pose_bone, "select", None) if hasattr(pose_bone, "select") else pose_bone.bone.select)


def bone_is_shown(pose_bone: Any) -> bool:
    """Whether a bone is drawn: neither hidden itself nor in hidden bone collections only."""
    hidden = pose_bone.hide if hasattr(pose_bone, "hide") else pose_bone.bone.hide
    collections = pose_bone.bone.collections
    return not hidden and (not len(collections) or any(found.is_visible_effectively for found in collections))
