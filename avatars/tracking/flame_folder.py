"""Writes a tracked head as a folder of GaussianAvatars' layout: transforms, FLAME parameters, pictures and masks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from avatars.captures.capture import Capture
from avatars.captures.flame_axes import MODEL_FROM_FLAME_4
from avatars.files import write_atomically
from avatars.formats.flame_params import FLAME_VERTICES, FlameParams, flame_params_bytes

OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
FILES = {"train": "transforms_train.json", "test": "transforms_test.json"}


def write_flame_folder(capture: Capture, params: FlameParams, folder: Path) -> None:
    """Pictures over white with their masks, each frame's parameters, and the two lists of frames."""
    for name in ("images", "fg_masks", "flame_param"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    entries: dict[str, list[dict[str, Any]]] = {split: [] for split in FILES}
    for index, image in enumerate(capture.images):
        camera, rgba = capture.cameras[image.camera], capture.rgba(index)
        stem = f"{image.frame:05d}_00"
        over_white = rgba[..., :3].astype(np.uint16) + (255 - rgba[..., 3:].astype(np.uint16))
        Image.fromarray(np.minimum(over_white, 255).astype(np.uint8)).save(folder / "images" / f"{stem}.png")
        Image.fromarray(rgba[..., 3]).save(folder / "fg_masks" / f"{stem}.png")
        one = slice(image.frame, image.frame + 1)
        part = replace(params, **{name: getattr(params, name)[one] for name in moving_arrays()})
        parameters = f"flame_param/{image.frame:05d}.npz"
        write_atomically(folder / parameters, flame_params_bytes(part, vertices=FLAME_VERTICES))
        matrix = np.linalg.inv(MODEL_FROM_FLAME_4) @ camera.world_from_camera @ OPENGL
        entries[image.split if image.split in entries else "train"].append(
            {
                "file_path": f"images/{stem}.png",
                "fg_mask_path": f"fg_masks/{stem}.png",
                "flame_param_path": parameters,
                "timestep_index": image.frame,
                "camera_index": 0,
                "w": camera.width_px,
                "h": camera.height_px,
                "fl_x": float(camera.K[0, 0]),
                "fl_y": float(camera.K[1, 1]),
                "cx": float(camera.K[0, 2]),
                "cy": float(camera.K[1, 2]),
                "camera_angle_x": float(2 * np.arctan(camera.width_px / (2 * camera.K[0, 0]))),
                "transform_matrix": matrix.tolist(),
            }
        )
    rest_pose = {name: np.zeros_like(getattr(params, name)[:1]) for name in moving_arrays()}
    write_atomically(
        folder / "canonical_flame_param.npz",
        flame_params_bytes(replace(params, **rest_pose), vertices=FLAME_VERTICES),
    )
    for split, name in FILES.items():
        write_atomically(folder / name, json.dumps({"frames": entries[split]}, indent=1).encode())


def moving_arrays() -> tuple[str, ...]:
    """Names of the parameters that change from frame to frame."""
    return "expr", "rotation", "neck_pose", "jaw_pose", "eyes_pose", "translation"
