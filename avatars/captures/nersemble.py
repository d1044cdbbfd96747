"""Exports of VHAP for GaussianAvatars (NeRSemble and others): many cameras, FLAME 2023, masks in files of their own.

    transforms_train.json, transforms_val.json, transforms_test.json      pictures, cameras, parameters by relative path
    images/  fg_masks/  flame_param/*.npz  canonical_flame_param.npz       here, or (UNION) in folders beside this one

Source: method page 9.4. Cameras are camera-to-world with OpenGL axes; a camera that moves has a place per picture.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.captures.capture import Capture, CaptureImage, check_counts, check_names
from avatars.captures.flame_axes import MODEL_FROM_FLAME_4, to_model
from avatars.captures.flame_templates import STATIC_OFFSETS, expression_columns, flame_reference, static_offset
from avatars.captures.images import check_size, image_size
from avatars.captures.metrical_frame import LARGEST
from avatars.captures.options import CaptureOptions, json_object, read_options, small_file
from avatars.captures.reading import NERSEMBLE_READING, camera_from_flame, intrinsics
from avatars.captures.splits import held_out_end
from avatars.templates.opening import TemplateReference
from shared.errors import BadCapture, EffigyError
from shared.npz import read_npz
from shared.types import Camera, Motion

SPLIT_FILES = {"train": "transforms_train.json", "val": "transforms_val.json", "test": "transforms_test.json"}
CANONICAL = "canonical_flame_param.npz"
TEMPLATES = ("flame2023_gaussian_avatars", "flame2023_rgbavatar", "flame2023")
MAX_JSON_BYTES, MAX_PARAMETER_BYTES = 256 << 20, 16 << 20
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
FOCAL_TOLERANCE = 0.005
POSES = {"rotation": "root", "neck_pose": "neck", "jaw_pose": "jaw"}
SHAPES: Mapping[str, tuple[int, ...]] = {
    "translation": (3,),
    "rotation": (3,),
    "neck_pose": (3,),
    "jaw_pose": (3,),
    "eyes_pose": (6,),
    "expr": (100,),
}
WHO = "a VHAP export with FLAME 2023 (100 expression and 300 shape numbers)"


@dataclass(frozen=True)
class _Picture:
    """One entry of a transforms file, paths resolved."""

    file: Path
    mask: Path
    parameters: Path
    split: str
    camera: str
    order: tuple[str, int]
    entry: Mapping[str, Any]


def is_nersemble(folder: Path) -> bool:
    """Whether a folder looks like such an export."""
    if not (folder / SPLIT_FILES["train"]).is_file():
        return False
    return (folder / CANONICAL).is_file() or (folder / "flame_param").is_dir() or "UNION" in folder.name


def read_nersemble(folder: Path) -> Capture:
    """The capture in such a folder. Pictures and masks are only opened when they are needed. Raises BadCapture."""
    options = read_options(folder, NERSEMBLE_READING)
    try:
        pictures = [picture for split in SPLIT_FILES for picture in _pictures(folder, split, options)]
    except KeyError as error:
        raise BadCapture(f"a frame in the transforms of {folder.name} lacks {error.args[0]!r}") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise BadCapture(f"a frame in the transforms of {folder.name} is damaged", found=str(error)[:120]) from error
    pictures, notes = _held_out(folder, pictures, options)
    rows = _frame_rows(pictures)
    parameters = [_parameters(path, with_offset=row == 0) for row, path in enumerate(rows)]
    reference = flame_reference(folder.name, "2023", options.template, TEMPLATES)
    shape = parameters[0]["shape"]
    numbers = tuple(float(number) for number in shape.astype(np.float32))
    reference = TemplateReference(reference.template_id, reference.digest, reference.view, "", numbers)
    arrays = reference.open()
    cameras, names, seen_by = _cameras(folder, pictures, options)
    expressions = expression_columns(arrays, np.stack([one["expr"] for one in parameters]), None)
    rotations = np.zeros((len(rows), len(arrays.joint_names), 3))
    for key, joint in POSES.items():
        rotations[:, arrays.joint(joint)] = to_model(np.stack([one[key] for one in parameters]))
    eyes = np.stack([one["eyes_pose"] for one in parameters])
    rotations[:, arrays.joint("left_eye")] = to_model(eyes[:, :3])
    rotations[:, arrays.joint("right_eye")] = to_model(eyes[:, 3:])
    translations = to_model(np.stack([one["translation"] for one in parameters]))
    offset = parameters[0].get("static_offset")
    if any(not np.allclose(one["shape"], shape, atol=1e-3) for one in parameters):
        notes.append(f"The identity changes between moments; that of {next(iter(rows)).name} is used")
    if offset is None:
        notes.append("The export has no static offset: hair and clothes are not part of the mesh")
    row_of = {path: row for row, path in enumerate(rows)}
    capture = Capture(
        name=folder.name,
        kind="head",
        subject=options.subject or folder.name.partition("_")[2].partition("_")[0] or folder.name,
        licence=options.licence,
        synthetic=False,
        template=reference,
        joint_names=arrays.joint_names,
        expression_names=arrays.expression_names,
        motion=Motion(rotations, translations, expressions, options.fps),
        cameras=cameras,
        camera_names=names,
        images=tuple(
            CaptureImage(one.file, camera, row_of[one.parameters], one.split, one.mask, one.parameters)
            for one, camera in zip(pictures, seen_by, strict=True)
        ),
        provenance={"capture": folder.name, "layout": "VHAP export for GaussianAvatars"},
        vertex_offset=None if offset is None else static_offset(arrays, offset),
        layout="nersemble",
        masked=True,
        notes=(_found(pictures, rows), *notes),
        reading=options.reading,
    )
    check_names(capture, arrays.joint_names, arrays.expression_names)
    check_counts(capture)
    _check_first_pictures(capture)
    return capture


def _found(pictures: list[_Picture], rows: list[Path]) -> str:
    cameras = len({one.camera for one in pictures})
    sequences = len({path.parent.parent for path in rows})
    return f"VHAP export: {len(pictures)} pictures, {len(rows)} moments of {sequences} recordings, {cameras} cameras"


def _pictures(folder: Path, split: str, options: CaptureOptions) -> list[_Picture]:
    path = folder / SPLIT_FILES[split]
    if not path.is_file():
        return []
    document = json_object(path, MAX_JSON_BYTES)
    frames = document.get("frames")
    if not isinstance(frames, list) or not all(isinstance(entry, dict) for entry in frames):
        raise BadCapture(f"{path.name} of {folder.name} has no list of frames", expected=WHO)
    shared = {key: value for key, value in document.items() if key != "frames"}
    found = []
    for entry in frames:
        whole = shared | entry
        for name, what in (("flame_param_path", "FLAME parameters"), ("fg_mask_path", "mask")):
            if not isinstance(whole.get(name), str):
                raise BadCapture(
                    f"{path.name} of {folder.name} names no {what} for {whole.get('file_path')}",
                    found=f"no {name}",
                    expected=WHO,
                    do="Export with masks" if what == "mask" else "Export the tracking result with VHAP",
                )
        file = _resolved(folder, path, str(whole["file_path"]), PICTURES)
        camera = str(whole.get("camera_index", whole.get("camera_id", 0)))
        parameters = _resolved(folder, path, str(whole["flame_param_path"]), (".npz",))
        order = parameters.parent.parent.name, int(whole.get("timestep_index", 0))
        mask = _resolved(folder, path, str(whole["fg_mask_path"]), PICTURES)
        found.append(_Picture(file, mask, parameters, split, camera, order, whole))
    return found


def _resolved(folder: Path, json_path: Path, name: str, suffixes: tuple[str, ...]) -> Path:
    """A path written in a JSON file, relative to that file's folder; at most one folder up (UNION)."""
    path = Path(os.path.normpath(folder.absolute() / name.replace("\\", "/")))
    if not path.is_relative_to(folder.absolute().parent):
        raise BadCapture(
            f"{json_path.name} of {folder.name} names a file outside the data set",
            found=name,
            expected="a path inside the folder or beside it",
        )
    if path.suffix.lower() in suffixes:
        return path
    return next((other for other in (path.with_name(path.name + s) for s in suffixes) if other.is_file()), path)


