"""Motions of SMPL's family of bodies from files: AMASS of any width and `smpl_params.npz`. numpy only, for both rooms.

Source: bodies page C.1 and C.7. Files hold rotations in SMPL's own axes (y up at rest, facing +z, left is +x) and a
root that turns the rest body into the file's world. `in_model_axes` is the one place where that becomes Effigy's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import BadCapture
from .npz import read_npz
from .rotations import axis_angles_from_matrices
from .template import rotation_matrices
from .types import Float32, Float64, frozen_array

BODY_JOINTS = (
    *("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle"),
    *("spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder"),
    *("right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
)
FACE_JOINTS = ("jaw", "left_eye", "right_eye")
HAND_JOINTS = tuple(f"{finger}{n}" for finger in ("index", "middle", "pinky", "ring", "thumb") for n in (1, 2, 3))
SMPLX_JOINTS = (
    *BODY_JOINTS,
    *FACE_JOINTS,
    *(f"left_{name}" for name in HAND_JOINTS),
    *(f"right_{name}" for name in HAND_JOINTS),
)
"""The 55 joints in SMPL-X's order."""
MODEL_FROM_SMPL = np.array(((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)))
"""(x, y, z) of SMPL's rest axes is (x, -z, y) here."""
WORLD_FROM_UP: Mapping[str, NDArray[np.float64]] = {
    "z": np.eye(3),
    "-z": np.diag([1.0, -1.0, -1.0]),
    "y": MODEL_FROM_SMPL,
    "-y": np.array(((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))),
    "x": np.array(((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))),
    "-x": np.array(((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (-1.0, 0.0, 0.0))),
}
"""What turns a world with that axis upwards so that z is."""
PELVIS_SMPLX_M = (0.003, -0.351, 0.012)
PELVIS_SMPLH_M = (-0.002, -0.241, 0.029)
"""The mean body's pelvis at rest in its model's axes; `translations` move the model, so its pelvis is that far off."""
MAX_FILE_BYTES, MAX_UNPACKED_BYTES = 1 << 30, 2 << 30
LARGEST = 1e6
_RATES = ("mocap_frame_rate", "mocap_framerate", "fps", "frame_rate")
_POSES = ("poses", "trans", "betas", *_RATES)
_PARTS: Mapping[str, tuple[tuple[str, ...], tuple[int, int]]] = {
    "root": (("global_orient", "root_orient"), (0, 1)),
    "body": (("body_pose", "pose_body"), (1, 22)),
    "jaw": (("jaw_pose", "pose_jaw"), (22, 23)),
    "eyes": (("pose_eye",), (23, 25)),
    "left eye": (("leye_pose",), (23, 24)),
    "right eye": (("reye_pose",), (24, 25)),
    "left hand": (("left_hand_pose",), (25, 40)),
    "right hand": (("right_hand_pose",), (40, 55)),
    "hands": (("pose_hand",), (25, 55)),
}
"""Part -> (names of its array, joints it fills)."""
_PLACES = ("transl", "trans")
WANTED = frozenset((*_POSES, *_PLACES, "expression", *(name for names, _ in _PARTS.values() for name in names)))


@dataclass(frozen=True, eq=False)
class SmplMotion:
    """A motion as its file holds it, filled up to SMPL-X's 55 joints.

    kind: "amass" or "smpl_params". rotations: [T, 55, 3] rad, each relative to its parent, in SMPL's axes; the first
    turns the rest body into the file's world. translations: [T, 3] m of the file's world. expressions: [T, E], SMPL-X
    coefficients, E may be 0. betas: [B]. fps: None where the file does not say. width: numbers of a pose in the file.
    pelvis_m: [3], see PELVIS_SMPLX_M. notes: sentences about what was left out.
    """

    name: str
    kind: str
    rotations: Float32
    translations: Float32
    expressions: Float32
    betas: Float32
    fps: float | None
    width: int
    pelvis_m: tuple[float, float, float]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.rotations)
        shapes = {"rotations": (count, 55, 3), "translations": (count, 3), "expressions": (count, None)}
        for name, shape in {**shapes, "betas": (None,)}.items():
            found = frozen_array(getattr(self, name), np.float32, shape, f"SmplMotion.{name}")
            object.__setattr__(self, name, found)

    def __len__(self) -> int:
        return len(self.rotations)


