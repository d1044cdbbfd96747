"""A track beside a video: the template's parameters and the camera of every picture, in a file.

Two layouts are read. Ours: a capture's parameters.npz (rotations, translations, expressions, K, world_from_camera) with
a JSON beside it (track.json, or the capture.json it came from) that names template, joints and expressions. FLAME's as
GaussianAvatars and VHAP write it: an .npz with expr, rotation, neck_pose, jaw_pose, eyes_pose, translation, shape, to
which K and world_from_camera were added; y-up, turned to our axes here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.online.frames import Subject
from avatars.templates.opening import TemplateReference
from shared.errors import BadCapture
from shared.npz import read_npz
from shared.types import Camera, Motion

JSON_NAMES = ("track.json", "capture.json")
OURS = ("rotations", "translations", "expressions", "K", "world_from_camera")
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
    missing = [name for name in OURS if name not in arrays]
    if missing:
        raise BadCapture(f"the track {file.name} lacks {missing[0]!r}", expected=", ".join(OURS))
    try:
        reference = TemplateReference.from_json(document["template"])
        template = reference.open()
        size = int(document["width_px"]), int(document["height_px"])
        fps = float(document["fps"])
    except KeyError as error:
        raise BadCapture(f"the JSON beside {file.name} lacks {error.args[0]!r}") from error
    except (TypeError, ValueError) as error:
        raise BadCapture(f"the JSON beside {file.name} is damaged", found=str(error)) from error
    for name, names in (("joint_names", template.joint_names), ("expression_names", template.expression_names)):
        if tuple(document.get(name, names)) != tuple(names):
            raise BadCapture(f"the {name} beside {file.name} are not those of its template")
    frames = len(arrays["rotations"])
    shapes: Mapping[str, tuple[tuple[int, ...], ...]] = {
        "rotations": ((frames, len(template.joint_names), 3),),
        "translations": ((frames, 3),),
        "expressions": ((frames, len(template.expression_names)),),
        "K": ((frames, 3, 3), (1, 3, 3)),
        "world_from_camera": ((frames, 4, 4), (1, 4, 4)),
    }
    for name, allowed in shapes.items():
        if arrays[name].shape not in allowed or arrays[name].dtype.kind != "f":
            raise BadCapture(
                f"{name} of the track {file.name} has the wrong shape",
                found=f"{list(arrays[name].shape)} {arrays[name].dtype}",
                expected=" or ".join(str(list(shape)) for shape in allowed),
            )
    if not frames:
        raise BadCapture(f"the track {file.name} has no frames")
    subject = Subject(
        str(document.get("subject") or document.get("name") or file.parent.name),
        reference,
        str(document.get("licence", "")),
        provenance={"track": file.name},
    )
    motion = Motion(arrays["rotations"], arrays["translations"], arrays["expressions"], fps)
    return Track(subject, motion, np.asarray(arrays["K"], np.float64), _doubles(arrays["world_from_camera"]), size)


def _doubles(array: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(array, np.float64)


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
