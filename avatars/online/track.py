"""A track beside a video: the template's parameters and the camera of every picture, in a file.

Two layouts are read. Ours: a capture's parameters.npz (rotations, translations, expressions, K, world_from_camera) with
a JSON beside it (track.json, or the capture.json it came from) that names template, joints and expressions. FLAME's as
GaussianAvatars and VHAP write it: an .npz with expr, rotation, neck_pose, jaw_pose, eyes_pose, translation, shape and
static_offset, to which K and world_from_camera were added (a world whose y is up, turned to our axes here), with a JSON
that names width_px, height_px and fps, and template_id where it is not the first installed one of FLAME 2023.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.captures.flame_axes import MODEL_FROM_FLAME_4, to_model
from avatars.captures.flame_templates import STATIC_OFFSETS, expression_columns, flame_reference, static_offset
from avatars.online.frames import Subject
from avatars.templates.opening import TemplateReference
from shared.errors import BadCapture
from shared.npz import read_npz
from shared.template import TemplateArrays
from shared.types import Camera, Motion

JSON_NAMES = ("track.json", "capture.json")
CAMERAS: Mapping[str, tuple[int, ...]] = {"K": (-1, 3, 3), "world_from_camera": (-1, 4, 4)}
OURS: Mapping[str, tuple[int, ...]] = {
    "rotations": (-1, -1, 3),
    "translations": (-1, 3),
    "expressions": (-1, -1),
    **CAMERAS,
}
FLAME: Mapping[str, tuple[int, ...]] = {
    "expr": (-1, -1),
    "rotation": (-1, 3),
    "neck_pose": (-1, 3),
    "jaw_pose": (-1, 3),
    "eyes_pose": (-1, 6),
    "translation": (-1, 3),
    **CAMERAS,
}
FLAME_TEMPLATES = ("flame2023_gaussian_avatars", "flame2023_rgbavatar", "flame2023")
MAX_JSON_BYTES, MAX_NPZ_BYTES = 16 << 20, 1 << 30


@dataclass(frozen=True, eq=False)
class Track:
    """T tracked instants. K: [T or 1, 3, 3] px of pictures of size_px (width, height); world_from_camera alike."""

    subject: Subject
    motion: Motion
    K: NDArray[np.float64]
    world_from_camera: NDArray[np.float64]
    size_px: tuple[int, int]

    def __len__(self) -> int:
        return len(self.motion)

    def camera(self, frame: int) -> Camera:
        """Of picture `frame`."""
        K, pose = (table[min(frame, len(table) - 1)] for table in (self.K, self.world_from_camera))
        return Camera(*self.size_px, K, pose)


def read_track(path: Path) -> Track:
    """The track in an .npz, or in a folder with parameters.npz. Raises BadCapture."""
    file = path / "parameters.npz" if path.is_dir() else path
    arrays = read_npz(_bytes(file, MAX_NPZ_BYTES), file.name, BadCapture)
    document = _document(file)
    flame = "expr" in arrays and "rotations" not in arrays
    _check_shapes(file, arrays, FLAME if flame else OURS)
    try:
        reference, offset = _flame_subject(file, arrays, document) if flame else (_reference(document), None)
        size = int(document["width_px"]), int(document["height_px"])
        fps = float(document["fps"])
    except KeyError as error:
        raise BadCapture(f"the JSON beside {file.name} lacks {error.args[0]!r}") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise BadCapture(f"the JSON beside {file.name} is damaged", found=str(error)) from error
    subject = Subject(
        str(document.get("subject") or document.get("name") or file.parent.name),
        reference,
        str(document.get("licence", "")),
        vertex_offset=offset,
        provenance={"track": file.name},
    )
    poses = np.asarray(arrays["world_from_camera"], np.float64)
    template = reference.open()
    if flame:
        motion, poses = _flame_motion(arrays, template, fps), MODEL_FROM_FLAME_4 @ poses
    else:
        motion = Motion(arrays["rotations"], arrays["translations"], arrays["expressions"], fps)
        for name, names in (("joint_names", template.joint_names), ("expression_names", template.expression_names)):
            if document.get(name, list(names)) != list(names):
                raise BadCapture(f"the {name} beside {file.name} are not those of its template")
        found = motion.rotations.shape[1], motion.expressions.shape[1]
        if found != (len(template.joint_names), len(template.expression_names)):
            raise BadCapture(
                f"the track {file.name} has another rig than its template",
                found=f"{found[0]} joints, {found[1]} expressions",
                expected=f"{len(template.joint_names)} and {len(template.expression_names)}",
            )
    return Track(subject, motion, np.asarray(arrays["K"], np.float64), poses, size)


def _check_shapes(file: Path, arrays: Mapping[str, NDArray[Any]], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """-1 is any number; the first axis of all counts frames, of K and world_from_camera it may be 1."""
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise BadCapture(f"the track {file.name} lacks {missing[0]!r}", expected=", ".join(wanted))
    frames = len(arrays[next(iter(wanted))]) if arrays[next(iter(wanted))].ndim else 0
    if not frames:
        raise BadCapture(f"the track {file.name} has no frames")
    for name, shape in wanted.items():
        found = arrays[name]
        fits = found.ndim == len(shape) and found.dtype.kind == "f" and bool(np.isfinite(found).all())
        fits = fits and all(want in (-1, got) for want, got in zip(shape[1:], found.shape[1:], strict=True))
        lengths = (1, frames) if name in ("K", "world_from_camera") else (frames,)
        if not fits or len(found) not in lengths:
            raise BadCapture(
                f"{name} of the track {file.name} has the wrong shape",
                found=f"{list(found.shape)} {found.dtype}",
                expected=f"{frames} x {list(shape[1:])} finite numbers",
            )


def _reference(document: Mapping[str, Any]) -> TemplateReference:
    return TemplateReference.from_json(document["template"])


def _flame_subject(
    file: Path, arrays: Mapping[str, NDArray[Any]], document: Mapping[str, Any]
) -> tuple[TemplateReference, NDArray[np.float32] | None]:
    """The installed FLAME template with the track's shape, and its static offset [V, 3] m in model axes."""
    reference = flame_reference(file.stem, "2023", str(document.get("template_id", "")), FLAME_TEMPLATES)
    shape = np.asarray(arrays.get("shape", np.zeros(0)), np.float64).reshape(-1)
    numbers = tuple(float(number) for number in shape.astype(np.float32))
    reference = TemplateReference(reference.template_id, reference.digest, reference.view, "", numbers)
    if "static_offset" not in arrays:
        return reference, None
    rows = np.asarray(arrays["static_offset"], np.float64).reshape(-1, 3)
    if len(rows) not in STATIC_OFFSETS:
        raise BadCapture(
            f"static_offset of the track {file.name} does not fit FLAME",
            found=f"{len(rows)} rows",
            expected=" or ".join(map(str, STATIC_OFFSETS)),
        )
    return reference, static_offset(reference.open(), rows)


