"""Writes PeopleSnapshot and RANA folders of the open body, in those programs' own conventions.

Nothing here is shared with the readers: everything is computed in the file's world, OpenCV camera axes with y down.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avatars.templates.opening import embedded_template
from avatars.templates.template import triangles_of
from shared.template import rest, rotation_matrices
from tests.mesh_pictures import draw

SMPL_FROM_MODEL = np.array(((1.0, 0, 0), (0, 0, 1), (0, -1, 0)))
SIZE, FOCAL = (96, 128), 170.0


@dataclass(frozen=True, eq=False)
class Written:
    """vertices [T, V, 3] m in the camera's axes; K [3, 3] px; thetas [T, 72]; trans [T, 3]; betas [10]."""

    vertices: NDArray[np.float64]
    K: NDArray[np.float64]
    thetas: NDArray[np.float64]
    trans: NDArray[np.float64]
    betas: NDArray[np.float64]


def performance(frames: int, seed: int = 0) -> Written:
    """An A-pose person turning round before the camera, skinned here in SMPL's axes."""
    rng = np.random.default_rng(seed)
    arrays = embedded_template("body")
    betas = rng.normal(0, 0.5, 10)
    vertices, joints = rest(arrays, shape=betas)
    v, J = vertices.astype(np.float64) @ SMPL_FROM_MODEL.T, joints.astype(np.float64) @ SMPL_FROM_MODEL.T
    thetas, trans = np.zeros((frames, 24, 3)), np.zeros((frames, 3))
    half_turn = np.diag((1.0, -1.0, -1.0))  # y up to y down, facing the camera
    for t in range(frames):
        yaw = 2 * np.pi * t / frames
        R = half_turn @ rotation_matrices(np.array((0.0, yaw, 0.0)))
        thetas[t, 0] = log(R)
        thetas[t, 16, 2], thetas[t, 17, 2] = -0.8 + 0.1 * np.sin(yaw), 0.8
        thetas[t, 1, 2], thetas[t, 2, 2] = -0.1, 0.1
        trans[t] = np.array((0.05 * np.sin(yaw), 0.0, 3.2)) - (0, J[0, 1], J[0, 2])
    posed = np.stack([skinned(v, J, arrays.weights, arrays.parents, thetas[t], trans[t]) for t in range(frames)])
    K = np.array(((FOCAL, 0, SIZE[0] / 2), (0, FOCAL, SIZE[1] / 2), (0, 0, 1.0)))
    return Written(posed, K, thetas.reshape(frames, 72), trans, betas)


def log(R: NDArray[np.float64]) -> NDArray[np.float64]:
    """Axis-angle of a rotation matrix, half turns included, by its eigenvector."""
    values, vectors = np.linalg.eig(R)
    axis = np.real(vectors[:, np.argmin(np.abs(values - 1))])
    axis /= np.linalg.norm(axis)
    angle = np.arccos(np.clip((np.trace(R) - 1) / 2, -1, 1))
    best = min((angle, -angle), key=lambda a: np.abs(rotation_matrices(axis * a) - R).max())
    return axis * best


def skinned(
    v: NDArray[np.float64],
    J: NDArray[np.float64],
    weights: NDArray[np.float32],
    parents: NDArray[np.int32],
    theta: NDArray[np.float64],
    trans: NDArray[np.float64],
) -> NDArray[np.float64]:
    """SMPL's skinning in its own axes; the open body's other joints stay at rest."""
    turns = np.tile(np.eye(3), (len(J), 1, 1))
    turns[:22] = rotation_matrices(theta[:22])
    world = np.tile(np.eye(4), (len(J), 1, 1))
    for j, p in enumerate(parents):
        local = np.eye(4)
        local[:3, :3], local[:3, 3] = turns[j], J[j] - (J[p] if p >= 0 else 0)
        world[j] = local if p < 0 else world[p] @ local
    world[:, :3, 3] += trans - np.einsum("jab,jb->ja", world[:, :3, :3], J)
    blended = np.einsum("vj,jab->vab", weights, world)
    return np.einsum("vab,vb->va", blended[:, :3, :3], v) + blended[:, :3, 3]


def pictures(written: Written) -> list[NDArray[np.uint8]]:
    """RGBA pictures [H, W, 4] of each frame."""
    arrays = embedded_template("body")
    faces = triangles_of(arrays.faces["skin"], arrays.uv_faces["skin"])[0]
    colours = 0.5 + 0.3 * np.sin(12 * arrays.vertices.astype(np.float64))
    return [draw(vertices, written.K, SIZE, faces, colours) for vertices in written.vertices]


def options(folder: Path) -> None:
    """Say that the betas are those of the open body."""
    (folder / "effigy.json").write_text(json.dumps({"template": "effigy_human"}))


