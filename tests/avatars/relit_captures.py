"""A tiny relighting capture for tests: the painted template with ground truth, its held-out pose in two lights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from avatars.captures.capture import Capture
from avatars.lighting.colour import srgb_from_linear
from avatars.lighting.environment_files import write_exr
from avatars.relit_body.painted import PaintedTeacher
from avatars.relit_body.teacher import TeacherImages
from avatars.rendering import CameraBatch
from shared.types import Environment
from tests.avatars.relit_files import from_behind, front, painted_teacher, written

ARMS = (1.2, 0.6, 0.9)
"""How far the arms are lowered in each frame, rad; the last frame is held out."""


def write_painted_capture(folder: Path, size_px: int = 64) -> Capture:
    """Three poses of the painted woman from two sides; the last pose in the capture's light and in "evening"."""
    teacher = painted_teacher()
    for name in ("images", "truth", "lights"):
        (folder / name).mkdir(parents=True)
    evening = np.full((16, 32, 3), 0.05, np.float32)
    evening[3:9, 20:28] = (7.0, 3.0, 1.0)
    write_exr(folder / "lights" / "evening.exr", evening)
    lit = {
        "": teacher,
        "evening": PaintedTeacher(teacher.template(), teacher.canonical_rotations, Environment(evening)),
    }
    arrays, lenses = teacher.person.arrays, [front(size_px), from_behind(size_px)]
    rotations = np.stack([_pose(arrays.joint_names, arm) for arm in ARMS])
    translations, expressions = np.zeros((3, 3), np.float32), np.zeros((3, len(arrays.expression_names)), np.float32)
    entries = []
    for camera, lens in enumerate(lenses):
        for frame in range(3):
            held_out = frame == len(ARMS) - 1
            stem = f"{camera:02d}_{frame:04d}"
            for light in lit if held_out else ("",):
                images = lit[light].images(
                    *(torch.from_numpy(part[frame : frame + 1]) for part in (rotations, translations, expressions)),
                    CameraBatch.from_cameras([lens]),
                )
                file = f"images/{stem}{light}.webp"
                _save(folder / file, images.radiance[0], images.alpha[0])
                entry = {"file": file, "camera": camera, "frame": frame, "split": "test" if held_out else "train"}
                if held_out:
                    entry["aovs"] = _write_truth(folder, stem, images)
                if light:
                    entry["light"] = f"lights/{light}.exr"
                entries.append(entry)
    return written(folder, lenses, (rotations, translations, expressions), entries)


def _write_truth(folder: Path, stem: str, images: TeacherImages) -> dict[str, str]:
    maps = {
        "albedo": srgb_from_linear(images.albedo[0]),
        "normal": images.normals[0] * 0.5 + 0.5,
        "roughness": images.roughness[0, ..., None].expand(-1, -1, 3),
        "metallic": images.metallic[0, ..., None].expand(-1, -1, 3),
    }
    for name, values in maps.items():
        _save(folder / f"truth/{stem}_{name}.webp", values, images.alpha[0])
    return {name: f"truth/{stem}_{name}.webp" for name in maps}


def _save(path: Path, colour: torch.Tensor, alpha: torch.Tensor) -> None:
    rgba = torch.cat([colour, alpha[..., None]], -1).numpy()
    Image.fromarray((rgba * 255 + 0.5).astype(np.uint8)).save(path, lossless=True, exact=True)


def _pose(names: tuple[str, ...], arm_rad: float) -> NDArray[np.float32]:
    rotations = np.zeros((len(names), 3), np.float32)
    rotations[names.index("left_shoulder"), 1] = arm_rad
    rotations[names.index("right_shoulder"), 1] = -arm_rad
    return rotations