def _held_out(folder: Path, pictures: list[_Picture], options: CaptureOptions) -> tuple[list[_Picture], list[str]]:
    """The pictures with the splits of the export, or of the protocol where files of it are absent, and notes."""
    present = {picture.split for picture in pictures}
    notes = []
    if "train" not in present:
        raise BadCapture(f"{SPLIT_FILES['train']} of {folder.name} has no frames", expected=WHO)
    if "val" not in present and any(p.camera == str(options.held_out_camera) for p in pictures):
        pictures = [
            replace(p, split="val") if p.split == "train" and p.camera == str(options.held_out_camera) else p
            for p in pictures
        ]
        notes.append(f"No {SPLIT_FILES['val']}: camera {options.held_out_camera} is kept back")
        present = {picture.split for picture in pictures}
    if "test" not in present and "val" in present:
        pictures = [replace(p, split="test") if p.split == "val" else p for p in pictures]
        notes.append(f"No {SPLIT_FILES['test']}: the camera kept back is the test")
    elif "test" not in present:
        last = sorted({picture.order for picture in pictures})
        if len(last) > 1:
            train, note = held_out_end(len(last), options.test_frames)
            late = set(last[train:])
            pictures = [replace(p, split="test") if p.order in late else p for p in pictures]
            notes.append(f"No {SPLIT_FILES['test']}: {note[0].lower()}{note[1:]}")
    return pictures, notes