def read_smpl_motion(path: Path) -> SmplMotion:
    """The motion in an AMASS file or a smpl_params.npz. Raises BadCapture with one sentence."""
    path = Path(path)
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= MAX_FILE_BYTES else b""
    except OSError as error:
        raise BadCapture(f"{path} cannot be read", found=error.strerror or str(error)) from error
    if size > MAX_FILE_BYTES:
        raise BadCapture(f"{path.name} is too large", found=f"{size} bytes", expected=f"at most {MAX_FILE_BYTES}")
    arrays = read_npz(content, path.name, BadCapture, max_unpacked_bytes=MAX_UNPACKED_BYTES, only=WANTED)
    return smpl_motion(arrays, path.name)


def is_smpl_motion(names: Mapping[str, Any] | frozenset[str]) -> bool:
    """Whether arrays of these names are such a motion."""
    return "poses" in names or ({"body_pose"} <= set(names)) or {"root_orient", "pose_body"} <= set(names)


def smpl_motion(arrays: Mapping[str, NDArray[Any]], name: str) -> SmplMotion:
    """The motion in the arrays of a file called `name`. Raises BadCapture."""
    if not is_smpl_motion(arrays):
        raise BadCapture(
            f"{name} is no body motion",
            found=", ".join(sorted(arrays)[:8]) or "nothing",
            expected="AMASS's poses and trans, or body_pose, global_orient and transl",
        )
    notes: list[str] = []
    if "poses" in arrays:
        rotations, width = _from_poses(arrays["poses"], name, notes)
    else:
        rotations, width = _from_parts(arrays, name, notes)
    count = len(rotations)
    places = next((arrays[key] for key in _PLACES if key in arrays), None)
    translations: NDArray[Any] = (
        np.zeros((count, 3)) if places is None else _rows(places, name, "the translation", count, 3)
    )
    if places is None:
        notes.append(f"{name} has no translation: the root stays in place.")
    expressions: NDArray[Any] = np.zeros((count, 0))
    if "expression" in arrays and arrays["expression"].size:
        expressions = _rows(arrays["expression"], name, "expression", count, arrays["expression"].shape[-1])
    rate = next((arrays[key] for key in _RATES if key in arrays and arrays[key].size), None)
    for what, value in (("the frame rate", rate), ("betas", arrays.get("betas"))):
        if value is not None and value.dtype.kind not in "fiu":
            raise BadCapture(f"{what} of {name} is no number", found=str(value.dtype))
    fps = None if rate is None else float(np.asarray(rate, np.float64).reshape(-1)[0])
    if fps is not None and not 0.1 <= fps <= 10000:
        raise BadCapture(f"{name} has an impossible frame rate", found=f"{fps:g}", expected="frames per second")
    betas = np.asarray(arrays["betas"], np.float32).reshape(-1) if "betas" in arrays else np.zeros(0, np.float32)
    kind = "smpl_params" if "body_pose" in arrays else "amass"
    pelvis = PELVIS_SMPLH_M if width in (156, 72) else PELVIS_SMPLX_M
    turned: NDArray[Any] = rotations
    return SmplMotion(name, kind, turned, translations, expressions, betas, fps, width, pelvis, tuple(notes))


def likely_up(motion: SmplMotion) -> str:
    """The axis of the file's world that the body's own up points along most of the time: a key of WORLD_FROM_UP."""
    mean = rotation_matrices(motion.rotations[:, 0])[:, :, 1].mean(axis=0)
    axis = int(np.argmax(np.abs(mean)))
    return ("" if mean[axis] >= 0 else "-") + "xyz"[axis]


