"""Writes ZJU-MoCap, MonoCap and SelfRecon folders of the open body in those data sets' own conventions.

Nothing is shared with the readers: the body is skinned in SMPL's axes and turned about the origin, cameras are in
millimetres with pixel centres at whole numbers, and files are Python pickles as the authors write them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avatars.templates.opening import embedded_template
from avatars.templates.template import triangles_of
from shared.template import rest, rotation_matrices
from tests.body_layouts import SIZE, SMPL_FROM_MODEL, log, performance, pictures, skinned, vertex_normals
from tests.mesh_pictures import draw

Floats = NDArray[np.float64]
UPRIGHT = np.array(((1.0, 0, 0), (0, 0, -1), (0, 1, 0)))
"""SMPL's y up to a world with z up."""


@dataclass(frozen=True, eq=False)
class Studio:
    """vertices [T, V, 3] m in the file's world; matrices [C, 4, 4] camera_from_world m; K [3, 3] as in the file."""

    vertices: Floats
    matrices: Floats
    K: Floats


def write_zju(folder: Path, *, frames: int = 6, cameras: int = 4, millimetres: float = 1000.0) -> Studio:
    """A CoreView folder. Half of each mask is in `mask`, the other in `mask_cihp`, both with labels."""
    studio, parameters, drawn = _studio(frames, cameras)
    _annots(folder, studio, millimetres, lambda k, t: f"Camera_B{k + 1}/{t:06d}.jpg")
    for (camera, frame), rgba in drawn.items():
        name = f"Camera_B{camera + 1}/{frame:06d}"
        _save(folder / f"{name}.jpg", rgba[..., :3])
        half = np.arange(SIZE[1])[:, None] < SIZE[1] // 2
        covered = rgba[..., 3] > 127
        _save(folder / "mask" / f"{name}.png", np.where(covered & half, 1, 0).astype(np.uint8))
        _save(folder / "mask_cihp" / f"{name}.png", np.where(covered & ~half, 13, 0).astype(np.uint8))
    _parameters(folder / "new_params", parameters, 0)
    return studio


def write_monocap(folder: Path, *, frames: int = 6, cameras: int = 4) -> Studio:
    """An `olek`-like folder: pictures in images/, masks in mask/, parameters counted from 1."""
    studio, parameters, drawn = _studio(frames, cameras)
    _annots(folder, studio, 1000.0, lambda k, t: f"images/{k:02d}/{t:06d}.jpg")
    for (camera, frame), rgba in drawn.items():
        _save(folder / f"images/{camera:02d}/{frame:06d}.jpg", rgba[..., :3])
        _save(folder / f"mask/{camera:02d}/{frame:06d}.png", rgba[..., 3])
    _parameters(folder / "params", parameters, 1)
    return studio


def write_selfrecon(folder: Path, frames: int = 5) -> Floats:
    """A person before a still camera. Returns vertices [T, V, 3] m in its axes."""
    written = performance(frames)
    arrays = embedded_template("body")
    faces = triangles_of(arrays.faces["skin"], arrays.uv_faces["skin"])[0]
    K = written.K
    folder.mkdir(parents=True)
    np.savez(
        folder / "camera.npz",
        **{"fx": K[0, 0], "fy": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]},
        quat=np.array((1.0, 0, 0, 0)),
        T=np.zeros(3),
    )
    np.savez(folder / "smpl_rec.npz", shape=written.betas, poses=written.thetas.reshape(-1, 24, 3), trans=written.trans)
    for frame, picture in enumerate(pictures(written)):
        shown = draw(
            written.vertices[frame], K, SIZE, faces, vertex_normals(written.vertices[frame], faces) * 0.5 + 0.5
        )
        _save(folder / "imgs" / f"{frame:06d}.png", picture[..., :3])
        _save(folder / "masks" / f"{frame:06d}.png", picture[..., 3])
        _save(folder / "normals" / f"{frame:06d}.png", shown[..., :3])
    write_options(folder)
    return written.vertices