def _frame_rows(pictures: list[_Picture]) -> list[Path]:
    """Each moment's file of parameters once, by sequence and time."""
    return list(dict.fromkeys(p.parameters for p in sorted(pictures, key=lambda p: (p.order, str(p.parameters)))))


def _parameters(path: Path, *, with_offset: bool) -> dict[str, NDArray[np.float64]]:
    """One flame_param file: the arrays of `SHAPES` without their leading 1, shape [300], static_offset [n, 3] m.

    The offset is checked in every file and kept where it is wanted: thousands of copies would fill the memory.
    """
    where = f"{path.parent.parent.name}/{path.parent.name}/{path.name}"
    if not path.is_file():
        raise BadCapture(f"{where} is missing", do="Copy the whole export, with the folders beside it")
    arrays = read_npz(small_file(path, MAX_PARAMETER_BYTES), where, BadCapture)
    found = {}
    for name, shape in (*SHAPES.items(), ("shape", (300,)), ("static_offset", (-1, 3))):
        if name == "static_offset" and name not in arrays:
            continue
        if name not in arrays:
            raise BadCapture(f"{where} lacks {name!r}", expected=WHO)
        array = arrays[name]
        fits = array.dtype.kind == "f" and bool((np.abs(array) < LARGEST).all())
        if name == "static_offset":
            flat = array.reshape(-1, 3) if array.size % 3 == 0 else array
            fits = fits and flat.ndim == 2 and len(flat) in STATIC_OFFSETS
            wanted = " or ".join(str(count) for count in STATIC_OFFSETS) + " rows of 3 finite numbers"
        else:
            flat = array.reshape(-1)
            fits = fits and flat.shape == shape
            wanted = f"{shape[0]} finite numbers"
        if not fits:
            raise BadCapture(
                f"{name} of {where} does not fit FLAME", found=f"{list(array.shape)} {array.dtype}", expected=wanted
            )
        if name != "static_offset" or with_offset:
            found[name] = flat.astype(np.float64)
    return found


