"""Writes VHAP exports as GaussianAvatars reads them (UNION folder, sequences beside it), of a known head.

Computed in FLAME's axes with OpenGL cameras; shares no conversion with the reader.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avatars.templates.opening import TemplateReference
from tests.mesh_pictures import all_faces, draw, flame_vertices, vertex_colours

SEQUENCES = {"EMO-1": "train", "EXP-2": "test"}
SUBJECT = "074"
MARKS = "v16_DS2-0.5x_lmkSTAR_teethV3_SMOOTH_offsetS_whiteBg_maskBelowLine"
VALIDATION_CAMERA = 8


@dataclass(frozen=True, eq=False)
class Truth:
    """What was written. union: the folder to open. vertices: sequence -> [T, V, 3] m posed, FLAME's axes.

    cameras: camera index -> (camera-to-world [4, 4] with OpenGL axes, K [3, 3] px). static_offset [n, 3] m.
    """

    union: Path
    vertices: dict[str, NDArray[np.float64]]
    cameras: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]
    parameters: dict[str, list[dict[str, NDArray[np.float32]]]]
    static_offset: NDArray[np.float32]
    size: tuple[int, int]


def look_at(place: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Camera-to-world [4, 4] with OpenGL axes (y up, looking along -z) in a world whose y is up."""
    back = (place - target) / np.linalg.norm(place - target)
    right = np.cross((0.0, 1.0, 0.0), back)
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack((right, np.cross(back, right), back), 1)
    matrix[:3, 3] = place
    return matrix


