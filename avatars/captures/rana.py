"""RANA's synthetic people, pre-processed: pictures with ground-truth albedo and normals, an HDRI for each test frame.

    FOLDER/{images,albedos,normals,masks}/*   cameras.json   poses.npz   [hdri_files.json]
    cameras.json: intrinsic [3, 3], extrinsic [4, 4] (world to camera), height, width
    hdri_files.json: one file name for each frame, of pictures in FOLDER/../../hdri or FOLDER/hdri

FOLDER is a subject of train_p1 or test; where both lie beside each other, opening the training one adds the other as
what is held out. Source: method page I.2. Normals are in camera axes; which of two conventions, the pictures tell.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from avatars.captures.aovs import unit_normals
from avatars.captures.capture import Capture, CaptureImage, check_counts, check_names
from avatars.captures.images import check_size, image_size, read_mask, read_premultiplied
from avatars.captures.options import CaptureOptions, json_object, read_options, small_file
from avatars.captures.pairing import numbered_files
from avatars.captures.peoplesnapshot import MASKS, PICTURES, body_poses, gender_of
from avatars.captures.reading import INSTA_READING, intrinsics, inverse
from avatars.captures.smpl_bodies import Body, tracked_body
from avatars.captures.splits import held_out_end
from shared.errors import BadCapture
from shared.motions import SmplMotion
from shared.types import Camera, Motion

CAMERAS, POSES, LIGHTS = "cameras.json", "poses.npz", "hdri_files.json"
TRAIN, TEST = "train_p1", "test"
GROUND_TRUTH = {"albedo": "albedos", "normal": "normals", "roughness": "roughness"}
MAX_JSON_BYTES = 16 << 20
LIGHT_ROTATION_RAD = {"-y": float(np.pi / 2)}
"""In worlds with y down a light's centre column lies towards +z (method page G), which is +y here."""


@dataclass(frozen=True, eq=False)
class _Part:
    """One folder as its files say it, before anything is turned."""

    pictures: list[Path]
    masks: list[Path]
    aovs: list[dict[str, Path]]
    lights: list[Path | None]
    motion: SmplMotion
    K: NDArray[np.float64]
    camera_from_file: NDArray[np.float64]
    size: tuple[int, int]


def is_rana(folder: Path) -> bool:
    """Whether a folder looks like a pre-processed RANA subject."""
    return all((folder / name).is_file() for name in (CAMERAS, POSES)) and (folder / "albedos").is_dir()


