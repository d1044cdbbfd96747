"""Choices a user writes beside a recording that was not made by Effigy: the file `effigy.json` in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from avatars.captures.reading import Reading
from avatars.files import write_atomically
from avatars.training.typed import from_mapping
from shared.errors import BadCapture, BadConfig

OPTIONS = "effigy.json"
MAX_OPTIONS_BYTES = 1 << 20


@dataclass(frozen=True)
class SplitChoice:
    """What a body recording is trained and tested on; what is left out stays as published or usual.

    Cameras are places in the calibration file, frames [first, one after the last]. thin_rad: see `BodySplit`, -1 for
    what is usual.
    """

    train_cameras: tuple[int, ...] = ()
    train_frames: tuple[int, ...] = ()
    test_cameras: tuple[int, ...] = ()
    test_frames: tuple[int, ...] = ()
    thin_rad: float = -1.0


@dataclass(frozen=True)
class CaptureOptions:
    """How to read a folder that was not made by Effigy.

    test_frames: INSTA only, the last so many frames are held out (method page 3.3). images: the folder of pictures,
    INSTA's 'images.HQ' is twice as large. masks: INSTA only, a folder of one-channel masks named like the pictures, ''
    where pictures bring their own alpha. pairing: pictures and tracked frames are paired by name; 'checked' refuses
    names that look shifted against each other, 'name' accepts them, 'order' pairs the first with the first.
    template: id of the template, '' for the one the layout is made for. held_out_camera: NeRSemble only, index of the
    camera kept back where there is no transforms_val.json, -1 for none. reading: how camera numbers are meant, for
    files of other trackers. preset: of Effigy's own template, where a body is read with that. up: the up axis of a body
    recording's world, '' to tell it by how the body stands. split: for body recordings, instead of what is published or
    usual. gender: PeopleSnapshot and RANA, which SMPL to prefer. train_range, test_range: PeopleSnapshot, first frame,
    last frame and step of each split. camera_units: of camera places in files,
    '' to tell metres from millimetres by how far cameras stand from the body (annots.npy), metres elsewhere. subject
    and licence are carried into the avatar.
    """

    test_frames: int = 350
    images: str = "images"
    masks: str = ""
    fps: float = 25.0
    pairing: Literal["checked", "name", "order"] = "checked"
    template: str = ""
    held_out_camera: int = 8
    preset: str = ""
    up: Literal["", "x", "-x", "y", "-y", "z", "-z"] = ""
    split: SplitChoice = field(default_factory=SplitChoice)
    camera_units: Literal["", "m", "mm"] = ""
    subject: str = ""
    licence: str = "not stated"
    gender: Literal["", "male", "female", "neutral"] = ""
    train_range: tuple[int, ...] = ()
    test_range: tuple[int, ...] = ()
    reading: Reading = field(default_factory=Reading)


def read_options(folder: Path, reading: Reading) -> CaptureOptions:
    """The options in `folder`, or the defaults with the layout's own `reading`. Raises BadCapture."""
    path = folder / OPTIONS
    if not path.is_file():
        return CaptureOptions(reading=reading)
    try:
        values: Any = json.loads(small_file(path, MAX_OPTIONS_BYTES))
        if not isinstance(values, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        raise BadCapture(f"{OPTIONS} of {folder.name} is no JSON", found=str(error)) from error
    own = {"matrix": reading.matrix, "axes": reading.axes, "up": reading.up, "intrinsics": reading.intrinsics}
    if isinstance(values.get("reading", {}), dict):
        values["reading"] = own | values.get("reading", {})
    try:
        options = from_mapping(CaptureOptions, values, f"{OPTIONS} of {folder.name}")
    except BadConfig as error:
        raise BadCapture(error.what, found=error.found, expected=error.expected) from error
    if options.test_frames < 1 or options.fps <= 0:
        raise BadCapture(
            f"{OPTIONS} of {folder.name} has a number that makes no sense",
            found=f"test_frames {options.test_frames}, fps {options.fps}",
            expected="at least 1 and above 0",
        )
    return options


def amend_options(folder: Path, changes: Mapping[str, Any]) -> None:
    """Add `changes` to the options in `folder`, in one step; groups are merged.

    Raises BadCapture where the file there is damaged, EnvironmentFailed where the disk refuses.
    """
    path = folder / OPTIONS
    values = json_object(path, MAX_OPTIONS_BYTES) if path.is_file() else {}
    for key, value in changes.items():
        before = values.get(key)
        values[key] = before | value if isinstance(before, dict) and isinstance(value, Mapping) else value
    write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())


def small_file(path: Path, most: int) -> bytes:
    """Content of a file of at most `most` bytes. Raises BadCapture."""
    try:
        size = path.stat().st_size
        if size > most:
            raise BadCapture(f"{path.name} is too large", found=f"{size} bytes", expected=f"at most {most}")
        return path.read_bytes()
    except OSError as error:
        raise BadCapture(f"{path.name} cannot be read", found=error.strerror or str(error)) from error


def json_object(path: Path, most: int) -> dict[str, Any]:
    """A JSON object from a file of at most `most` bytes. Raises BadCapture."""
    try:
        document = json.loads(small_file(path, most))
        if not isinstance(document, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        raise BadCapture(f"{path.parent.name}/{path.name} is no JSON object", found=str(error)[:200]) from error
    return document
