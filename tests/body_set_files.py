"""Writes AvatarReX, THuman4.0 and ActorsHQ folders of the open human, with masks drawn through the written cameras.

Everything is computed in the files' own axes (SMPL's: y up at rest, facing +z) and shares no conversion with the
readers. The world may be turned, as AvatarReX's is upside down.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.template import TemplateArrays, load_template, rest, rotation_matrices
from tests.mesh_pictures import draw, vertex_colours

Floats = NDArray[np.float64]
TO_SMPL = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # (x, y, z) -> (x, z, -y)
PRESET = "man"
LENS = (-0.11, 0.03, 0.002, -0.001, 0.0)


@dataclass(frozen=True, eq=False)
class Truth:
    """What was written: the folder to open, vertices [T, V, 3] m in the file's world, skin rows, cameras by name."""

    folder: Path
    vertices: Floats
    skin: NDArray[np.int64]
    cameras: dict[str, tuple[Floats, Floats]]  # camera_from_world [4, 4], K [3, 3]
    size: tuple[int, int]
    parameters: dict[str, NDArray[np.float32]]


@lru_cache(maxsize=1)
def _body() -> tuple[TemplateArrays, Floats, Floats, NDArray[np.int32], Floats]:
    """Template, rest vertices and joints in SMPL's axes, triangles of the skin, colours."""
    t = load_template()
    vertices, joints = rest(t, preset=PRESET)
    quads = t.faces["skin"]
    faces = np.concatenate((quads[:, :3], quads[:, [0, 2, 3]]))
    return t, vertices @ TO_SMPL.T, joints @ TO_SMPL.T, faces, vertex_colours(t)


def parameters(frames: int, world: Floats, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """smpl_params.npz of somebody who swings arms and legs in a turned world [3, 3]."""
    rng = np.random.default_rng(seed)
    phase = 2 * np.pi * np.arange(frames) / max(frames, 1)
    body = np.zeros((frames, 21, 3), np.float32)
    for joint, axis, amount in ((0, 0, 0.4), (1, 0, -0.4), (15, 2, -0.9), (16, 2, 0.9), (17, 1, -0.5), (2, 1, 0.2)):
        body[:, joint, axis] = amount * (1 + 0.5 * np.sin(phase + joint))
    orient = np.stack([_rotvec(world @ rotation_matrices([0.0, 0.6 * np.sin(p), 0.0])) for p in phase])
    return {
        "betas": rng.normal(0, 1, (1, 10)).astype(np.float32),
        "global_orient": orient.astype(np.float32),
        "transl": (np.stack([0.1 * np.sin(phase), 0 * phase, 0.2 + 0 * phase], 1) @ world.T).astype(np.float32),
        "body_pose": body.reshape(frames, 63),
        "jaw_pose": np.full((frames, 3), 0.05, np.float32),
        "expression": np.zeros((frames, 10), np.float32),
        "left_hand_pose": np.full((frames, 45), 0.1, np.float32),
        "right_hand_pose": np.full((frames, 45), -0.1, np.float32),
    }


def posed(values: dict[str, NDArray[np.float32]], frame: int) -> Floats:
    """Vertices [V, 3] m in the file's world: the pelvis turns in its place, then everything is moved."""
    t, vertices, joints, _, _ = _body()
    pose = np.zeros((55, 3))
    pose[0], pose[1:22] = values["global_orient"][frame], values["body_pose"][frame].reshape(21, 3)
    pose[22] = values["jaw_pose"][frame]
    pose[25:40] = values["left_hand_pose"][frame].reshape(15, 3)
    pose[40:] = values["right_hand_pose"][frame].reshape(15, 3)
    world: list[Floats] = []
    moved = np.zeros((len(vertices), 3))
    for k, turn in enumerate(rotation_matrices(pose)):
        local = np.eye(4)
        parent = int(t.parents[k])
        local[:3, :3], local[:3, 3] = turn, joints[k] - (joints[parent] if k else 0)
        world.append(local if k == 0 else world[parent] @ local)
        own = (vertices - joints[k]) @ world[k][:3, :3].T + world[k][:3, 3]
        moved += t.weights[:, k : k + 1] * own
    return moved + values["transl"][frame]


def ring(count: int, size: tuple[int, int], world: Floats) -> dict[str, tuple[Floats, Floats]]:
    """Cameras around the body, upright in the turned world, with an off-centre axis and unequal focal lengths."""
    found = {}
    for k in range(count):
        angle = 2 * np.pi * k / count + 0.3
        place = np.array([3.2 * np.sin(angle), 0.4 * np.cos(3 * angle), 3.2 * np.cos(angle) + 0.2])
        forward = np.array([0.0, 0.0, 0.2]) - place
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 1.0, 0.0])
        right /= np.linalg.norm(right)
        rotation = np.stack((right, np.cross(forward, right), forward)) @ world.T
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ (world @ place)
        width, height = size
        focal = 1.25 * min(size)
        K = np.array([[focal, 0, width / 2 + 2.5], [0, 1.02 * focal, height / 2 - 1.5], [0, 0, 1]])
        found[f"cam{k:02d}"] = matrix, K
    return found


def write_avatarrex(folder: Path, *, frames: int = 4, cameras: int = 3, lens: bool = False) -> Truth:
    """An AvatarReX folder in an upside-down world; with `lens` its first camera bends lines. One picture is lost."""
    world = np.diag([1.0, -1.0, -1.0])
    truth = _truth(folder, frames, cameras, (96, 128), world)
    _calibration(folder / "calibration_full.json", truth, lens)
    for k, (name, frame, drawn) in enumerate(_pictures(truth)):
        rgba = bent(drawn, truth.cameras[name][1]) if lens and name == "cam00" else drawn
        if k == 1:
            (folder / "missing_img_files.txt").write_text(f"{name}\\{frame:08d}.jpg\r\n", encoding="ascii")
        _save(folder / name / f"{frame:08d}.jpg", rgba[..., :3])
        _save(folder / name / "mask" / "pha" / f"{frame:08d}.jpg", rgba[..., 3])
    return truth


