"""What can drive an avatar: a capture, a FLAME track (GaussianAvatars' flame_param.npz), or a motion of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from avatars.captures.capture import Capture
from avatars.captures.embedded import embedded_captures
from avatars.captures.flame_axes import to_model
from avatars.captures.opening import open_capture
from avatars.rgb_head.head_template import HeadTemplate
from avatars.rgb_head.reenact import Skeleton, Source
from avatars.templates.template import Template
from avatars.training.views import frontal_image
from shared.errors import BadCapture
from shared.npz import read_npz
from shared.types import Motion, Rig

MAX_FILE_BYTES = 1 << 30
DEFAULT_FPS = 25.0
OURS = ("rotations", "translations", "expressions")
FLAME_JOINTS = {
    "rotation": ("root",),
    "neck_pose": ("neck",),
    "jaw_pose": ("jaw",),
    "eyes_pose": ("left_eye", "right_eye"),
}
Arrays = dict[str, NDArray[np.generic]]


def read_source(name_or_path: str, rig: Rig, camera: str = "") -> Source:
    """A source by the name or folder of a capture, or from an .npz. Raises BadCapture.

    rig: the avatar's; a motion of ours that names no joints is of this rig. camera: as in `capture_source`.
    """
    path = Path(name_or_path).expanduser()
    if name_or_path in embedded_captures() or path.is_dir():
        return capture_source(open_capture(name_or_path), camera)
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= MAX_FILE_BYTES else b""
    except OSError as error:
        raise BadCapture(
            f"{path} cannot be read",
            found=str(error.strerror),
            expected="a capture's folder or name, a flame_param.npz, or an .npz with " + ", ".join(OURS),
        ) from error
    if size > MAX_FILE_BYTES:
        raise BadCapture(f"{path.name} is too large", found=f"{size} bytes", expected=f"at most {MAX_FILE_BYTES}")
    arrays: Arrays = read_npz(content, path.name, BadCapture)
    if all(name in arrays for name in OURS):
        return _ours(path.name, arrays, rig)
    if "expr" in arrays and "jaw_pose" in arrays:
        return _flame(path.name, arrays)
    raise BadCapture(
        f"{path.name} is no motion",
        found=", ".join(sorted(arrays)[:8]) or "nothing",
        expected=", ".join(OURS) + ", or FLAME's expr, jaw_pose, …",
    )


def capture_source(capture: Capture, camera: str = "") -> Source:
    """A recorded person's motion, seen by the camera of that name, or by the one that looks most into the face."""
    reference, arrays, offset = capture.template, capture.template.open(), capture.vertex_offset
    moved = None if offset is None else torch.from_numpy(np.array(offset, np.float32))
    head = HeadTemplate.make(Template(arrays), reference.preset, reference.shape, moved)
    skeleton = Skeleton(arrays.joint_names, arrays.parents, head.joints.numpy())
    images = images_of_camera(capture, camera) or tuple(range(len(capture.images)))
    lens = capture.cameras[capture.images[frontal_image(capture, images)].camera]
    return Source(
        f"capture {capture.name!r}", capture.motion, capture.joint_names, capture.expression_names, lens, skeleton
    )


def images_of_camera(capture: Capture, camera: str) -> tuple[int, ...]:
    """Indices of the images that the camera of that name took."""
    names, images = capture.camera_names, capture.images
    return tuple(index for index, image in enumerate(images) if names[image.camera] == camera)


def _ours(name: str, arrays: Arrays, rig: Rig) -> Source:
    rate = arrays.get("fps", np.zeros(0))
    if rate.dtype.kind not in "fiu":
        raise BadCapture(f"{name} has a frame rate that is no number", found=str(rate.dtype))
    fps = float(np.ravel(rate)[0]) if rate.size else DEFAULT_FPS
    joints = _names(arrays, "joint_names") or rig.joint_names
    expressions = _names(arrays, "expression_names") or rig.expression_names
    motion = Motion(*(_finite(name, key, arrays[key]) for key in OURS), fps)
    found = (motion.rotations.shape[1], motion.expressions.shape[1])
    if found != (len(joints), len(expressions)) or not len(motion):
        raise BadCapture(
            f"{name} is a motion of another rig",
            found=f"{found[0]} joints, {found[1]} expressions, {len(motion)} frames",
            expected=f"{len(joints)} joints, {len(expressions)} expressions",
            do="Write its joint_names and expression_names into the file",
        )
    return Source(name, motion, joints, expressions)


def _flame(name: str, arrays: Arrays) -> Source:
    """FLAME parameters over time, axes and names turned into ours (method pages 9.4 and 10.4).

    Without a neck the global rotation turns the neck, and the body stays: trackers such as EMOCA put all of a head's
    motion there (method page 11).
    """
    values = {key: _finite(name, key, arrays[key]) for key in ("expr", *FLAME_JOINTS, "translation") if key in arrays}
    frames = len(values["expr"])
    for key, value in values.items():
        if value.ndim != 2 or len(value) != frames or frames == 0:
            raise BadCapture(f"{key} of {name} does not fit", found=str(list(value.shape)), expected=f"[{frames}, N]")
    if "translation" in values and values["translation"].shape[1] != 3:
        raise BadCapture(f"translation of {name} does not fit", found=str(list(values["translation"].shape)))
    notes, names, turns = [], [], []
    for key, joints in FLAME_JOINTS.items():
        if key in values:
            if values[key].shape[1] != 3 * len(joints):
                raise BadCapture(
                    f"{key} of {name} does not fit", found=str(list(values[key].shape)), expected=f"{3 * len(joints)}"
                )
            names += joints
            turns.append(to_model(values[key].reshape(frames, len(joints), 3)))
    if "neck_pose" not in values and "rotation" in values:
        names[names.index("root")] = "neck"
        notes.append(f"{name} has no neck: its global rotation turns the neck.")
    shifted = to_model(values["translation"]) if "translation" in values else np.zeros((frames, 3))
    expressions = tuple(f"exp{index:03d}" for index in range(values["expr"].shape[1]))
    motion = Motion(np.concatenate(turns, 1), shifted, values["expr"], DEFAULT_FPS)
    return Source(name, motion, tuple(names), expressions, notes=tuple(notes))


def _names(arrays: Arrays, key: str) -> tuple[str, ...]:
    return tuple(str(item) for item in np.ravel(arrays[key])) if key in arrays else ()


def _finite(name: str, key: str, value: NDArray[np.generic]) -> NDArray[np.float64]:
    """The array as numbers. Raises BadCapture naming the first frame that is not finite."""
    if value.dtype.kind not in "fiu" or value.ndim < 2 or not len(value):
        raise BadCapture(f"{key} of {name} does not fit", found=f"{list(value.shape)} {value.dtype}")
    numbers = value.astype(np.float64)
    bad = ~np.isfinite(numbers.reshape(len(numbers), -1)).all(axis=1)
    if bad.any():
        raise BadCapture(
            f"{key} of {name} holds values that are not finite",
            found=f"frame {int(np.argmax(bad))}",
            do="Track it again with FLAME files of the version that the tracker expects",
        )
    return numbers
