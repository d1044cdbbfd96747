"""Valid files of the smaller readers: keys, caches of tracking, requests of jobs, other projects' option files."""

from __future__ import annotations

import io
import tempfile
from dataclasses import fields
from functools import cache
from pathlib import Path

import numpy as np

from backend.fuzzing.runner import Files, write_files
from backend.fuzzing.samples import (
    as_json,
    avatar_folder,
    checkpoint,
    effigy_capture,
    npy,
    npz,
    numbers,
    our_motion,
    picture,
    written,
)

FRAMES = 3


@cache
def keys() -> tuple[Files, ...]:
    """A pair of keys, and a list of clients."""
    from shared.keys import make_pair

    pair, other = make_pair(), make_pair()
    files = {"server.json": {"public": pair.public, "secret": pair.secret}, "clients.json": {"anna": other.public}}
    return ({name: as_json(content) for name, content in files.items()},)


@cache
def connections() -> tuple[Files, ...]:
    """A connection file."""
    from shared.keys import CONNECTION_VERSION, make_pair

    document = {"effigy_connection": CONNECTION_VERSION, "address": "tcp://127.0.0.1:7001", "key": "letmein"}
    return ({"x.json": as_json({**document, "server_key": make_pair().public})},)


def pixel_places() -> tuple[Files, ...]:
    """Where a picture lies in shared memory, as a message says it; process and descriptor are filled in by the reader,
    so that the memory is really there."""
    place = {"file_bytes": 0, "offset": 0, "stamp": 1, "dtypes": ["uint8"], "shapes": [[1024, 1024, 1]]}
    return ({"place.json": as_json(place)},)


def face_detections() -> tuple[Files, ...]:
    """What a face detector said of three pictures."""
    from avatars.tracking.correspondences import LANDMARKS
    from avatars.tracking.detections import THUMBNAIL_PX, Detections

    one = Detections(
        np.arange(FRAMES),
        numbers(FRAMES, LANDMARKS, 2) * 100,
        np.zeros(FRAMES, np.float32),
        np.ones(FRAMES, np.float32),
        np.zeros((FRAMES, THUMBNAIL_PX, THUMBNAIL_PX), np.uint8),
        np.zeros(FRAMES, np.int64),
        np.zeros((FRAMES, LANDMARKS, 3), np.uint8),
    )
    return (written(lambda folder: one.write(folder / "x.npz")),)


def body_detections() -> tuple[Files, ...]:
    """What a body detector said of three pictures."""
    from avatars.tracking.body_detections import BodyDetections
    from avatars.tracking.body_landmarks import POINTS
    from avatars.tracking.detections import THUMBNAIL_PX

    one = BodyDetections(
        np.arange(FRAMES),
        numbers(FRAMES, POINTS, 3) * 100,
        numbers(FRAMES, POINTS, 3),
        np.zeros(FRAMES, np.float32),
        np.ones(FRAMES, np.float32),
        np.zeros((FRAMES, THUMBNAIL_PX, THUMBNAIL_PX), np.uint8),
    )
    return (written(lambda folder: one.write(folder / "x.npz")),)


def edit_requests() -> tuple[Files, ...]:
    """What an edit was asked for, with painted weights."""
    from backend.edit_requests import REQUEST, WEIGHTS
    from shared.edit_messages import StartEdit

    asked = StartEdit("k", "new", "tiny", "", "red hair", "built_in")
    named = {item.name: getattr(asked, item.name) for item in fields(StartEdit) if item.name != "weights"}
    return ({REQUEST: as_json(named), WEIGHTS: npy(np.linspace(0, 1, 9, dtype=np.float32))},)


@cache
def tracks() -> tuple[Files, ...]:
    """A track beside a video, in our own arrays."""
    from avatars.templates.opening import TemplateReference, embedded_template

    arrays = embedded_template("bust")
    reference = TemplateReference(arrays.template_id, arrays.digest, "bust", "man")
    with np.load(io.BytesIO(our_motion()[0]["x.npz"])) as motion:
        moved = {name: motion[name] for name in ("rotations", "translations", "expressions")}
    moved["K"] = np.array([[[20.0, 0, 8], [0, 20, 4], [0, 0, 1]]])
    moved["world_from_camera"] = np.eye(4)[None]
    document = {"template": reference.as_json(), "width_px": 16, "height_px": 8, "fps": 25.0, "subject": "anna"}
    names = {"joint_names": arrays.joint_names, "expression_names": arrays.expression_names}
    return ({"parameters.npz": npz(**moved), "track.json": as_json({**document, **names})},)


