"""Writes INSTA folders with metrical-tracker's `.frame` files, exactly as those programs lay them out, of a known head.

The head is the FLAME-shaped template that is installed; everything here is computed in FLAME's axes and the tracker's
own conventions, and shares no conversion with the reader.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from avatars.templates.opening import TemplateReference
from tests.mesh_pictures import all_faces, draw, flame_vertices, vertex_colours

FLIP = np.diag((1.0, -1.0, -1.0))


@dataclass(frozen=True, eq=False)
class Truth:
    """What was written, in FLAME's axes. vertices [T, V, 3] m of the head before the camera's motion.

    R [T, 3, 3], t [T, 3]: OpenCV camera from head. jaw, left_eye, right_eye [T, 3] rad; expression [T, 100]; lids
    [T, 2]; K [3, 3] px; size: width, height px.
    """

    vertices: NDArray[np.float64]
    R: NDArray[np.float64]
    t: NDArray[np.float64]
    jaw: NDArray[np.float64]
    left_eye: NDArray[np.float64]
    right_eye: NDArray[np.float64]
    expression: NDArray[np.float64]
    lids: NDArray[np.float64]
    shape: NDArray[np.float64]
    K: NDArray[np.float64]
    size: tuple[int, int]


def turn(axis: int, angle_rad: float) -> NDArray[np.float64]:
    """Rotation matrix about x, y or z."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    a, b = [(1, 2), (2, 0), (0, 1)][axis]
    matrix = np.eye(3)
    matrix[a, a], matrix[a, b], matrix[b, a], matrix[b, b] = c, -s, s, c
    return matrix


def rows_of(vector: NDArray[np.float64]) -> NDArray[np.float32]:
    """6D coding of an axis-angle vector along one axis or none: the first two rows of its matrix."""
    angle = float(np.linalg.norm(vector))
    matrix = np.eye(3)
    if angle > 0:
        axis = int(np.argmax(np.abs(vector)))
        assert np.isclose(abs(vector[axis]), angle), "one axis at a time"
        matrix = turn(axis, float(vector[axis]))
    return matrix[:2].reshape(6).astype(np.float32)


def make_truth(reference: TemplateReference, frames: int, size: tuple[int, int], seed: int = 0) -> Truth:
    """A head that nods, turns, talks and blinks before a camera that the tracker lets move."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 2 * np.pi, frames + 1)[:frames]
    arrays = reference.open()
    shape = np.zeros(300)
    shape[:10] = rng.normal(0, 0.3, 10)
    expression = np.zeros((frames, 100))
    expression[:, :8] = 0.8 * np.sin(time[:, None] * (1 + np.arange(8) % 3) + np.arange(8))
    jaw, left, right = np.zeros((3, frames, 3))
    jaw[:, 0] = 0.15 * (1 - np.cos(2 * time))
    left[:, 1], right[:, 1] = 0.2 * np.sin(time), 0.18 * np.sin(time)
    lids = 0.5 * (1 + np.sin(time[:, None] * 2 + np.array((0.0, 0.2))))
    R = np.stack([FLIP @ turn(1, 0.5 * np.sin(s)) @ turn(0, 0.25 * np.cos(s)) for s in time])
    vertices = np.stack(
        [
            flame_vertices(
                reference,
                shape.astype(np.float32),
                {"jaw": jaw[i], "left_eye": left[i], "right_eye": right[i]},
                np.zeros(3),
                named(expression[i], lids[i], arrays.expression_names),
            )
            for i in range(frames)
        ]
    )
    middle = (vertices[0].min(0) + vertices[0].max(0)) / 2
    distance = 0.9 + 0.05 * np.sin(time)
    place = np.stack((0.01 * np.cos(time), 0.01 * np.sin(2 * time), distance), 1)
    t = place - R @ middle
    width, height = size
    focal = 2.3 * min(size)
    K = np.array([[focal, 0, width / 2 + 0.6], [0, focal, height / 2 - 0.4], [0, 0, 1]])
    return Truth(vertices, R, t, jaw, left, right, expression, lids, shape, K, size)


def named(expression: NDArray[np.float64], lids: NDArray[np.float64], names: tuple[str, ...]) -> dict[str, float]:
    """Weights by the template's names, those it has."""
    table = {f"exp{index:03d}": float(weight) for index, weight in enumerate(expression)}
    table |= {"eyelid_left": float(lids[0]), "eyelid_right": float(lids[1])}
    return {name: weight for name, weight in table.items() if name in names}


