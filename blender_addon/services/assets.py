"""Avatars in Blender's Asset Browser: a collection with the armature and its proxy, described, with the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np

from .._shared import desk_messages, errors
from .pictures import upright
from .rig_info import avatar_of

SHOWN = ("Method", "Held-out quality", "Coverage", "Consent")


def mark(context: Any, avatar_id: str, info: desk_messages.AvatarInfo | None) -> Any:
    """Make the avatar's objects of this scene a collection asset and return the collection.

    info: what the library says of it, None where that is not known. Raises NotFound where the scene has no such avatar.
    """
    armature = next((item for item in context.scene.objects if _is(item, avatar_id)), None)
    if armature is None:
        raise errors.NotFound("The scene has no such avatar", found=avatar_id, do="Add it to the scene first")
    parts = [armature, *armature.children_recursive]
    collection = next((home for home in armature.users_collection if set(home.all_objects) <= set(parts)), None)
    if collection is None:
        collection = bpy.data.collections.new(armature.data.effigy.avatar_name or armature.name)
        armature.users_collection[0].children.link(collection)
        for part in parts:
            for home in part.users_collection:
                home.objects.unlink(part)
            collection.objects.link(part)
    collection.asset_mark()
    data = collection.asset_data
    facts = dict(info.facts) if info is not None else {}
    data.description = "; ".join(f"{name}: {facts[name]}" for name in SHOWN if name in facts)
    data.license = facts.get("Licence", "")
    for tag in ("Effigy", facts.get("Method", "avatar")):
        data.tags.new(tag, skip_if_exists=True)
    if info is not None and info.preview.size:
        preview = collection.preview_ensure()
        preview.image_size = (info.preview.shape[1], info.preview.shape[0])
        preview.image_pixels_float.foreach_set(np.ascontiguousarray(upright(info.preview)).reshape(-1))
    return collection


def write(collection: Any, folder: Path) -> Path:
    """Write a marked collection and what it needs into a file of its own and return its path.

    Raises EnvironmentFailed where the disk refuses.
    """
    name = "".join(letter if letter.isalnum() or letter in "-_ " else "_" for letter in collection.name)
    path = folder / f"effigy {name}.blend"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        bpy.data.libraries.write(str(path), {collection}, fake_user=True, compress=True)
    except (OSError, RuntimeError) as error:
        raise errors.EnvironmentFailed(
            "The asset could not be written", found=f"{path}: {error}", do="Choose another asset library"
        ) from error
    return path


def _is(item: Any, avatar_id: str) -> bool:
    armature = avatar_of(item)
    return armature is item and item.data.effigy.avatar_id == avatar_id