def _cameras(
    folder: Path, pictures: list[_Picture], options: CaptureOptions
) -> tuple[tuple[Camera, ...], tuple[str, ...], list[int]]:
    """Every place of every camera once, the names of their cameras, and which of them took each picture."""
    table: dict[tuple[str, str], int] = {}
    cameras: list[Camera] = []
    names: list[str] = []
    seen_by = []
    for picture in pictures:
        entry = picture.entry
        numbers = ("w", "h", "fl_x", "fl_y", "cx", "cy", "camera_angle_x", "transform_matrix")
        key = picture.camera, json.dumps([entry.get(name) for name in numbers])
        if key not in table:
            table[key] = len(cameras)
            cameras.append(_camera(folder, picture, options))
            names.append(picture.camera.zfill(2))
        seen_by.append(table[key])
    return tuple(cameras), tuple(names), seen_by


def _camera(folder: Path, picture: _Picture, options: CaptureOptions) -> Camera:
    entry, name = picture.entry, f"{picture.file.name} in {SPLIT_FILES[picture.split]} of {folder.name}"
    try:
        matrix = np.array(entry["transform_matrix"], np.float64)
        width, height = (int(entry[key]) for key in ("w", "h"))
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise ValueError(f"transform_matrix {list(matrix.shape)}")
        world_from_camera = MODEL_FROM_FLAME_4 @ np.linalg.inv(camera_from_flame(matrix, options.reading))
        return Camera(width, height, _lens(entry, name, width, height, options), world_from_camera)
    except KeyError as error:
        raise BadCapture(
            f"the camera of {name} lacks {error.args[0]!r}", expected="w, h and transform_matrix"
        ) from error
    except (TypeError, ValueError, OverflowError, np.linalg.LinAlgError) as error:
        raise BadCapture(f"the camera of {name} is damaged", found=str(error)[:120]) from error
    except BadCapture:
        raise
    except EffigyError as error:
        raise BadCapture(f"the camera of {name} is none", found=error.what, expected="a rigid matrix") from error


def _lens(entry: Mapping[str, Any], name: str, width: int, height: int, options: CaptureOptions) -> NDArray[np.float64]:
    """K [3, 3] px: the focal lengths and centre written down, else from the horizontal angle with a centred axis."""
    angle = float(entry["camera_angle_x"]) if "camera_angle_x" in entry else 0.0
    from_angle = width / (2 * math.tan(angle / 2)) if 0 < angle < math.pi else 0.0
    focal = float(entry.get("fl_x", 0.0)) or from_angle
    if not focal > 0:
        raise BadCapture(f"the camera of {name} has no focal length", expected="fl_x or camera_angle_x")
    if from_angle and abs(focal / from_angle - 1) > FOCAL_TOLERANCE:
        raise BadCapture(
            f"the two focal lengths of {name} contradict each other",
            found=f"fl_x {focal:.1f} px",
            expected=f"{from_angle:.1f} px by camera_angle_x and w",
            do="Check that w and h are those of the pictures and not exchanged",
        )
    centre = float(entry.get("cx", width / 2)), float(entry.get("cy", height / 2))
    K = np.array([[focal, 0, centre[0]], [0, float(entry.get("fl_y", 0.0)) or focal, centre[1]], [0, 0, 1]])
    return intrinsics(K, options.reading)


def _check_first_pictures(capture: Capture) -> None:
    """Sizes of one picture and one mask of each camera, from their headers. Raises BadCapture."""
    done: set[str] = set()
    for image in capture.images:
        name = capture.camera_names[image.camera]
        if name in done:
            continue
        done.add(name)
        camera = capture.cameras[image.camera]
        for file in (image.file, image.mask):
            if file is not None:
                check_size(file, image_size(file), (camera.width_px, camera.height_px))