def write_nersemble(
    parent: Path,
    reference: TemplateReference,
    *,
    frames: int = 3,
    cameras: tuple[int, ...] = (3, 8, 12),
    size: tuple[int, int] = (40, 56),
    offset_rows: int = 5143,
    seed: int = 0,
) -> Truth:
    """Write two sequences and the UNION folder that points to them into `parent`; size is width, height px.

    Training cameras and times are in transforms_train.json, camera 8 of the same times in _val, the other sequence in
    _test, as the exporter does.
    """
    rng = np.random.default_rng(seed)
    arrays = reference.open()
    rows = len(arrays.vertices)
    shape = np.zeros(300, np.float32)
    shape[:10] = rng.normal(0, 0.3, 10)
    offset = _smooth_offset(arrays.vertices, 0.004)
    written = np.zeros((offset_rows, 3), np.float32)
    used = min(rows, offset_rows) if rows == offset_rows else 5023
    written[:used] = offset[:used]
    offset[used:] = 0
    faces, colours = all_faces(arrays), vertex_colours(arrays)
    parameters = {name: _motion(frames, shape, written, rng, k) for k, name in enumerate(SEQUENCES)}
    posed = {name: np.stack([_posed(reference, one, offset) for one in motion]) for name, motion in parameters.items()}
    first = posed["EMO-1"][0]
    middle = (first.min(0) + first.max(0)) / 2
    width, height = size
    focal = 2.0 * min(size)
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    lenses = {}
    for camera in cameras:
        yaw = np.radians(12.0 * (camera - VALIDATION_CAMERA))
        place = middle + 1.0 * np.array((np.sin(yaw), 0.1 * np.cos(3 * camera), np.cos(yaw)))
        lenses[camera] = look_at(place, middle), K
    union = parent / f"UNION10_{SUBJECT}_EMO1234EXP234589_{MARKS}"
    union.mkdir(parents=True)
    entries: dict[str, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
    for name, split in SEQUENCES.items():
        folder = parent / f"{SUBJECT}_{name}_{MARKS}"
        for part in ("images", "fg_masks", "flame_param"):
            (folder / part).mkdir(parents=True)
        for time, one in enumerate(parameters[name]):
            np.savez(folder / "flame_param" / f"{time:05d}.npz", **one)
            for camera, (world_from_camera, lens) in lenses.items():
                stem = f"{time:05d}_{camera:02d}"
                to_camera = np.diag((1.0, -1.0, -1.0, 1.0)) @ np.linalg.inv(world_from_camera)
                seen = posed[name][time] @ to_camera[:3, :3].T + to_camera[:3, 3]
                rgba = draw(seen, lens, size, faces, colours).astype(np.float64) / 255
                over_white = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
                Image.fromarray((over_white * 255 + 0.5).astype(np.uint8)).save(folder / "images" / f"{stem}.png")
                mask = (rgba[..., 3] * 255 + 0.5).astype(np.uint8)
                Image.fromarray(mask).save(folder / "fg_masks" / f"{stem}.png")
                beside = os.path.relpath(folder, union)
                entry = {
                    "timestep_index": time,
                    "timestep_index_original": time,
                    "timestep_id": f"frame_{time:05d}",
                    "camera_index": camera,
                    "camera_id": f"2220{camera:05d}",
                    "cx": float(lens[0, 2]),
                    "cy": float(lens[1, 2]),
                    "fl_x": float(lens[0, 0]),
                    "fl_y": float(lens[1, 1]),
                    "h": height,
                    "w": width,
                    "camera_angle_x": float(2 * np.arctan(width / (2 * lens[0, 0]))),
                    "camera_angle_y": float(2 * np.arctan(height / (2 * lens[1, 1]))),
                    "transform_matrix": world_from_camera.tolist(),
                    "file_path": f"{beside}/images/{stem}.png",
                    "fg_mask_path": f"{beside}/fg_masks/{stem}.png",
                    "flame_param_path": f"{beside}/flame_param/{time:05d}.npz",
                }
                held = split == "train" and camera == VALIDATION_CAMERA
                entries["val" if held else split].append(entry)
    np.savez(union / "canonical_flame_param.npz", **(parameters["EMO-1"][0] | {"expr": np.zeros((1, 100), np.float32)}))
    for split, listed in entries.items():
        (union / f"transforms_{split}.json").write_text(json.dumps({"frames": listed}), encoding="utf-8")
        (union / f"sequences_{split}.txt").write_text("\n".join(SEQUENCES), encoding="utf-8")
    return Truth(union, posed, lenses, parameters, written, size)


def _motion(
    frames: int, shape: NDArray[np.float32], offset: NDArray[np.float32], rng: np.random.Generator, phase: int
) -> list[dict[str, NDArray[np.float32]]]:
    """The flame_param arrays of a sequence."""
    found = []
    for time in range(frames):
        s = 2 * np.pi * time / max(frames, 1) + phase
        expression = np.zeros((1, 100), np.float32)
        expression[0, :6] = 0.8 * np.sin(s + np.arange(6))
        found.append(
            {
                "translation": np.array([[0.01 * np.sin(s), 0.0, 0.01 * np.cos(s)]], np.float32),
                "rotation": np.array([[0.1 * np.cos(s), 0.25 * np.sin(s), 0.03]], np.float32),
                "neck_pose": np.array([[0.05 * np.sin(s), -0.1 * np.cos(s), 0.02]], np.float32),
                "jaw_pose": np.array([[0.12 * (1 - np.cos(s)), 0.0, 0.0]], np.float32),
                "eyes_pose": np.array([[0.0, 0.2 * np.sin(s), 0.0, 0.05, 0.15 * np.sin(s), 0.0]], np.float32),
                "shape": shape,
                "expr": expression,
                "static_offset": offset[None],
                "dynamic_offset": rng.normal(0, 1e-3, (1, len(offset), 3)).astype(np.float32),
            }
        )
    return found


def _posed(
    reference: TemplateReference, one: dict[str, NDArray[np.float32]], offset: NDArray[np.float32]
) -> NDArray[np.float64]:
    rotations = {
        "root": one["rotation"][0],
        "neck": one["neck_pose"][0],
        "jaw": one["jaw_pose"][0],
        "left_eye": one["eyes_pose"][0, :3],
        "right_eye": one["eyes_pose"][0, 3:],
    }
    names = {f"exp{index:03d}": float(weight) for index, weight in enumerate(one["expr"][0]) if weight}
    return flame_vertices(reference, one["shape"], rotations, one["translation"][0], names, offset)


def _smooth_offset(vertices: NDArray[np.float32], most_m: float) -> NDArray[np.float32]:
    """A field [V, 3] m in FLAME's axes that pushes the head outwards here and inwards there."""
    x, y, z = (vertices - vertices.mean(0)).T
    outwards = np.stack((x, z, -y), 1)
    outwards = outwards / np.maximum(np.linalg.norm(outwards, axis=1, keepdims=True), 1e-6)
    return (most_m * np.sin(20 * x + 13 * z)[:, None] * outwards).astype(np.float32)
