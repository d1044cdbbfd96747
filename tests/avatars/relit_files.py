"""A small relightable person for tests: the template itself with painted materials, as teacher and as surfels."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from avatars.captures.capture import Capture
from avatars.captures.opening import open_capture
from avatars.relit_body.avatar import RelitAvatar
from avatars.relit_body.painted import PaintedTeacher
from avatars.relit_body.painted import painted_avatar as made
from avatars.rendering import CameraBatch
from avatars.scene import SceneInstance
from avatars.templates.big_pose import big_pose_rotations
from avatars.templates.opening import embedded_template, reference_of
from shared.types import Camera, Environment


@lru_cache(maxsize=1)
def painted_teacher() -> PaintedTeacher:
    """The painted woman in a sky that is brighter above."""
    arrays = embedded_template("body")
    reference = reference_of(arrays.template_id, preset="woman", view="body")
    sky = np.linspace(1.2, 0.3, 16, dtype=np.float32)[:, None, None] * np.ones((1, 32, 3), np.float32)
    return PaintedTeacher(
        reference, torch.from_numpy(np.array(big_pose_rotations(arrays.joint_names))), Environment(sky)
    )


@lru_cache(maxsize=2)
def painted_avatar(count: int = 4000, probe_side: int = 8) -> RelitAvatar:
    """Surfels that hold what the painted teacher knows, with probes."""
    return made(painted_teacher(), count, probe_side)


def front(size: int = 96, distance_m: float = 3.2) -> Camera:
    """Before the whole person, at -y."""
    pose = np.array([[1, 0, 0, 0], [0, 0, 1, -distance_m], [0, -1, 0, -0.1], [0, 0, 0, 1.0]])
    K = np.array([[1.4 * size, 0, size / 2], [0, 1.4 * size, size / 2], [0, 0, 1]])
    return Camera(size, size, K, pose)


def standing(avatar: RelitAvatar, arm_rad: float = 1.1, turn_rad: float = 0.0) -> SceneInstance:
    """One instant: arms lowered by arm_rad, the object turned about +z."""
    arrays = avatar.surfels.person.arrays
    names = list(arrays.joint_names)
    rotations = np.zeros((1, len(names), 3), np.float32)
    rotations[0, names.index("left_shoulder"), 1] = arm_rad
    rotations[0, names.index("right_shoulder"), 1] = -arm_rad
    matrix = np.eye(4)[None]
    cosine, sine = np.cos(turn_rad), np.sin(turn_rad)
    matrix[0, :2, :2] = [[cosine, -sine], [sine, cosine]]
    return SceneInstance(avatar, matrix, rotations, np.zeros((1, 3)), np.zeros((1, len(arrays.expression_names))))


def painted_capture(folder: Path, size: int = 64) -> Capture:
    """Three poses of the painted woman from two sides, the last pose held out."""
    (folder / "images").mkdir()
    teacher = painted_teacher()
    arrays = teacher.person.arrays
    lenses = [front(size), from_behind(size)]
    poses = [np.asarray(_pose(arm), np.float32) for arm in (1.2, 0.6, 0.9)]
    rotations = np.stack(poses)
    translations, expressions = np.zeros((3, 3), np.float32), np.zeros((3, len(arrays.expression_names)), np.float32)
    entries = []
    for camera, lens in enumerate(lenses):
        for frame in range(3):
            images = teacher.images(
                *(torch.from_numpy(part[frame : frame + 1]) for part in (rotations, translations, expressions)),
                CameraBatch.from_cameras([lens]),
            )
            rgba = torch.cat([images.radiance[0], images.alpha[0, ..., None]], -1).numpy()
            name = f"images/{camera:02d}_{frame:04d}.webp"
            Image.fromarray((rgba * 255 + 0.5).astype(np.uint8)).save(folder / name, lossless=True, exact=True)
            entries.append({"file": name, "camera": camera, "frame": frame, "split": "test" if frame == 2 else "train"})
    return written(folder, lenses, (rotations, translations, expressions), entries)


def written(
    folder: Path, lenses: list[Camera], motion: tuple[np.ndarray, ...], entries: list[dict[str, object]]
) -> Capture:
    """Write what describes pictures of the painted woman, from the front and from behind, and open it.

    motion: rotations, translations and expressions of every frame; entries: the images of capture.json.
    """
    teacher = painted_teacher()
    arrays = teacher.person.arrays
    np.savez(
        folder / "parameters.npz",
        rotations=motion[0],
        translations=motion[1],
        expressions=motion[2],
        K=np.stack([lens.K for lens in lenses]),
        world_from_camera=np.stack([lens.world_from_camera for lens in lenses]),
    )
    np.savez(folder / "environment.npz", radiance=teacher.environment().radiance)
    document = {
        "format": "effigy-capture",
        "version": 1,
        "name": "painted",
        "kind": "body",
        "subject": "painted",
        "licence": "CC0-1.0",
        "synthetic": True,
        "template": teacher.template().as_json(),
        "joint_names": list(arrays.joint_names),
        "expression_names": list(arrays.expression_names),
        "width_px": lenses[0].width_px,
        "height_px": lenses[0].height_px,
        "fps": 25,
        "cameras": [{"name": "front"}, {"name": "behind"}],
        "images": entries,
    }
    (folder / "capture.json").write_text(json.dumps(document), encoding="utf-8")
    (folder / "LICENSE.md").write_text("CC0-1.0\n", encoding="utf-8")
    return open_capture(folder)


def _pose(arm_rad: float) -> np.ndarray:
    names = list(painted_teacher().person.arrays.joint_names)
    rotations = np.zeros((len(names), 3), np.float32)
    rotations[names.index("left_shoulder"), 1] = arm_rad
    rotations[names.index("right_shoulder"), 1] = -arm_rad
    rotations[names.index("left_elbow"), 2] = 1.2 - arm_rad
    return rotations


def from_behind(size: int) -> Camera:
    lens = front(size)
    turn = np.diag([-1.0, -1.0, 1.0, 1.0])
    return replace(lens, world_from_camera=turn @ lens.world_from_camera)
