"""Read motions from .npz files and folders of them, telling by their content what they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._shared import errors, motions, shared_module
from .motion_source import REST, WORLD, Floats, SourceMotion

OURS = ("rotations", "translations", "expressions")
FLAME_JOINTS = {
    "rotation": ("root",),
    "neck_pose": ("neck",),
    "jaw_pose": ("jaw",),
    "eyes_pose": ("left_eye", "right_eye"),
}
FLAME_ARRAYS = ("expr", *FLAME_JOINTS, "translation")
FLAME_FOLDER = "flame_param"
SMPL_LEG_M = 0.80
"""Hip to ankle of SMPL's mean body."""
MAX_FILE_BYTES, MAX_UNPACKED_BYTES = 1 << 30, 2 << 30
MAX_FOLDER_FILES = 100_000
WANTED = frozenset((*OURS, *FLAME_ARRAYS, "fps", "joint_names", "expression_names", "root", "leg_m")) | motions.WANTED
TRACKER_FRAMES = "*.frame"


def is_tracker_folder(path: Path) -> bool:
    """Whether a folder (or a file in it) is metrical-tracker's or INSTA's: only the backend can read those."""
    folder = path if path.is_dir() else path.parent
    if path.is_file() and path.suffix != ".frame":
        return False
    places = (folder, folder / "checkpoint")
    return any(next(place.glob(TRACKER_FRAMES), None) is not None for place in places if place.is_dir())


def read_motion(path: Path, up: str = "AUTO") -> SourceMotion:
    """The motion in an .npz, or in a folder of FLAME parameters. Raises BadCapture with one sentence.

    up: which way is up in the file's world, a key of `motions.WORLD_FROM_UP`; AUTO takes z for AMASS and looks at how
    the body stands for registrations (smpl_params.npz), whose world is their cameras'.
    """
    folder = flame_folder(path)
    if folder is not None:
        return _flame(folder.parent.name or folder.name, _stacked(folder))
    if path.is_dir():
        raise errors.BadCapture(
            f"The folder {path.name} holds no motion",
            expected="flame_param/*.npz, or a tracker's checkpoint/*.frame",
        )
    arrays = _arrays(path, WANTED)
    if all(name in arrays for name in OURS):
        return _ours(path.name, arrays)
    if "expr" in arrays and "jaw_pose" in arrays:
        return _flame(path.name, arrays)
    if motions.is_smpl_motion(frozenset(arrays)):
        return _smpl(motions.smpl_motion(arrays, path.name), up)
    raise errors.BadCapture(
        f"{path.name} is no motion Effigy knows",
        found=", ".join(sorted(arrays)) or "none of the arrays that motions have",
        expected="AMASS, smpl_params.npz, flame_param.npz, or rotations, translations and expressions",
    )


def flame_folder(path: Path) -> Path | None:
    """The folder of single frames of FLAME that a path means: itself, the one inside it, or the one around a file."""
    if path.is_dir():
        inside = path / FLAME_FOLDER
        if inside.is_dir():
            return inside
        return path if path.name == FLAME_FOLDER else None
    is_one_of_many = path.parent.name == FLAME_FOLDER and path.suffix == ".npz"
    return path.parent if is_one_of_many and sum(1 for _ in path.parent.glob("*.npz")) > 1 else None


def _smpl(motion: Any, up: str) -> SourceMotion:
    chosen = up
    if up == "AUTO":
        chosen = "z" if motion.kind == "amass" else motions.likely_up(motion)
    rotations, pelvis = motions.in_model_axes(motion, chosen)
    notes = list(motion.notes)
    if motion.expressions.shape[1] and motion.expressions.any():
        notes.append("SMPL-X's expression numbers have no names and are left out.")
    labels = {156: "AMASS, SMPL+H", 165: "AMASS, SMPL-X", 72: "SMPL"}
    label = "SMPL-X registration" if motion.kind == "smpl_params" else labels.get(motion.width, "SMPL body")
    whole = motion.kind == "smpl_params" or bool(motion.width >= 156 or motion.rotations[:, 22:].any())
    body = motions.SMPLX_JOINTS if whole else motions.BODY_JOINTS
    return SourceMotion(
        motion.name,
        label + (f", {chosen} up" if chosen != "z" else ""),
        body,
        rotations[:, : len(body)],
        "pelvis",
        pelvis,
        WORLD,
        (),
        np.zeros((len(motion), 0)),
        motion.fps,
        SMPL_LEG_M,
        tuple(notes),
    )


def _ours(name: str, arrays: Mapping[str, NDArray[Any]]) -> SourceMotion:
    rotations, places, expressions = (_numbers(arrays[key], name, key) for key in OURS)
    joints, known = _names(arrays, "joint_names"), _names(arrays, "expression_names")
    fits = rotations.ndim == 3 and rotations.shape[2] == 3 and places.shape == (len(rotations), 3)
    fits = fits and expressions.ndim == 2 and len(expressions) == len(rotations) > 0
    fits = fits and len(joints) in (0, rotations.shape[1]) and len(known) in (0, expressions.shape[1])
    if not fits:
        raise errors.BadCapture(
            f"The arrays of {name} do not fit together",
            found=f"rotations {list(rotations.shape)}, translations {list(places.shape)}, "
            f"expressions {list(expressions.shape)}, {len(joints)} joint names, {len(known)} expression names",
            expected="[T, J, 3], [T, 3], [T, E], J and E names or none",
        )
    root = next(iter(_names(arrays, "root")), joints[0] if joints else "")
    leg = float(np.ravel(arrays["leg_m"])[0]) if "leg_m" in arrays and arrays["leg_m"].size else None
    return SourceMotion(
        name, "Effigy motion", joints, rotations, root, places, REST, known, expressions, _rate(arrays, name), leg
    )


