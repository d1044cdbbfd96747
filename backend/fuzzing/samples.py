"""Small valid files of every kind that is read, made anew each time: what the fuzzer damages."""

from __future__ import annotations

import csv
import io
import json
import pickle
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.fuzzing.runner import Files

FRAMES = 3
RNG_SEED = 7


def numbers(*shape: int, scale: float = 0.1) -> NDArray[np.float32]:
    """The same small numbers every time."""
    return (np.random.default_rng(RNG_SEED).normal(size=shape) * scale).astype(np.float32)


def npz(**arrays: Any) -> bytes:
    """The bytes of an .npz."""
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    return packed.getvalue()


def npy(array: NDArray[Any]) -> bytes:
    """The bytes of an .npy."""
    packed = io.BytesIO()
    np.save(packed, array)
    return packed.getvalue()


def picture(kind: str, mode: str = "RGBA", size: tuple[int, int] = (16, 8)) -> bytes:
    """The bytes of a picture. kind: PIL's name of the format."""
    packed = io.BytesIO()
    pixels = np.random.default_rng(RNG_SEED).integers(0, 256, (size[1], size[0], len(mode)), np.uint8)
    Image.fromarray(pixels if len(mode) > 1 else pixels[..., 0], mode).save(packed, kind)
    return packed.getvalue()


def as_json(value: Any) -> bytes:
    """JSON text."""
    return json.dumps(value).encode()


