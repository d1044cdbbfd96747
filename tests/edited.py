"""An edited version of a tiny head, made without editing: greener, with the note that an edit leaves."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from avatars.avatar_folder import DESCRIPTION, About, avatar_digest, load_avatar, save_avatar
from avatars.files import write_seal
from tests.tiny import front_camera, render_head, still_motion, straight_uint8


def green_version(parent: Path, name: str = "tiny_green", prompt: str = "green skin", seed: int = 3) -> Path:
    """Write NAME.avatar beside `parent` and return its folder."""
    avatar = load_avatar(parent)
    model = avatar.model  # type: ignore[attr-defined]
    with torch.no_grad():
        model.colours[:, (0, 2)] -= 1.0
    picture = render_head(model, [front_camera(64)], still_motion(1, model))[0]
    folder = parent.with_name(f"{name}.avatar")
    save_avatar(folder, avatar, About(name, licence="CC0-1.0"), straight_uint8(picture))
    path = folder / DESCRIPTION
    document = json.loads(path.read_text(encoding="utf-8"))
    document["edit"] = {
        "parent": {"digest": avatar_digest(parent), "avatar_id": parent.name.removesuffix(".avatar"), "name": "tiny"},
        "prompt": prompt,
        "editor": "built_in",
        "seed": seed,
        "settings": {"region": "skin"},
        "made": document["created"],
    }
    path.write_text(json.dumps(document), encoding="utf-8")
    write_seal(path)
    return folder