def in_model_axes(motion: SmplMotion, up: str = "z", pelvis_m: ArrayLike | None = None) -> tuple[Float64, Float64]:
    """(rotations [T, 55, 3] rad in model axes, pelvis [T, 3] m in a z-up world), with up: the file's up axis.

    pelvis_m: [3] the rest pelvis of the body the file was made with, in SMPL's axes; None for the mean body's.
    """
    world = WORLD_FROM_UP[up]
    rotations = np.asarray(motion.rotations, np.float64) @ MODEL_FROM_SMPL.T
    roots = world @ rotation_matrices(motion.rotations[:, 0]) @ MODEL_FROM_SMPL.T
    rotations[:, 0] = axis_angles_from_matrices(roots)
    rest = np.asarray(motion.pelvis_m if pelvis_m is None else pelvis_m, np.float64)
    return rotations, (motion.translations.astype(np.float64) + rest) @ world.T


def _from_poses(value: NDArray[Any], name: str, notes: list[str]) -> tuple[Float64, int]:
    """[T, 55, 3] from AMASS's one array; the joints are told by its width."""
    flat = _numbers(value, name, "poses")
    if flat.ndim == 1:
        flat = flat[None]
    flat = flat.reshape(len(flat), -1)
    width = flat.shape[1]
    if not len(flat) or width < 66:
        raise BadCapture(
            f"the poses of {name} have another width",
            found=f"{len(flat)} frames of {width} numbers",
            expected="156 (SMPL+H), 165 (SMPL-X), 72 (SMPL), or at least the body's 66",
        )
    rotations = np.zeros((len(flat), 165))
    rotations[:, :66] = flat[:, :66]
    if width == 165:
        rotations[:] = flat
    elif width == 156:
        rotations[:, 75:] = flat[:, 66:]
    elif width not in (66, 72):
        notes.append(f"The poses of {name} are {width} numbers wide: only the body's first 66 are used.")
    return rotations.reshape(-1, 55, 3), width


def _from_parts(arrays: Mapping[str, NDArray[Any]], name: str, notes: list[str]) -> tuple[Float64, int]:
    body = next(arrays[key] for key in _PARTS["body"][0] if key in arrays)
    count = body.shape[0] if body.ndim > 1 else 1
    _rows(body, name, "the body", count, 63)  # before anything is made of that length
    rotations, width = np.zeros((count, 55, 3)), 0
    for part, (names, (first, last)) in _PARTS.items():
        value = next((arrays[key] for key in names if key in arrays and arrays[key].size), None)
        if value is None:
            continue
        wanted = 3 * (last - first)
        if "hand" in part and value.size != wanted * (value.shape[0] if value.ndim > 1 else 1):
            notes.append(f"The {part} of {name} is not 45 numbers (PCA?): it stays flat.")
            continue
        rotations[:, first:last] = _rows(value, name, f"the {part}", count, wanted).reshape(count, -1, 3)
        width += wanted
    return rotations, width


def _rows(value: NDArray[Any], name: str, what: str, count: int, width: int) -> Float64:
    """[count, width] from an array with any inner shape; one row serves all frames. Raises BadCapture."""
    numbers = _numbers(value, name, what)
    rows = numbers.reshape(1, -1) if numbers.ndim == 1 else numbers.reshape(len(numbers), -1)
    if rows.shape[1] != width or len(rows) not in (1, count):
        raise BadCapture(
            f"{what} of {name} does not fit", found=str(list(value.shape)), expected=f"[{count}, {width}] numbers"
        )
    return np.broadcast_to(rows, (count, width)).astype(np.float64)


def _numbers(value: NDArray[Any], name: str, what: str) -> Float64:
    if value.dtype.kind not in "fiu":
        raise BadCapture(f"{what} of {name} is no array of numbers", found=str(value.dtype))
    if value.ndim == 0 or not len(value):
        raise BadCapture(f"{what} of {name} is empty", found=str(list(value.shape)))
    numbers = value.astype(np.float64)
    bad = ~(np.abs(numbers.reshape(len(numbers), -1)) < LARGEST).all(axis=1)
    if bad.any():
        raise BadCapture(f"{what} of {name} holds values that are not finite", found=f"frame {int(np.argmax(bad))}")
    return numbers