def write_thuman4(folder: Path, *, frames: int = 4, cameras: int = 3) -> Truth:
    """A THuman4.0 folder; the last camera lacks its last picture and the mask of its first."""
    truth = _truth(folder, frames, cameras, (104, 90), np.eye(3))
    _calibration(folder / "calibration.json", truth, False)
    for name, frame, rgba in _pictures(truth):
        last = name == f"cam{cameras - 1:02d}"
        if not (last and frame == frames - 1):
            _save(folder / "images" / name / f"{frame:08d}.jpg", rgba[..., :3])
        if not (last and frame == 0):
            _save(folder / "masks" / name / f"{frame:08d}.jpg", rgba[..., 3])
    return truth


def write_actorshq(folder: Path, *, frames: int = 4, cameras: int = 3, scale: str = "4x") -> Truth:
    """Actor00/Sequence1/4x in `folder`, parameters at the actor; every second camera stands upright. Open the actor."""
    actor = folder / "Actor00"
    place = actor / "Sequence1" / scale
    truth = _truth(actor, frames, cameras, (128, 94), np.eye(3))
    rows = []
    for k, (name, (matrix, lens)) in enumerate(list(truth.cameras.items())):
        width, height = truth.size if k % 2 == 0 else truth.size[::-1]
        K = lens.copy()
        K[:2, 2] = width / 2 + 2.5, height / 2 - 1.5
        truth.cameras[name] = matrix, K
        back = np.linalg.inv(matrix)
        inside = [K[0, 0] / width, K[1, 1] / height, K[0, 2] / width, K[1, 2] / height]
        rows.append([f"Cam{k + 1:03d}", width, height, *_rotvec(back[:3, :3]), *back[:3, 3], *inside])
    for name, frame, rgba in _pictures(truth):
        own = f"Cam{int(name[3:]) + 1:03d}"
        black = (rgba[..., :3] * (rgba[..., 3:] / 255.0)).astype(np.uint8)
        _save(place / "rgbs" / own / f"{own}_rgb{frame:06d}.jpg", black)
        _save(place / "masks" / own / f"{own}_mask{frame:06d}.png", rgba[..., 3])
    with (place / "calibration.csv").open("w", newline="", encoding="ascii") as stream:
        writer = csv.writer(stream)
        writer.writerow(["name", "w", "h", "rx", "ry", "rz", "tx", "ty", "tz", "fx", "fy", "px", "py"])
        writer.writerows(rows)
    return truth


def bent(image: NDArray[np.uint8], K: Floats) -> NDArray[np.uint8]:
    """`image` as a lens with LENS would have taken it (nearest pixel; the inverse of the lens by iteration)."""
    k1, k2, p1, p2, _ = LENS
    height, width = image.shape[:2]
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    seen_x, seen_y = (column - K[0, 2]) / K[0, 0], (row - K[1, 2]) / K[1, 1]
    x, y = seen_x.copy(), seen_y.copy()
    for _ in range(30):
        squared = x * x + y * y
        radial = 1 + k1 * squared + k2 * squared**2
        x = (seen_x - 2 * p1 * x * y - p2 * (squared + 2 * x * x)) / radial
        y = (seen_y - p1 * (squared + 2 * y * y) - 2 * p2 * x * y) / radial
    column = np.clip(np.rint(x * K[0, 0] + K[0, 2]), 0, width - 1).astype(int)
    row = np.clip(np.rint(y * K[1, 1] + K[1, 2]), 0, height - 1).astype(int)
    return image[row, column]


def _truth(folder: Path, frames: int, cameras: int, size: tuple[int, int], world: Floats) -> Truth:
    folder.mkdir(parents=True)
    values = parameters(frames, world)
    np.savez(folder / "smpl_params.npz", **values)
    (folder / "effigy.json").write_text(json.dumps({"template": "effigy_human", "preset": PRESET}), encoding="ascii")
    t = _body()[0]
    vertices = np.stack([posed(values, frame) for frame in range(frames)])
    return Truth(folder, vertices, t.group_vertices("skin").astype(np.int64), ring(cameras, size, world), size, values)


def _pictures(truth: Truth) -> Any:
    _, _, _, faces, colours = _body()
    for name, (matrix, K) in truth.cameras.items():
        turned = abs(K[0, 2] - truth.size[0] / 2) > 10  # a camera on its side has the size the other way round
        size = truth.size[::-1] if turned else truth.size
        for frame, vertices in enumerate(truth.vertices):
            seen = vertices @ matrix[:3, :3].T + matrix[:3, 3]
            yield name, frame, draw(seen, K, size, faces, colours)


def _calibration(path: Path, truth: Truth, lens: bool) -> None:
    entries = {
        name: {
            "K": K.ravel().tolist(),
            "R": matrix[:3, :3].ravel().tolist(),
            "T": matrix[:3, 3].tolist(),
            "distCoeff": list(LENS) if lens and k == 0 else [0.0] * 5,
            "imgSize": list(truth.size),
        }
        for k, (name, (matrix, K)) in enumerate(truth.cameras.items())
    }
    path.write_text(json.dumps(entries), encoding="ascii")


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **({"quality": 98} if path.suffix == ".jpg" else {}))


def _rotvec(matrix: Floats) -> Floats:
    """Axis-angle [3] rad of a rotation, also of half turns."""
    from scipy.spatial.transform import Rotation

    vector: Floats = Rotation.from_matrix(matrix).as_rotvec()
    return vector