def written(write: Callable[[Path], Any], *names: str) -> Files:
    """What `write` leaves in an empty folder; names: only those, all where none is given."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(folder)
        found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        return {name: path.read_bytes() for name, path in found.items() if not names or name in names}


@cache
def effigy_capture() -> tuple[Files, ...]:
    """Three pictures of the embedded head."""
    from avatars.templates.opening import TemplateReference, embedded_template

    arrays = embedded_template("bust")
    reference = TemplateReference(arrays.template_id, arrays.digest, "bust", "man")
    joints, expressions = len(arrays.joint_names), len(arrays.expression_names)
    camera = np.eye(4)
    camera[:3, :3] = ((1, 0, 0), (0, 0, 1), (0, -1, 0))
    camera[1, 3], camera[2, 3] = -1.0, 1.6
    document = {
        "format": "effigy-capture",
        "version": 1,
        "name": "tiny",
        "kind": "head",
        "subject": "nobody",
        "licence": "CC0-1.0",
        "synthetic": True,
        "template": reference.as_json(),
        "joint_names": list(arrays.joint_names),
        "expression_names": list(arrays.expression_names),
        "width_px": 16,
        "height_px": 8,
        "fps": 25.0,
        "cameras": [{"name": "front"}],
        "images": [
            {"file": f"images/{frame}.png", "camera": 0, "frame": frame, "split": split}
            for frame, split in enumerate(("train", "train", "test"))
        ],
    }
    files: dict[str, bytes] = {"capture.json": as_json(document)}
    files["parameters.npz"] = npz(
        rotations=np.zeros((FRAMES, joints, 3), np.float32),
        translations=np.zeros((FRAMES, 3), np.float32),
        expressions=np.zeros((FRAMES, expressions), np.float32),
        K=np.array([[[20.0, 0, 8], [0, 20, 4], [0, 0, 1]]]),
        world_from_camera=camera[None],
    )
    files["environment.npz"] = npz(radiance=np.ones((4, 8, 3), np.float32))
    files |= {f"images/{frame}.png": picture("PNG") for frame in range(FRAMES)}
    return (files,)


@cache
def avatar_folder() -> tuple[Files, ...]:
    """An untrained head of the embedded template."""
    from avatars.avatar_folder import About, save_avatar
    from avatars.rgb_head.avatar import RgbHeadAvatar
    from avatars.rgb_head.initial import RgbHeadConfig, new_head
    from avatars.templates.opening import TemplateReference, embedded_template

    arrays = embedded_template("bust")
    reference = TemplateReference(arrays.template_id, arrays.digest, "bust", "man")
    config = RgbHeadConfig(density={"skin": 1.0}, target_gaussians=60, blendshapes=2, hidden=4)
    avatar = RgbHeadAvatar(new_head(reference, config, seed=0))
    preview = np.zeros((8, 8, 4), np.uint8)
    about = About(name="tiny", licence="CC0-1.0")
    return (written(lambda folder: save_avatar(folder / "tiny.avatar", avatar, about, preview)),)


def avatar_parts() -> tuple[Files, ...]:
    """The same without its digests: description and weights that a stranger made to agree with any digest."""
    files = avatar_folder()[0]
    document = json.loads(files["tiny.avatar/avatar.json"])
    shown = {key: document[key] for key in ("method", "template", "model")}
    return ({"parts.json": as_json(shown), "weights.safetensors": files["tiny.avatar/weights.safetensors"]},)


def checkpoint() -> tuple[Files, ...]:
    """One checkpoint of a few numbers."""
    import torch

    from avatars.training.checkpoint import Checkpoint, save_checkpoint

    tensors = {"a": torch.arange(12.0).reshape(3, 4), "b": torch.zeros(2, dtype=torch.int64)}
    made = Checkpoint(tensors, {"images": 7, "config": {"seed": 1}, "text": "x"})
    return (written(lambda folder: save_checkpoint(folder, made, 7)),)


def splats() -> tuple[Files, ...]:
    """The same few Gaussians as PLY and SPZ."""
    from avatars.formats.splat_ply import write_splat_ply
    from avatars.formats.splats import Splats
    from avatars.formats.spz import write_spz

    cloud = Splats(numbers(5, 3), numbers(5, 4) + 1, numbers(5, 3) - 4, numbers(5), numbers(5, 4, 3))

    def write(folder: Path) -> None:
        write_splat_ply(folder / "x.ply", cloud)
        write_spz(folder / "x.spz", cloud)

    return (written(write),)


@cache
def environments() -> tuple[Files, ...]:
    """A light as .hdr (flat and run-length coded), .exr, .png and .jpg."""
    from avatars.lighting.environment_files import write_exr

    head = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\nEXPOSURE=1.0\n\n-Y 4 +X 8\n"
    row = b"\x02\x02\x00\x08" + 4 * b"\x88\x80"
    exr = written(lambda folder: write_exr(folder / "x.exr", numbers(4, 8, 3) ** 2))
    return tuple(
        {f"x{suffix}": content}
        for suffix, content in (
            (".hdr", head + b"\x80" * 128),
            (".hdr", head + 4 * row),
            (".exr", exr["x.exr"]),
            (".png", picture("PNG", "RGB")),
            (".jpg", picture("JPEG", "RGB")),
        )
    )


def pictures() -> tuple[Files, ...]:
    """Pictures as captures have them, and masks."""
    kinds = (("png", "PNG", "RGBA"), ("jpg", "JPEG", "RGB"), ("webp", "WEBP", "RGBA"), ("tif", "TIFF", "RGB"))
    found: list[Files] = [
        {f"x.{suffix}": picture(kind, mode)} for suffix, kind, mode in (*kinds, ("bmp", "BMP", "RGB"))
    ]
    return (*found, {"x.npy": npy(np.linspace(0, 1, 128).reshape(8, 16))})


def pickles() -> tuple[Files, ...]:
    """Arrays in pickles of several protocols, as body models and motions come."""
    content = {
        "v": numbers(4, 3),
        "f": np.arange(6).reshape(2, 3),
        "names": ["a", "b"],
        "more": {"x": 1.5, "y": (1, 2)},
    }
    return tuple({"x.pkl": pickle.dumps(content, protocol)} for protocol in (0, 2, 4, 5))


def aist() -> tuple[Files, ...]:
    """An AIST++ motion."""
    content = {"smpl_poses": numbers(FRAMES, 72), "smpl_trans": numbers(FRAMES, 3), "smpl_scaling": np.ones(1)}
    return ({"x.pkl": pickle.dumps(content, 4)},)


@cache
def frames() -> tuple[Files, ...]:
    """A `.frame` of metrical-tracker in both of torch's formats."""
    import torch

    flame = {"exp": 100, "shape": 300, "eyes": 12, "eyelids": 2, "jaw": 6}
    document = {
        "flame": {name: numbers(1, size) for name, size in flame.items()},
        "opencv": {
            "R": np.eye(3, dtype=np.float32)[None],
            "t": np.array([[0, 0, 1]], np.float32),
            "K": np.array([[[500, 0, 64], [0, 500, 64], [0, 0, 1]]], np.float32),
        },
        "img_size": np.array([128, 128]),
    }

    def packed(new: bool) -> bytes:
        stream = io.BytesIO()
        content = {**document, "global_step": torch.zeros(2)} if new else document
        torch.save(content, stream, _use_new_zipfile_serialization=new)
        return stream.getvalue()

    return ({"x.frame": packed(True)}, {"y/x.frame": packed(False)})