def write_options(folder: Path, **more: Any) -> None:
    """Say that the shape is the open body's."""
    (folder / "effigy.json").write_text(json.dumps({"template": "effigy_human", **more}))


def _studio(frames: int, cameras: int) -> tuple[Studio, list[dict[str, Floats]], dict[tuple[int, int], Any]]:
    arrays = embedded_template("body")
    betas = np.random.default_rng(3).normal(0, 0.5, 10)
    vertices, joints = rest(arrays, shape=betas)
    v, J = vertices.astype(np.float64) @ SMPL_FROM_MODEL.T, joints.astype(np.float64) @ SMPL_FROM_MODEL.T
    faces = triangles_of(arrays.faces["skin"], arrays.uv_faces["skin"])[0]
    colours = 0.5 + 0.3 * np.sin(12 * arrays.vertices.astype(np.float64))
    posed, parameters = [], []
    for frame in range(frames):
        theta = np.zeros((24, 3))
        theta[16, 2], theta[17, 2] = -0.8 + 0.1 * frame, 0.7
        theta[1, 0] = 0.15 * frame
        R = UPRIGHT @ rotation_matrices(np.array((0.0, 0.4 * frame, 0.0)))
        Th = np.array((0.1 * frame, 0.3, 0.2)) - R @ (0, J[0, 1], 0) + (0, 0, 1)
        body = skinned(v, J, arrays.weights, arrays.parents, theta, np.zeros(3))
        posed.append(body @ R.T + Th)  # about the origin of the model
        parameters.append({"poses": theta.reshape(1, 72), "shapes": betas[None], "Rh": log(R)[None], "Th": Th[None]})
    middle = np.mean([(one.min(0) + one.max(0)) / 2 for one in posed], 0)
    matrices = np.stack([_looking_at(middle, 2 * np.pi * k / cameras + 0.2) for k in range(cameras)])
    K = np.array(((170.0, 0, SIZE[0] / 2 - 3), (0, 168.0, SIZE[1] / 2 + 2), (0, 0, 1)))
    studio = Studio(np.stack(posed), matrices, K)
    ours = K + np.array(((0, 0, 0.5), (0, 0, 0.5), (0, 0, 0)))
    drawn = {
        (k, t): draw(posed[t] @ matrices[k, :3, :3].T + matrices[k, :3, 3], ours, SIZE, faces, colours)
        for k in range(cameras)
        for t in range(frames)
    }
    return studio, parameters, drawn


def _looking_at(middle: Floats, angle: float) -> Floats:
    forward = np.array((-np.sin(angle), -np.cos(angle), 0.0))
    right = np.cross(forward, (0, 0, 1.0))
    R = np.stack((right, np.cross(forward, right), forward))
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = R, -R @ (middle - 3.6 * forward)
    return matrix


def _annots(folder: Path, studio: Studio, millimetres: float, name: Any) -> None:
    folder.mkdir(parents=True)
    many, frames = len(studio.matrices), len(studio.vertices)
    cams = {
        "K": [studio.K.tolist()] * many,
        "D": [np.zeros((5, 1))] * many,
        "R": [one[:3, :3] for one in studio.matrices],
        "T": [one[:3, 3:] * millimetres for one in studio.matrices],
    }
    ims = [{"ims": [name(k, t) for k in range(many)], "kpts2d": np.zeros((many, 25, 3))} for t in range(frames)]
    np.save(folder / "annots.npy", np.array({"cams": cams, "ims": ims}, dtype=object), allow_pickle=True)
    write_options(folder)


def _parameters(folder: Path, parameters: list[dict[str, Floats]], first: int) -> None:
    folder.mkdir()
    for number, values in enumerate(parameters, first):
        content = {key: value.astype(np.float32) for key, value in values.items()}
        np.save(folder / f"{number}.npy", np.array(content, dtype=object), allow_pickle=True)


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **({"quality": 98} if path.suffix == ".jpg" else {}))