def _flame_motion(arrays: Mapping[str, NDArray[Any]], template: TemplateArrays, fps: float) -> Motion:
    rotations = np.zeros((len(arrays["expr"]), len(template.joint_names), 3))
    eyes = arrays["eyes_pose"]
    for joint, values in (
        ("root", arrays["rotation"]),
        ("neck", arrays["neck_pose"]),
        ("jaw", arrays["jaw_pose"]),
        ("left_eye", eyes[:, :3]),
        ("right_eye", eyes[:, 3:]),
    ):
        rotations[:, template.joint(joint)] = to_model(values)
    expressions = expression_columns(template, np.asarray(arrays["expr"], np.float64), None)
    translations = to_model(arrays["translation"]).astype(np.float32)
    return Motion(rotations.astype(np.float32), translations, expressions, fps)


def _document(file: Path) -> dict[str, Any]:
    for name in (f"{file.stem}.json", *JSON_NAMES):
        if (file.parent / name).is_file():
            try:
                document = json.loads(_bytes(file.parent / name, MAX_JSON_BYTES))
            except (ValueError, RecursionError) as error:
                raise BadCapture(f"{name} beside {file.name} is no JSON", found=str(error)) from error
            if not isinstance(document, dict):
                raise BadCapture(f"{name} beside {file.name} holds no names and values")
            return document
    raise BadCapture(f"there is no JSON beside the track {file.name}", expected=" or ".join(JSON_NAMES))


def _bytes(path: Path, most: int) -> bytes:
    try:
        if path.stat().st_size > most:
            raise BadCapture(f"{path.name} is too large", found=f"{path.stat().st_size} bytes", expected=f"<= {most}")
        return path.read_bytes()
    except OSError as error:
        raise BadCapture(f"{path} cannot be read", found=str(error.strerror)) from error