def frame_document(truth: Truth, index: int, name: str) -> dict[str, Any]:
    """The dict of one `.frame` (method page 9.1). img_size is height, width."""
    rng = np.random.default_rng(index)
    width, height = truth.size

    def f32(values: Any) -> NDArray[np.float32]:
        return np.asarray(values, np.float32)[None]

    return {
        "flame": {
            "exp": f32(truth.expression[index]),
            "shape": f32(truth.shape),
            "tex": f32(rng.normal(size=140)),
            "sh": f32(rng.normal(size=(9, 3))),
            "eyes": f32(np.concatenate((rows_of(truth.left_eye[index]), rows_of(truth.right_eye[index])))),
            "eyelids": f32(truth.lids[index]),
            "jaw": f32(rows_of(truth.jaw[index])),
        },
        "camera": {
            "R": f32((FLIP @ truth.R[index])[:2].reshape(6)),
            "t": f32(truth.t[index]),
            "fl": f32([truth.K[0, 0] / min(truth.size) * 2]),
            "pp": f32([0.0, 0.0]),
        },
        "opencv": {"R": f32(truth.R[index]), "t": f32(truth.t[index]), "K": f32(truth.K)},
        "img_size": np.array([height, width]),
        "frame_id": name,
        "global_step": 1000 + index,
    }


def write_insta_folder(
    folder: Path,
    reference: TemplateReference,
    *,
    frames: int = 6,
    size: tuple[int, int] = (48, 48),
    high_quality: bool = False,
    legacy: bool = False,
    first_picture: int = 0,
) -> Truth:
    """Write images/, checkpoint/ and transforms*.json into `folder`; size is width, height px.

    high_quality: images.HQ/ with pictures of twice the size as well. legacy: torch's older file format.
    first_picture: number of the first picture; frames count from 0.
    """
    truth = make_truth(reference, frames, size)
    arrays = reference.open()
    faces, colours = all_faces(arrays), vertex_colours(arrays)
    scales = {"images": 1, "images.HQ": 2} if high_quality else {"images": 1}
    for name in (*scales, "checkpoint"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index in range(frames):
        placed = truth.vertices[index] @ truth.R[index].T + truth.t[index]
        for name, scale in scales.items():
            K = truth.K * np.array([[scale], [scale], [1]])
            picture = draw(placed, K, (size[0] * scale, size[1] * scale), faces, colours)
            Image.fromarray(picture).save(folder / name / f"{index + first_picture:05d}.png")
        document = frame_document(truth, index, f"{index:05d}")
        path = folder / "checkpoint" / f"{index:05d}.frame"
        torch.save(document, path, _use_new_zipfile_serialization=not legacy)
    write_transforms(folder, truth, frames, first_picture)
    return truth


def write_transforms(folder: Path, truth: Truth, frames: int, first_picture: int = 0) -> None:
    """INSTA's transforms.json with its train, test (last fifth) and val files."""
    width, height = truth.size
    angles = [float(2 * np.arctan(side / (2 * truth.K[k, k]))) for k, side in enumerate((width, height))]
    top = {
        "w": width,
        "h": height,
        "cx": truth.K[0, 2],
        "cy": truth.K[1, 2],
        "fl_x": truth.K[0, 0],
        "fl_y": truth.K[1, 1],
        "camera_angle_x": angles[0],
        "camera_angle_y": angles[1],
        "x_fov": float(np.degrees(angles[0])),
        "y_fov": float(np.degrees(angles[1])),
        "integer_depth_scale": 0.001,
    }
    entries = []
    for index in range(frames):
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = truth.R[index], truth.t[index]
        stem = f"{index + first_picture:05d}"
        entries.append(
            {
                "transform_matrix": np.linalg.inv(matrix).tolist(),
                "file_path": f"images/{stem}.png",
                "mesh_path": f"meshes/{stem}.obj",
                "exp_path": f"flame/exp/{stem}.txt",
                "depth_path": f"depth/{stem}.png",
                "seg_mask_path": f"seg_mask/{stem}.png",
            }
        )
    held = max(1, frames // 5)
    for name, chosen in (
        ("", entries),
        ("_train", entries[:-held]),
        ("_test", entries[-held:]),
        ("_val", entries[-1:]),
    ):
        (folder / f"transforms{name}.json").write_text(json.dumps(top | {"frames": chosen}), encoding="utf-8")
