"""A library with one small avatar of each kind that needs no file of the user's, the same wherever it is made.

python -m tests.one_of_each FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from avatars.avatar import Avatar
from avatars.avatar_folder import DESCRIPTION, About, save_avatar
from avatars.files import write_seal
from avatars.mlp_body.avatar import MlpBodyAvatar
from avatars.relit_head.avatar import RelitHeadAvatar
from avatars.rgb_head.avatar import RgbHeadAvatar
from tests.avatars.relit_files import painted_avatar
from tests.avatars.relit_head.files import lit_head, side_light
from tests.avatars.surface_body.people import trained_like
from tests.tiny import tiny_head
from tests.tiny_body import tiny_body


def one_of_each() -> dict[str, Avatar]:
    """By the method's name."""
    return {
        "rgb_head": RgbHeadAvatar(tiny_head(1000)),
        "mlp_body": MlpBodyAvatar(tiny_body()),
        "relit_head": RelitHeadAvatar(lit_head(), torch.from_numpy(np.array(side_light(1).radiance))),
        "relit_body": painted_avatar(300, 4),
        "surface_body": trained_like(),
    }


def write_library(folder: Path) -> Path:
    """Save them as `folder`/library/METHOD.avatar, all made at one time, and return `folder`."""
    for name, avatar in one_of_each().items():
        path = folder / "library" / f"{name}.avatar"
        save_avatar(path, avatar, About(name), np.full((8, 8, 4), 128, np.uint8))
        document = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
        document["created"] = "2026-11-29T12:00:00+00:00"
        (path / DESCRIPTION).write_text(json.dumps(document), encoding="utf-8")
        write_seal(path / DESCRIPTION)
    return folder


if __name__ == "__main__":
    write_library(Path(sys.argv[1]))
