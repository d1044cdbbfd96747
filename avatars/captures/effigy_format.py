"""Reader of the Effigy capture format, version 1: capture.json, its .npz files and images/."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.captures.capture import Capture, CaptureImage, check_counts, check_names
from avatars.captures.true_surfaces import SURFACES
from avatars.templates.opening import TemplateReference
from shared.errors import BadCapture, EffigyError
from shared.file_names import is_device
from shared.npz import read_npz
from shared.types import Camera, Environment, Motion

FORMAT, VERSION = "effigy-capture", 1
DESCRIPTION, PARAMETERS, LIGHT = "capture.json", "parameters.npz", "environment.npz"
MAX_JSON_BYTES, MAX_NPZ_BYTES = 64 << 20, 1 << 30
PARAMETER_NAMES = ("rotations", "translations", "expressions", "K", "world_from_camera")


def read_effigy_capture(folder: Path) -> Capture:
    """The capture in `folder`, with everything but the pictures' content checked. Raises BadCapture."""
    document = _document(folder)
    try:
        reference = TemplateReference.from_json(document["template"])
        arrays = reference.open()
        capture = _assemble(folder, document, reference)
        check_names(capture, arrays.joint_names, arrays.expression_names)
        check_counts(capture)
    except KeyError as error:
        raise BadCapture(f"{DESCRIPTION} of {folder.name} lacks {error.args[0]!r}") from error
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise BadCapture(f"{DESCRIPTION} of {folder.name} is damaged", found=str(error)) from error
    except BadCapture:
        raise
    except EffigyError as error:
        raise BadCapture(
            f"capture {folder.name} does not fit: {error.what}", found=error.found, expected=error.expected, do=error.do
        ) from error
    return capture


def _document(folder: Path) -> dict[str, Any]:
    try:
        content = _bytes(folder / DESCRIPTION, MAX_JSON_BYTES)
    except OSError as error:
        raise BadCapture(f"there is no capture in {folder}", found=f"no {DESCRIPTION}", do="Check the path") from error
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadCapture(f"{DESCRIPTION} of {folder.name} is no JSON", found=str(error)) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BadCapture(f"{folder} is no Effigy capture", expected=f"format {FORMAT!r} in {DESCRIPTION}")
    if document.get("version") != VERSION:
        raise BadCapture(
            f"capture {folder.name} has another version",
            found=str(document.get("version")),
            expected=str(VERSION),
            do="Open it with the version of Effigy that made it",
        )
    return document


def _assemble(folder: Path, document: Mapping[str, Any], reference: TemplateReference) -> Capture:
    parameters = _arrays(folder, PARAMETERS)
    missing = [name for name in PARAMETER_NAMES if name not in parameters]
    if missing:
        raise BadCapture(f"{PARAMETERS} of {folder.name} lacks {missing[0]!r}", expected=", ".join(PARAMETER_NAMES))
    joint_names, expression_names = tuple(document["joint_names"]), tuple(document["expression_names"])
    _count(folder, "rotations", parameters["rotations"], 1, len(joint_names), "joint_names")
    _count(folder, "expressions", parameters["expressions"], 1, len(expression_names), "expression_names")
    frames = len(parameters["rotations"])
    for name in ("translations", "expressions"):
        _count(folder, name, parameters[name], 0, frames, "rotations")
    cameras = document["cameras"]
    for name in ("K", "world_from_camera"):
        _count(folder, name, parameters[name], 0, len(cameras), "cameras")
    size = int(document["width_px"]), int(document["height_px"])
    poses = zip(parameters["K"], parameters["world_from_camera"], strict=True)
    return Capture(
        name=str(document["name"]),
        kind=str(document["kind"]),
        subject=str(document["subject"]),
        licence=str(document["licence"]),
        synthetic=bool(document["synthetic"]),
        template=reference,
        joint_names=joint_names,
        expression_names=expression_names,
        motion=Motion(
            parameters["rotations"], parameters["translations"], parameters["expressions"], float(document["fps"])
        ),
        cameras=tuple(Camera(*size, K, pose) for K, pose in poses),
        camera_names=tuple(str(camera["name"]) for camera in cameras),
        images=tuple(_image(folder, entry) for entry in document["images"]),
        environment=_environment(folder),
        provenance={"capture": str(document["name"]), "generator": document.get("generator", {})},
        true_surfaces=folder / SURFACES if (folder / SURFACES).is_file() else None,
        tracked=bool(document.get("tracked", False)),
        confidence=_confidence(folder, parameters),
    )


def _image(folder: Path, entry: Mapping[str, Any]) -> CaptureImage:
    file = folder / str(entry["file"])
    if not file.resolve().is_relative_to(folder.resolve()) or any(map(is_device, Path(str(entry["file"])).parts)):
        raise BadCapture(f"capture {folder.name} names a picture outside its folder", found=str(entry["file"]))
    truth, light = entry.get("aovs", {}), entry.get("light")
    return CaptureImage(
        file,
        int(entry["camera"]),
        int(entry["frame"]),
        str(entry["split"]),
        aovs={str(name): _inside(folder, value) for name, value in truth.items()},
        light=None if light is None else _inside(folder, light),
    )


def _confidence(folder: Path, parameters: Mapping[str, NDArray[Any]]) -> NDArray[np.float32] | None:
    """The tracker's trust in each frame, where it is stored. Raises BadCapture."""
    found = parameters.get("confidence")
    if found is None:
        return None
    _count(folder, "confidence", found, 0, len(parameters["translations"]), "translations")
    if found.ndim != 1 or not ((found >= 0) & (found <= 1)).all():
        raise BadCapture(f"confidence of capture {folder.name} is not in 0 to 1", do="Track it again")
    return found.astype(np.float32)


def _inside(folder: Path, name: Any) -> Path:
    """A file that the capture's description names. Raises BadCapture for one outside or one that is not there."""
    file = folder / str(name)
    if not file.resolve().is_relative_to(folder.resolve()) or any(map(is_device, Path(str(name)).parts)):
        raise BadCapture(f"capture {folder.name} names a file outside its folder", found=str(name))
    if not file.is_file():
        raise BadCapture(f"capture {folder.name} lacks a file", found=f"no {name}", do="Copy the capture again")
    return file


def _environment(folder: Path) -> Environment | None:
    if not (folder / LIGHT).is_file():
        return None
    arrays = _arrays(folder, LIGHT)
    if "radiance" not in arrays:
        raise BadCapture(f"{LIGHT} of {folder.name} lacks 'radiance'")
    return Environment(arrays["radiance"])


def _arrays(folder: Path, name: str) -> dict[str, NDArray[Any]]:
    try:
        content = _bytes(folder / name, MAX_NPZ_BYTES)
    except OSError as error:
        raise BadCapture(f"capture {folder.name} lacks {name}", do="Copy the capture again") from error
    return read_npz(content, f"{name} of capture {folder.name}", BadCapture)


def _bytes(path: Path, most: int) -> bytes:
    if path.stat().st_size > most:
        raise BadCapture(f"{path.name} is too large", found=f"{path.stat().st_size} bytes", expected=f"at most {most}")
    return path.read_bytes()


def _count(folder: Path, name: str, array: NDArray[Any], axis: int, wanted: int, against: str) -> None:
    if array.ndim <= axis or array.shape[axis] != wanted or not np.issubdtype(array.dtype, np.floating):
        raise BadCapture(
            f"{name} and {against} of capture {folder.name} have unequal counts",
            found=f"{name} {list(array.shape)} {array.dtype}",
            expected=f"{wanted} along axis {axis}",
            do="Export the capture again",
        )
