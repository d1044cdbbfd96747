"""Recordings in the layouts of other projects, as small as their readers take them, and videos."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.fuzzing.runner import Files
from backend.fuzzing.samples import as_json, frames, npz, numbers, picture, written

FRAMES = 3
SIZE = 16, 8
K = np.array([[20.0, 0, 8], [0, 20, 4], [0, 0, 1]])
OWN_BODY = {"effigy.json": as_json({"template": "effigy_human"})}


def _numbered(folder: str, kind: str, mode: str, count: int = FRAMES) -> dict[str, bytes]:
    suffix = {"PNG": "png", "JPEG": "jpg"}[kind]
    return {f"{folder}/{frame:06d}.{suffix}": picture(kind, mode, SIZE) for frame in range(count)}


def _standing(count: int = FRAMES) -> NDArray[np.float64]:
    """SMPL poses [T, 72] of a body upright before a camera whose y points down, turning a little."""
    poses = np.zeros((count, 72))
    poses[:, 0] = np.pi - 0.02 * np.arange(count)
    return poses


def peoplesnapshot() -> tuple[Files, ...]:
    """InstantAvatar's pre-processing."""
    away = np.tile([0.0, 0.0, 3.2], (FRAMES, 1))
    files: dict[str, bytes] = {**OWN_BODY, **_numbered("images", "PNG", "RGB"), **_numbered("masks", "PNG", "L")}
    files["cameras.npz"] = npz(intrinsic=K, extrinsic=np.eye(4), height=SIZE[1], width=SIZE[0])
    files["poses.npz"] = npz(betas=np.zeros((1, 10)), thetas=_standing(), transl=away)
    return (files,)


def rana() -> tuple[Files, ...]:
    """A subject with ground truth and lights."""
    poses, away = _standing(), np.tile([0.0, 0.0, 3.2], (FRAMES, 1))
    files: dict[str, bytes] = {**OWN_BODY, **_numbered("images", "PNG", "RGB"), **_numbered("masks", "PNG", "L")}
    files |= _numbered("albedos", "PNG", "RGB") | _numbered("normals", "PNG", "RGB")
    camera = {"intrinsic": K.tolist(), "extrinsic": np.eye(4).tolist(), "height": SIZE[1], "width": SIZE[0]}
    files["cameras.json"] = as_json(camera)
    files["poses.npz"] = npz(betas=np.zeros((1, 10)), global_orient=poses[:, :3], body_pose=poses[:, 3:], transl=away)
    files["hdri_files.json"] = as_json(["morning.hdr"] * FRAMES)
    files["hdri/morning.hdr"] = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 4 +X 8\n" + b"\x80" * 128
    return (files,)


def selfrecon() -> tuple[Files, ...]:
    """A synthetic subject."""
    away = np.tile([0.0, 0.0, 3.2], (FRAMES, 1))
    files: dict[str, bytes] = {**OWN_BODY, **_numbered("imgs", "PNG", "RGB"), **_numbered("masks", "PNG", "L")}
    files |= _numbered("normals", "PNG", "RGB")
    files["camera.npz"] = npz(fx=20.0, fy=20.0, cx=8.0, cy=4.0, quat=np.array((1.0, 0, 0, 0)), T=np.zeros(3))
    files["smpl_rec.npz"] = npz(shape=np.zeros(10), poses=_standing().reshape(-1, 24, 3), trans=away)
    return (files,)


@cache
def raw_peoplesnapshot() -> tuple[Files, ...]:
    """PeopleSnapshot as it is handed out: a pickle and two HDF5 files."""
    import h5py

    camera = {"camera_f": np.full(2, 20.0), "camera_c": np.array([8.0, 4.0]), "camera_k": np.zeros(5)}

    def write(folder: Path) -> None:
        with h5py.File(folder / "masks.hdf5", "w") as file:
            masks = np.ones((FRAMES, SIZE[1], SIZE[0]), np.uint8)
            file.create_dataset("masks", data=masks, compression="gzip", chunks=(1, SIZE[1], SIZE[0]))
        with h5py.File(folder / "reconstructed_poses.hdf5", "w") as file:
            file["pose"], file["trans"], file["betas"] = _standing(), np.ones((FRAMES, 3)), np.zeros(10)

    content = pickle.dumps({**camera, "width": SIZE[0], "height": SIZE[1]}, protocol=2)
    return ({**written(write), "camera.pkl": content, **_numbered("images", "PNG", "RGB")},)


def _object_npy(value: Mapping[str, Any]) -> bytes:
    packed = io.BytesIO()
    np.save(packed, np.array(value, dtype=object), allow_pickle=True)
    return packed.getvalue()


def zju() -> tuple[Files, ...]:
    """Four cameras, three frames."""
    count = 4
    turns, places = [], []
    for k in range(count):
        angle = 2 * np.pi * k / count
        forward = np.array((-np.sin(angle), -np.cos(angle), 0.0))
        right = np.cross(forward, (0, 0, 1.0))
        R = np.stack((right, np.cross(forward, right), forward))
        turns.append(R)
        places.append((R @ (forward * 3.2 - (0, 0, 1.0)))[:, None] * 1000)
    names = [[f"Camera_B{k + 1}/{t:06d}.jpg" for k in range(count)] for t in range(FRAMES)]
    cams = {"K": [K.tolist()] * count, "D": [np.zeros((5, 1))] * count, "R": turns, "T": places}
    files: dict[str, bytes] = {
        **OWN_BODY,
        "annots.npy": _object_npy({"cams": cams, "ims": [{"ims": one} for one in names]}),
    }
    files |= {name: picture("JPEG", "RGB", SIZE) for one in names for name in one}
    files |= {f"mask/{name[:-4]}.png": picture("PNG", "L", SIZE) for one in names for name in one}
    body = {"poses": np.zeros((1, 72)), "shapes": np.zeros((1, 10)), "Rh": np.array([[np.pi / 2, 0, 0]])}
    for frame in range(FRAMES):
        files[f"new_params/{frame}.npy"] = _object_npy({**body, "Th": np.array([[0.0, 0, 1]])})
    return (files,)