def annots() -> tuple[Files, ...]:
    """ZJU-MoCap's list of cameras and pictures: a pickle within an .npy."""
    cams = {"K": [np.eye(3) * 500] * 2, "R": [np.eye(3)] * 2, "T": [np.ones((3, 1))] * 2, "D": [np.zeros((5, 1))] * 2}
    value = np.array({"cams": cams, "ims": [{"ims": ["a/0.jpg", "b/0.jpg"]}] * 2}, dtype=object)
    packed = io.BytesIO()
    np.save(packed, value, allow_pickle=True)
    return ({"zju/annots.npy": packed.getvalue()},)


def smpl_motions() -> tuple[Files, ...]:
    """AMASS and smpl_params."""
    amass = npz(poses=numbers(FRAMES, 156), trans=numbers(FRAMES, 3), betas=numbers(16), mocap_framerate=np.array(60.0))
    parts = npz(body_pose=numbers(FRAMES, 63), global_orient=numbers(FRAMES, 3), transl=numbers(FRAMES, 3))
    return ({"x.npz": amass}, {"x.npz": parts})


def flame_motion() -> tuple[Files, ...]:
    """GaussianAvatars' flame_param.npz."""
    widths = {"expr": 100, "rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "translation": 3}
    arrays = {name: numbers(FRAMES, width) for name, width in widths.items()}
    return ({"x.npz": npz(**arrays, shape=numbers(300), static_offset=numbers(1, 5143, 3, scale=1e-3))},)


def our_motion() -> tuple[Files, ...]:
    """A driving motion of the head in Effigy's own arrays, with names."""
    return _own_motion("bust")


def body_motion() -> tuple[Files, ...]:
    """The same of the whole body."""
    return _own_motion("body")


def _own_motion(view: str) -> tuple[Files, ...]:
    from avatars.templates.opening import embedded_template

    arrays = embedded_template(view)
    joints, expressions = np.array(arrays.joint_names), np.array(arrays.expression_names)
    moved = {"rotations": numbers(FRAMES, len(joints), 3), "translations": numbers(FRAMES, 3)}
    moved["expressions"] = numbers(FRAMES, len(expressions))
    return ({"x.npz": npz(**moved, fps=np.array(25.0), joint_names=joints, expression_names=expressions)},)


def camera_paths() -> tuple[Files, ...]:
    """Paths of the three kinds."""
    eye = np.eye(4).reshape(-1).tolist()
    viewer = {"w2c": eye, "K": [500, 0, 64, 0, 500, 64, 0, 0, 1], "fovx": 14.0, "height": 128, "width": 128}
    splatting = {"position": [0, 0, 1], "rotation": np.eye(3).tolist(), "fx": 9.0, "fy": 9.0, "width": 8, "height": 8}
    studio = {"camera_path": [{"camera_to_world": eye, "fov": 40.0}], "fps": 24, "render_width": 8, "render_height": 8}
    every = ({"fps": 24, "frames": [viewer | {"frame": 3}]}, [splatting | {"id": 0, "img_name": "a"}], studio)
    return tuple({"x.json": as_json(one)} for one in every)


def mesh_folder() -> tuple[Files, ...]:
    """A rigged mesh of two triangles."""
    from shared.mesh_asset import MeshAsset, write_mesh_files
    from shared.types import ProxyMesh, Rig

    faces: NDArray[Any] = np.array([[0, 1, 2, 2], [0, 2, 3, 3]], np.int32)
    group, joints, moved = (np.zeros(shape, np.int32) for shape in ((2,), (4, 2), (1,)))
    weights = np.full((4, 2), 0.5, np.float32)
    rig = Rig("t", "ab" * 32, ("a", "b"), np.array([-1, 0], np.int32), numbers(2, 3), ("e",), numbers(2), None)
    mesh = ProxyMesh(numbers(4, 3), faces, group, ("skin",), joints, weights, numbers(4, 3), moved, numbers(1, 1, 3))
    asset = MeshAsset("a", "a", "cd" * 32, rig, mesh, numbers(2, 3), numbers(2, 3), numbers(2, 3, 2))
    return (written(lambda folder: write_mesh_files(folder, asset)),)


def body_cameras() -> tuple[Files, ...]:
    """Calibrations of multi-camera studios."""
    entry = {"K": [500, 0, 64, 0, 500, 64, 0, 0, 1], "R": np.eye(3).reshape(-1).tolist(), "T": [0, 0, 1]}
    text = io.StringIO()
    row: dict[str, Any] = {
        "name": "Cam001",
        "w": 128,
        "h": 128,
        "rx": 0.1,
        "ry": 0.2,
        "rz": 0.3,
        "tx": 0,
        "ty": 0,
        "tz": 1,
    }
    row |= {"fx": 1.0, "fy": 1.0, "px": 0.5, "py": 0.5}
    writer = csv.DictWriter(text, list(row))
    writer.writeheader()
    writer.writerow(row)
    sized = entry | {"imgSize": [128, 128], "distCoeff": [0, 0, 0, 0, 0]}
    return ({"x.json": as_json({"a": sized, "b": sized}), "x.csv": text.getvalue().encode()},)


def settings() -> tuple[Files, ...]:
    """YAML as presets are written."""
    text = b"method: rgb_head\nseed: 3\nschedule: {images: 100}\nmodel:\n  hidden: 16\n  density: {skin: 1.0}\n"
    return ({"x.yaml": text},)


def journal() -> tuple[Files, ...]:
    """A job journal of a few lines."""
    from dataclasses import replace

    from backend.jobs import JobRecord, Journal

    def write(folder: Path) -> None:
        kept = Journal(folder / "journal.jsonl")
        record = JobRecord("j1", "k1", "anna", "demo_head", "tiny", {"seed": "1"})
        kept.put(record)
        kept.put(replace(record, state="running"))
        kept.put(replace(record, job_id="j2", state="done"))

    return (written(write),)


@cache
def clothed_mesh() -> tuple[Files, ...]:
    """A mesh of triangles as binary PLY."""
    import trimesh

    box = trimesh.creation.box()
    kinds = ("binary", "ascii")
    return tuple({"x.ply": bytes(box.export(file_type="ply", encoding=kind))} for kind in kinds)


def true_surfaces() -> tuple[Files, ...]:
    """The true surface of two frames."""
    from avatars.captures.true_surfaces import TrueSurfaces, packed_surfaces

    faces = np.array([[0, 1, 2], [0, 2, 3]])
    surfaces = TrueSurfaces((0, 4), faces, np.array([0, 1]), ("skin", "shirt"), numbers(2, 4, 3))
    return ({"surfaces.npz": npz(**packed_surfaces(surfaces, (0.5, 0.5)))},)


def weight_volume() -> tuple[Files, ...]:
    """A grid of skinning weights."""
    from avatars.skinning.weight_volume import WeightVolume
    from avatars.skinning.weight_volume_files import write_weight_volume

    volume = WeightVolume(np.full((3, 4, 5, 2), 0.5, np.float32), np.zeros(3), np.ones(3))
    return (written(lambda folder: write_weight_volume(folder / "x.npz", volume)),)


def template() -> tuple[Files, ...]:
    """A template of a pyramid with two joints."""
    from shared.template import FILE_FORMATS

    faces = np.array([[0, 1, 2, 2], [0, 2, 3, 3]])
    names = {"joint_names": ["root", "tip"], "shape_names": ["s"], "expression_names": ["e"], "preset_names": ["man"]}
    arrays = {name: np.array(value) for name, value in {**names, "group_names": ["skin"]}.items()}
    arrays |= {"format": np.array(FILE_FORMATS[-1]), "template_id": np.array("pyramid"), "view": np.array("body")}
    arrays |= {"parents": np.array([-1, 0]), "joints": numbers(2, 3), "vertices": numbers(4, 3), "uv": numbers(4, 2)}
    arrays |= {"shape_dirs": numbers(1, 4, 3), "joint_shape_dirs": numbers(1, 2, 3), "faces_skin": faces}
    arrays |= {"expression_vertices": np.array([1]), "expression_dirs": numbers(1, 1, 3), "uv_faces_skin": faces}
    arrays |= {"joint_expression_dirs": numbers(1, 2, 3), "weights": np.full((4, 2), 0.5, np.float32)}
    arrays |= {"preset_vertices": numbers(1, 4, 3), "preset_joints": numbers(1, 2, 3)}
    return ({"template.npz": npz(**arrays)},)