def diffusion_weights() -> tuple[Files, ...]:
    """A diffusers folder's index and card, with parts that are there."""
    parts = {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    index = {"_class_name": "StableDiffusionXLInstructPix2PixPipeline", "_diffusers_version": "0.1", **parts}
    index["scheduler"] = ["diffusers", "EulerDiscreteScheduler"]
    card = b"---\nlicense: other\nlicense_name: 'of its own'\n---\n# A model\n"
    content = {"model_index.json": as_json(index), "README.md": card}
    return (content | {f"{name}/config.json": b"{}" for name in ("unet", "vae", "scheduler")},)


def training_arguments() -> tuple[Files, ...]:
    """3DGS's cfg_args and cameras.json."""
    options = "Namespace(sh_degree=3, source_path='/a/b', white_background=True, resolution=-1, scales=[1.0, 2.0])"
    camera = {"id": 0, "img_name": "a", "width": 8, "height": 8, "fx": 9.0, "fy": 9.0}
    camera |= {"position": [0, 0, 1], "rotation": np.eye(3).tolist()}
    return ({"cfg_args": options.encode(), "cameras.json": as_json([camera])},)


def rgbavatar_settings() -> tuple[Files, ...]:
    """RGBAvatar's config.yaml."""
    from avatars.formats.rgbavatar_network import RgbAvatarSettings, settings_text

    return ({"x.yaml": settings_text(RgbAvatarSettings()).encode()},)


@cache
def meshes() -> tuple[Files, ...]:
    """A box as .obj, .glb, .ply and .stl."""
    import trimesh

    box = trimesh.creation.box()
    found = []
    for kind in ("obj", "glb", "ply", "stl"):
        content = box.export(file_type=kind)
        found.append({f"x.{kind}": content.encode() if isinstance(content, str) else bytes(content)})
    return tuple(found)


@cache
def pseudo_truth() -> tuple[Files, ...]:
    """Two rendered rows of a teacher."""
    from avatars.relit_body import pseudo_truth as truth

    rows, size = 2, (8, 6)
    document = {"format": truth.FORMAT, "version": truth.VERSION, "training": 1, "rows": rows, "expressions": 2}
    files: dict[str, bytes] = {truth.DESCRIPTION: as_json(document | {"digest": "x"})}
    files[truth.POSES] = npz(
        rotations=numbers(rows, 3, 3),
        translations=numbers(rows, 3),
        K=np.tile(np.array([[9.0, 0, 4], [0, 9, 3], [0, 0, 1]]), (rows, 1, 1)),
        world_from_camera=np.tile(np.eye(4), (rows, 1, 1)),
        size_px=np.tile(np.array(size), (rows, 1)),
    )
    modes = {truth.COLOUR: "RGBA", **dict(zip(truth.MAPS, ("RGB", "RGB", "L", "L"), strict=True))}
    for row in range(rows):
        for name, mode in modes.items():
            files[f"{truth.FOLDER}/{row:04d}-{name}.png"] = picture("PNG", mode, size)
        files[f"{truth.FOLDER}/{row:04d}-depth.npy"] = npy(np.ones(size[::-1], np.float16))
    return (files,)


def radiance() -> tuple[Files, ...]:
    """A light as arrays."""
    return ({"x.npz": npz(radiance=np.ones((4, 8, 3), np.float32))},)


def masks() -> tuple[Files, ...]:
    """A mask that was painted for an edit."""
    return ({"x.png": picture("PNG", "L")}, {"x.jpg": picture("JPEG", "RGB")})


def capture_options() -> tuple[Files, ...]:
    """How another project's folder is to be read."""
    options = {"test_frames": 3, "fps": 25.0, "pairing": "name", "reading": {"up": "z"}, "split": {"thin_rad": 0.1}}
    return ({"effigy.json": as_json(options | {"train_range": [0, 9, 1]})},)


@cache
def refined() -> tuple[Files, ...]:
    """A capture, and parameters that were refined of it."""
    files = effigy_capture()[0]
    with np.load(io.BytesIO(files["parameters.npz"])) as arrays:
        kept = {name: arrays[name] for name in ("rotations", "translations", "expressions", "K")}
    return ({**files, "refined.npz": npz(**kept)},)


def frame_hashes() -> tuple[Files, ...]:
    """What another machine's pictures hash to."""
    from backend.farm.hashes import FORMAT

    rows = [["head", "cpu", 3, "ab", "cd", "ef"]] * 2
    return ({"x.json": as_json({"format": FORMAT, "version": 1, "size_px": [16, 8], "frames": rows})},)


def farm_jobs() -> tuple[Files, ...]:
    """A shot that waits in a farm's folder."""
    from backend.farm.job import FORMAT, VERSION

    texts = dict.fromkeys(("shot", "scene", "output", "blender", "device", "film"), "x")
    shot = {"frames": [1, 2, 3], "pictures": ["1.png", "2.png", "3.png"], "avatars": {"tiny": "ab" * 32}}
    return ({"job.json": as_json({"format": FORMAT, "version": VERSION, **texts, **shot, "chunk_size": 2, "fps": 24})},)


def parcels() -> tuple[Files, ...]:
    """An avatar, a checkpoint and a capture as they travel between the machines of a cluster."""
    from avatars.avatar_folder import avatar_digest
    from backend.engines.capture_listing import as_bytes, listed, pieces, with_digests
    from backend.engines.checkpoint_copies import FOLDER, newest_packed
    from backend.engines.node_cache import avatar_parcel

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_files(folder, avatar_folder()[0])
        avatar = folder / "tiny.avatar"
        digest, parcel = avatar_digest(avatar), avatar_parcel(avatar)
        write_files(folder / FOLDER, checkpoint()[0])
        listing = as_bytes(with_digests(avatar, listed(avatar), lambda: None))
        sent = {"listing": listing, "content": b"".join(pieces(avatar, listed(avatar)))}
        return ({"digest": digest.encode(), "parcel": parcel}, {"checkpoint": newest_packed(folder)}, sent)


def label() -> tuple[Files, ...]:
    """An avatar's later name."""
    return ({"label.json": as_json({"name": "Anna"})},)


@cache
def perceptual_weights() -> tuple[Files, ...]:
    """A torch file of named tensors."""
    import torch

    def write(folder: Path) -> None:
        torch.save({"a": torch.zeros(2, 3), "b": torch.ones(2)}, folder / "x.pth")

    return (written(write),)