def _flame(name: str, arrays: Mapping[str, NDArray[Any]]) -> SourceMotion:
    """FLAME's parameters over time. Without a neck the global rotation turns the neck (EMOCA and the like)."""
    values = {key: _numbers(arrays[key], name, key) for key in FLAME_ARRAYS if key in arrays}
    values = {key: value[None] if value.ndim == 1 else value for key, value in values.items()}
    count = len(values["expr"])
    joints: list[str] = []
    turns, notes = [], []
    for key, names in FLAME_JOINTS.items():
        if key not in values:
            continue
        if values[key].shape != (count, 3 * len(names)):
            raise errors.BadCapture(
                f"{key} of {name} does not fit",
                found=str(list(values[key].shape)),
                expected=f"[{count}, {3 * len(names)}]",
            )
        joints += names
        turns.append(values[key].reshape(count, -1, 3) @ motions.MODEL_FROM_SMPL.T)
    if "neck_pose" not in values and "rotation" in values:
        joints[joints.index("root")] = "neck"
        notes.append(f"{name} has no neck: its global rotation turns the neck.")
    places = np.zeros((count, 3))
    if "translation" in values:
        if values["translation"].shape != (count, 3):
            raise errors.BadCapture(f"translation of {name} does not fit", found=str(values["translation"].shape))
        places = values["translation"] @ motions.MODEL_FROM_SMPL.T
    expressions = tuple(f"exp{index:03d}" for index in range(values["expr"].shape[1]))
    rotations = np.concatenate(turns, 1) if turns else np.zeros((count, 0, 3))
    return SourceMotion(
        name,
        "FLAME track",
        tuple(joints),
        rotations,
        "root",
        places,
        REST,
        expressions,
        values["expr"],
        None,
        notes=tuple(notes),
    )


def _stacked(folder: Path) -> dict[str, NDArray[Any]]:
    """The frames of a folder of flame_param files, in the order of their names."""
    files = sorted(folder.glob("*.npz"))
    if not files or len(files) > MAX_FOLDER_FILES:
        raise errors.BadCapture(f"{folder} holds {len(files)} files", expected=f"1 to {MAX_FOLDER_FILES} .npz")
    rows: dict[str, list[NDArray[Any]]] = {}
    for file in files:
        arrays = _arrays(file, frozenset(FLAME_ARRAYS))
        if "expr" not in arrays or "jaw_pose" not in arrays or (rows and rows.keys() != arrays.keys()):
            raise errors.BadCapture(
                f"{folder.name}/{file.name} holds other arrays",
                found=", ".join(sorted(arrays)) or "nothing",
                expected=", ".join(sorted(rows)) or "expr, jaw_pose, …",
            )
        for key, value in arrays.items():
            rows.setdefault(key, []).append(value.reshape(-1))
    for key, values in rows.items():
        if len({len(value) for value in values}) != 1:
            raise errors.BadCapture(f"{key} in {folder.name} has another length from file to file")
    return {key: np.stack(values) for key, values in rows.items()}


def _arrays(path: Path, only: frozenset[str]) -> dict[str, NDArray[Any]]:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise errors.BadCapture(f"{path.name} is too large", expected=f"at most {MAX_FILE_BYTES} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise errors.BadCapture(f"{path} cannot be read", found=error.strerror or str(error)) from error
    read_npz = shared_module("npz").read_npz
    found: dict[str, NDArray[Any]] = read_npz(
        content, path.name, errors.BadCapture, max_unpacked_bytes=MAX_UNPACKED_BYTES, only=only
    )
    return found


def _numbers(value: NDArray[Any], name: str, what: str) -> Floats:
    if value.dtype.kind not in "fiu" or value.ndim == 0 or not len(value):
        raise errors.BadCapture(f"{what} of {name} is no array of numbers", found=str(value.dtype))
    numbers = value.astype(np.float64)
    bad = ~np.isfinite(numbers.reshape(len(numbers), -1)).all(axis=1)
    if bad.any():
        raise errors.BadCapture(
            f"{what} of {name} holds values that are not finite", found=f"frame {int(np.argmax(bad))}"
        )
    return numbers


def _names(arrays: Mapping[str, NDArray[Any]], key: str) -> tuple[str, ...]:
    return tuple(str(item) for item in np.ravel(arrays[key])) if key in arrays else ()


def _rate(arrays: Mapping[str, NDArray[Any]], name: str) -> float | None:
    if "fps" not in arrays or not arrays["fps"].size:
        return None
    fps = float(np.ravel(arrays["fps"])[0])
    if not 0.1 <= fps <= 10000:
        raise errors.BadCapture(f"{name} has an impossible frame rate", found=f"{fps:g}")
    return fps