def body_set() -> tuple[Files, ...]:
    """An AvatarReX folder of one camera."""
    entry = {"K": K.reshape(-1).tolist(), "R": np.eye(3).reshape(-1).tolist(), "T": [0, 0, 3.2]}
    entry |= {"imgSize": list(SIZE), "distCoeff": [0.0] * 5}
    poses = {"global_orient": _standing()[:, :3], "transl": np.zeros((FRAMES, 3)), "body_pose": np.zeros((FRAMES, 63))}
    poses |= {"betas": np.zeros((1, 10)), "expression": np.zeros((FRAMES, 10)), "jaw_pose": np.zeros((FRAMES, 3))}
    files: dict[str, bytes] = {
        **OWN_BODY,
        "calibration_full.json": as_json({"cam0": entry}),
        "smpl_params.npz": npz(**poses),
    }
    files["missing_img_files.txt"] = b"cam0\\00000009.jpg\r\n"
    for frame in range(FRAMES):
        files[f"cam0/{frame:08d}.jpg"] = picture("JPEG", "RGB", SIZE)
        files[f"cam0/mask/pha/{frame:08d}.jpg"] = picture("JPEG", "L", SIZE)
    return (files,)


def nersemble() -> tuple[Files, ...]:
    """A VHAP export of two moments and two cameras."""
    place = np.eye(4)
    place[2, 3] = 1.0
    base = {"w": SIZE[0], "h": SIZE[1], "fl_x": 20.0, "fl_y": 20.0, "cx": 8.0, "cy": 4.0}
    files: dict[str, bytes] = {}
    entries: dict[str, list[dict[str, Any]]] = {"train": [], "val": []}
    for time in range(2):
        zeros = {name: np.zeros((1, 3), np.float32) for name in ("translation", "rotation", "neck_pose", "jaw_pose")}
        arrays = zeros | {"eyes_pose": np.zeros((1, 6), np.float32), "expr": numbers(1, 100), "shape": numbers(300)}
        files[f"flame_param/{time:05d}.npz"] = npz(**arrays, static_offset=np.zeros((1, 5023, 3), np.float32))
        for camera, split in ((3, "train"), (8, "val")):
            stem = f"{time:05d}_{camera:02d}"
            files[f"images/{stem}.png"] = picture("PNG", "RGB", SIZE)
            files[f"fg_masks/{stem}.png"] = picture("PNG", "L", SIZE)
            paths = {"file_path": f"images/{stem}.png", "fg_mask_path": f"fg_masks/{stem}.png"}
            paths["flame_param_path"] = f"flame_param/{time:05d}.npz"
            where = {"timestep_index": time, "camera_index": camera, "transform_matrix": place.tolist()}
            entries[split].append({**base, **paths, **where})
    files |= {f"transforms_{split}.json": as_json({"frames": listed}) for split, listed in entries.items()}
    files["effigy.json"] = as_json({"fps": 25.0, "subject": "nobody"})
    return (files,)


def insta() -> tuple[Files, ...]:
    """INSTA's folder of three frames with metrical-tracker's files beside."""
    content, size = frames()[0]["x.frame"], (128, 128)
    files: dict[str, bytes] = {"effigy.json": as_json({"test_frames": 1, "pairing": "name"})}
    for frame in range(FRAMES):
        files[f"checkpoint/{frame:05d}.frame"] = content
        files[f"images/{frame:05d}.png"] = picture("PNG", "RGBA", size)
    return (files,)


@cache
def videos() -> tuple[Files, ...]:
    """Four pictures of noise as .mp4, .webm, .avi and .gif. Raises ImportError where the package is missing."""
    import imageio_ffmpeg

    def write(folder: Path) -> None:
        kinds: Mapping[str, dict[str, Any]] = {
            "mp4": {},
            "webm": {"codec": "libvpx-vp9", "output_params": ["-crf", "40", "-loglevel", "quiet"]},
            "avi": {"codec": "mjpeg", "pix_fmt_out": "yuvj420p"},
            "gif": {"codec": "gif", "pix_fmt_out": "rgb8"},
        }
        for kind, options in kinds.items():
            stream = imageio_ffmpeg.write_frames(str(folder / f"x.{kind}"), (96, 96), fps=10, **options)
            stream.send(None)
            for number in range(4):
                pixels = np.random.default_rng(number).integers(0, 255, (96, 96, 3), np.uint8)
                stream.send(pixels.tobytes())
            stream.close()

    return tuple({name: content} for name, content in written(write).items())


def clip_folder() -> tuple[Files, ...]:
    """A folder of pictures to be tracked, one with a lens told in its Exif."""
    from PIL import Image

    packed, exif = io.BytesIO(), Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 26
    Image.fromarray(np.full((96, 96, 3), 90, np.uint8)).save(packed, "JPEG", exif=exif)
    return ({"0.jpg": packed.getvalue(), "1.jpg": packed.getvalue()},)