def write_peoplesnapshot(folder: Path, frames: int = 5) -> Written:
    """The pre-processed layout."""
    written = performance(frames)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    np.savez(folder / "cameras.npz", intrinsic=written.K, extrinsic=np.eye(4), height=SIZE[1], width=SIZE[0])
    np.savez(folder / "poses.npz", betas=written.betas[None], thetas=written.thetas, transl=written.trans)
    for frame, picture in enumerate(pictures(written)):
        Image.fromarray(picture[..., :3]).save(folder / "images" / f"image_{frame:04d}.png")
        np.save(folder / "masks" / f"mask_{frame:04d}.npy", (picture[..., 3] > 127).astype(np.uint8))
    options(folder)
    return written


def write_raw_peoplesnapshot(folder: Path, frames: int = 4, distortion: float = 0.0) -> Written:
    """The layout as handed out, with pictures in place of the video."""
    import h5py

    written = performance(frames)
    (folder / "images").mkdir(parents=True)
    camera = {
        "camera_f": np.full(2, FOCAL),
        "camera_c": np.array(SIZE) / 2,
        "camera_k": np.array((distortion, 0, 0, 0, 0.0)),
        "camera_rt": np.zeros(3),
        "camera_t": np.zeros(3),
        "width": SIZE[0],
        "height": SIZE[1],
    }
    (folder / "camera.pkl").write_bytes(pickle.dumps(camera, protocol=2))
    drawn = pictures(written)
    with h5py.File(folder / "masks.hdf5", "w") as file:
        file["masks"] = np.stack([picture[..., 3] > 127 for picture in drawn]).astype(np.uint8)
    with h5py.File(folder / "reconstructed_poses.hdf5", "w") as file:
        file["pose"], file["trans"], file["betas"] = written.thetas, written.trans, written.betas
    for frame, picture in enumerate(drawn):
        Image.fromarray(picture[..., :3]).save(folder / "images" / f"{frame:06d}.png")
    return written


def write_rana(root: Path, frames: int = 5, subject: str = "subject_01") -> Written:
    """train_p1 and test of one subject, and the lights."""
    written = performance(frames)
    arrays = embedded_template("body")
    faces = triangles_of(arrays.faces["skin"], arrays.uv_faces["skin"])[0]
    drawn = pictures(written)
    (root / "hdri").mkdir(parents=True)
    for name in ("morning.hdr", "evening.hdr"):
        (root / "hdri" / name).write_bytes(flat_hdr(np.full((4, 8, 3), 0.5, np.float32)))
    for split in ("train_p1", "test"):
        folder = root / split / subject
        for name in ("images", "albedos", "normals", "masks"):
            (folder / name).mkdir(parents=True)
        camera = {"intrinsic": written.K.tolist(), "extrinsic": np.eye(4).tolist(), "height": SIZE[1], "width": SIZE[0]}
        (folder / "cameras.json").write_text(json.dumps(camera))
        np.savez(
            folder / "poses.npz",
            betas=written.betas[None],
            global_orient=written.thetas[:, :3],
            body_pose=written.thetas[:, 3:],
            transl=written.trans,
        )
        for frame, picture in enumerate(drawn):
            normals = vertex_normals(written.vertices[frame], faces)
            shown = draw(written.vertices[frame], written.K, SIZE, faces, normals * 0.5 + 0.5)
            Image.fromarray(picture[..., :3]).save(folder / "images" / f"image_{frame:04d}.png")
            Image.fromarray(picture[..., :3] // 2).save(folder / "albedos" / f"albedo_{frame:04d}.png")
            Image.fromarray(shown[..., :3]).save(folder / "normals" / f"normal_{frame:04d}.png")
            np.save(folder / "masks" / f"mask_{frame:04d}.npy", (picture[..., 3] > 127).astype(np.uint8))
        if split == "test":
            names = [("morning.hdr", "evening.hdr")[frame % 2] for frame in range(frames)]
            (folder / "hdri_files.json").write_text(json.dumps(names))
        options(folder)
    return written


def vertex_normals(vertices: NDArray[np.float64], faces: NDArray[np.int32]) -> NDArray[np.float64]:
    """Unit outward normals [V, 3]."""
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    summed = np.zeros_like(vertices)
    np.add.at(summed, faces, across[:, None])
    return summed / np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-12)


def flat_hdr(radiance: NDArray[np.float32]) -> bytes:
    """A Radiance picture without run lengths."""
    height, width, _ = radiance.shape
    brightest = radiance.max(-1).astype(np.float64)
    exponent = np.where(brightest > 1e-32, np.ceil(np.log2(np.maximum(brightest, 1e-32)) + 1e-9), -128)
    mantissa = np.floor(radiance / np.exp2(exponent)[..., None] * 256).clip(0, 255)
    rgbe = np.concatenate((mantissa, (exponent + 128)[..., None]), -1).astype(np.uint8)
    rgbe[brightest <= 1e-32] = 0
    return b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n" + f"-Y {height} +X {width}\n".encode() + rgbe.tobytes()