def read_rana(folder: Path) -> Capture:
    """The capture in such a folder, with its ground truth. Raises BadCapture."""
    options = read_options(folder, INSTA_READING)
    notes: list[str] = []
    parts = [_part(folder, options)]
    other = folder.parent.parent / TEST / folder.name
    if folder.parent.name == TRAIN and is_rana(other):
        parts.append(_part(other, options))
        notes.append(f"Held out: {len(parts[1].pictures)} pictures of {TEST}/{folder.name}, each in a light of its own")
    bodies = [_body(folder.name, part, options) for part in parts]
    if len({body.up for body in bodies}) > 1:
        raise BadCapture(f"the two halves of {folder.name} have worlds with different axes up")
    images: list[CaptureImage] = []
    cameras: list[Camera] = []
    train, note = held_out_end(len(parts[0].pictures), max(1, len(parts[0].pictures) // 5))
    if len(parts) == 1:
        notes.append(note)
    for number, (part, body) in enumerate(zip(parts, bodies, strict=True)):
        K = intrinsics(part.K, options.reading)
        cameras.append(Camera(*part.size, K, body.world_from_file @ inverse(part.camera_from_file, CAMERAS)))
        begun = len(images)
        for row, picture in enumerate(part.pictures):
            held_out = number == 1 or (len(parts) == 1 and row >= train)
            split = "test" if held_out else "train"
            files = CaptureImage(picture, number, begun + row, split, part.masks[row])
            images.append(replace(files, aovs=part.aovs[row], light=part.lights[row]))
    motion = _joined([body.motion for body in bodies])
    arrays = bodies[0].reference.open()
    capture = Capture(
        name=folder.name,
        kind="body",
        subject=options.subject or folder.name,
        licence=options.licence,
        synthetic=True,
        template=bodies[0].reference,
        joint_names=arrays.joint_names,
        expression_names=arrays.expression_names,
        motion=motion,
        cameras=tuple(cameras),
        camera_names=tuple(str(number) for number in range(len(cameras))),
        images=tuple(images),
        provenance={"capture": folder.name, "layout": "RANA"},
        layout="rana",
        masked=True,
        notes=(f"RANA: {len(images)} pictures with {', '.join(images[0].aovs)}", *notes, *bodies[0].notes),
        reading=options.reading,
        normal_axes=_axes(parts[0]),
        light_rotation_rad=LIGHT_ROTATION_RAD.get(bodies[0].up, 0.0),
    )
    check_names(capture, arrays.joint_names, arrays.expression_names)
    check_counts(capture)
    return capture


def _body(name: str, part: _Part, options: CaptureOptions) -> Body:
    return tracked_body(name, part.motion, template=options.template, gender=options.gender or gender_of(name))


def _part(folder: Path, options: CaptureOptions) -> _Part:
    pictures = numbered_files(folder / "images", PICTURES)
    count = len(pictures)
    masks = numbered_files(folder / "masks", MASKS)
    motion = body_poses(folder / POSES)
    for what, number in (("masks", len(masks)), ("poses", len(motion))):
        if number != count:
            raise BadCapture(
                f"{folder.name} has not one of its {what} for each picture", found=f"{number} for {count} pictures"
            )
    document = json_object(folder / CAMERAS, MAX_JSON_BYTES)
    try:
        K = np.asarray(document["intrinsic"], np.float64).reshape(3, 3)
        place = np.asarray(document.get("extrinsic", np.eye(4).tolist()), np.float64).reshape(4, 4)
        size = int(document["width"]), int(document["height"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BadCapture(
            f"{CAMERAS} of {folder.name} is damaged", found=str(error), expected="intrinsic, extrinsic, height, width"
        ) from error
    if not (np.isfinite(K).all() and np.isfinite(place).all()):
        raise BadCapture(f"{CAMERAS} of {folder.name} holds values that are not finite")
    check_size(pictures[0], image_size(pictures[0]), size)
    aovs: list[dict[str, Path]] = [{} for _ in pictures]
    for name, inner in GROUND_TRUTH.items():
        if not (folder / inner).is_dir():
            continue
        files = numbered_files(folder / inner, PICTURES)
        if len(files) != count:
            raise BadCapture(f"{folder.name}/{inner} does not fit", found=f"{len(files)} files for {count} pictures")
        for row, file in enumerate(files):
            aovs[row][name] = file
    return _Part(pictures, masks, aovs, _lights(folder, count), motion, K, place, size)


def _lights(folder: Path, count: int) -> list[Path | None]:
    path = folder / LIGHTS
    if not path.is_file():
        return [None] * count
    try:
        names: Any = json.loads(small_file(path, MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise BadCapture(f"{LIGHTS} of {folder.name} is no JSON", found=str(error)[:100]) from error
    if not isinstance(names, list) or len(names) != count or not all(isinstance(name, str) for name in names):
        raise BadCapture(f"{LIGHTS} of {folder.name} does not fit", expected=f"a list of {count} file names")
    places = (folder / "hdri", folder.parent.parent / "hdri", folder.parent.parent.parent / "hdri")
    found: list[Path | None] = []
    for name in names:
        if Path(name).name != name:
            raise BadCapture(f"{LIGHTS} of {folder.name} names a file outside its folder", found=name[:80])
        file = next((place / name for place in places if (place / name).is_file()), None)
        if file is None:
            raise BadCapture(f"{folder.name} lacks the light {name}", do="Copy the folder hdri beside the subjects")
        found.append(file)
    return found


def normal_axes(normals: Path, mask: Path, size: tuple[int, int]) -> Literal["opencv", "opengl"]:
    """Camera axes of a picture of normals. size: width, height px. Raises BadCapture.

    Seen surfaces face the camera: their z is below 0 in OpenCV's axes, above 0 in OpenGL's.
    """
    covered = read_mask(mask, size) > 127
    pixels = read_premultiplied(normals, size)[..., :3].astype(np.float32) / 255
    facing = unit_normals(pixels, np.eye(3), False)[covered, 2]
    return "opengl" if len(facing) and float(facing.mean()) > 0 else "opencv"


def _axes(part: _Part) -> Literal["opencv", "opengl"]:
    return normal_axes(part.aovs[0]["normal"], part.masks[0], part.size) if "normal" in part.aovs[0] else "opencv"


def _joined(motions: list[Motion]) -> Motion:
    parts = [(motion.rotations, motion.translations, motion.expressions) for motion in motions]
    return Motion(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)), motions[0].fps)
