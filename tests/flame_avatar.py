"""An untrained but coloured head on a FLAME template, made from written FLAME files: for tests of everything below."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from avatars.avatar_folder import About, save_avatar
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.rgb_head.initial import RgbHeadConfig, new_head
from avatars.rgb_head.model import SH0, RgbHead
from avatars.templates.flame import read_flame
from avatars.templates.installed import install
from avatars.templates.opening import reference_of
from shared.template import TemplateArrays
from shared.types import Camera
from tests.flame_files import write_flame_files
from tests.flame_head import LIP_RING_LOWER, LIP_RING_UPPER
from tests.tiny import render_head, still_motion, straight_uint8

SKIN, LIPS, EYES, TEETH = (0.80, 0.60, 0.50), (0.75, 0.25, 0.25), (0.92, 0.95, 1.0), (0.95, 0.93, 0.85)
JAW_OPEN = "exp024"
"""The expression of the written files that holds the open template's jawOpen."""


def add_flame(folder: Path) -> TemplateArrays:
    """Write FLAME 2020's files into `folder`, convert them and add them to the templates of EFFIGY_HOME."""
    files = write_flame_files(folder)
    arrays = read_flame(files.model, uv=files.uv, eyelids=files.eyelids, teeth="rgbavatar")
    install(arrays)
    return arrays


def flame_head_model(arrays: TemplateArrays, gaussians: int = 2500) -> RgbHead:
    """An untrained head on an added FLAME template, skin, lips, eyes and teeth in their colours."""
    config = RgbHeadConfig(
        density={"skin": 1.0, "teeth": 2.0}, target_gaussians=gaussians, blendshapes=3, hidden=8, initial_opacity=0.9
    )
    model = new_head(reference_of(arrays.template_id), config, seed=0)
    colours = np.tile(np.array(SKIN, np.float32), (len(arrays.vertices), 1))
    colours[arrays.weights[:, 3:].sum(1) > 0.5] = EYES
    colours[[*LIP_RING_UPPER, *LIP_RING_LOWER]] = LIPS
    colours[5023:] = TEETH
    own = model.binding.triangles[model.binding.face]
    with torch.no_grad():
        mixed = (torch.from_numpy(colours)[own] * model.binding.barycentrics[..., None]).sum(1)
        model.colours.copy_((mixed - 0.5) / SH0)
        model.seen.fill_(True)
    return model


def flame_camera(size: int, distance_m: float = 0.9) -> Camera:
    """A square camera in front of a FLAME head, which stands about the origin."""
    pose = np.eye(4)
    pose[:3, :3] = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    pose[:3, 3] = (0, -distance_m, 0.02)
    focal = 2.0 * size
    return Camera(size, size, np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]), pose)


def tiny_flame_avatar(home: Path, name: str = "flame", gaussians: int = 2500) -> Path:
    """Add FLAME to the data folder `home` and save a head on it in its library; returns the avatar's folder."""
    os.environ["EFFIGY_HOME"] = str(home)
    arrays = add_flame(home / "flame_files")
    model = flame_head_model(arrays, gaussians)
    image = render_head(model, [flame_camera(64)], still_motion(1, model))[0]
    path = home / "library" / f"{name}.avatar"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = About(name=name, licence="CC0-1.0", consent="synthetic, nobody's likeness")
    save_avatar(path, RgbHeadAvatar(model), about, straight_uint8(image))
    return path
