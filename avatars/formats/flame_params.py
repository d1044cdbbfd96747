"""`flame_param.npz`: a person's shape and a motion in FLAME's axes, as GaussianAvatars and VHAP write them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadAvatar
from shared.npz import read_npz
from shared.template import TemplateArrays
from shared.types import Motion, Rig

Float = NDArray[np.float32]
SHAPES, EXPRESSIONS = 300, 100
FLAME_VERTICES, RGBAVATAR_VERTICES, GAUSSIAN_AVATARS_VERTICES = 5023, 5083, 5143
"""FLAME's own vertices; with RGBAvatar's teeth; with GaussianAvatars'."""
MAX_FILE_BYTES, MAX_UNPACKED_BYTES = 1 << 30, 2 << 30
FPS = 25.0
"""The files hold no frame rate."""
JOINTS = {"root": "rotation", "neck": "neck_pose", "jaw": "jaw_pose"}
EYES = ("left_eye", "right_eye")


@dataclass(frozen=True, eq=False)
class FlameParams:
    """FLAME's coefficients, in FLAME's axes (y up, facing +z).

    shape [S]; expr [T, E]; rotation, neck_pose, jaw_pose [T, 3] and eyes_pose [T, 6] (left, right) axis-angle rad;
    translation [T, 3] m; static_offset [V, 3] m or None.
    """

    shape: Float
    expr: Float
    rotation: Float
    neck_pose: Float
    jaw_pose: Float
    eyes_pose: Float
    translation: Float
    static_offset: Float | None = None

    def __len__(self) -> int:
        return len(self.expr)


def read_flame_params(path: Path) -> FlameParams:
    """The parameters of a flame_param.npz; `dynamic_offset` is left where it is, as no program applies it.

    Raises BadAvatar naming the file and the array that is missing or of another shape.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadAvatar(f"{path} is too large", expected=f"at most {MAX_FILE_BYTES} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise BadAvatar(f"{path} cannot be read", found=error.strerror or str(error)) from error
    arrays = read_npz(content, str(path), BadAvatar, max_unpacked_bytes=MAX_UNPACKED_BYTES)
    widths = {"rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "translation": 3}
    expr = _array(arrays, "expr", path)
    expr = expr[None] if expr.ndim == 1 else expr
    if expr.ndim != 2 or not len(expr):
        raise BadAvatar(f"{path} holds 'expr' in another form", found=str(list(expr.shape)), expected="[T, 100]")
    found = {}
    for name, width in widths.items():
        value = _array(arrays, name, path)
        value = value[None] if value.ndim == 1 else value
        if value.shape != (len(expr), width):
            raise BadAvatar(
                f"{path} holds {name!r} in another form",
                found=str(list(value.shape)),
                expected=f"[{len(expr)}, {width}], as many rows as 'expr'",
            )
        found[name] = value
    offset = None
    if "static_offset" in arrays:
        offset = _array(arrays, "static_offset", path)
        offset = offset[0] if offset.ndim == 3 and len(offset) == 1 else offset
        if offset.ndim != 2 or offset.shape[1] != 3:
            raise BadAvatar(
                f"{path} holds 'static_offset' in another form", found=str(list(offset.shape)), expected="[1, V, 3]"
            )
    return FlameParams(shape=_array(arrays, "shape", path).reshape(-1), expr=expr, static_offset=offset, **found)


def flame_params_bytes(params: FlameParams, *, vertices: int = GAUSSIAN_AVATARS_VERTICES) -> bytes:
    """A flame_param.npz with every array its readers expect, offsets padded with zeros to `vertices` rows."""
    offset = np.zeros((1, vertices, 3), np.float32)
    if params.static_offset is not None:
        rows = min(vertices, len(params.static_offset))
        offset[0, :rows] = params.static_offset[:rows]
    shape = np.zeros(max(SHAPES, len(params.shape)), np.float32)
    shape[: len(params.shape)] = params.shape
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        shape=shape,
        expr=params.expr,
        rotation=params.rotation,
        neck_pose=params.neck_pose,
        jaw_pose=params.jaw_pose,
        eyes_pose=params.eyes_pose,
        translation=params.translation,
        static_offset=offset,
        dynamic_offset=np.zeros((len(params), vertices, 3), np.float32),
    )
    return buffer.getvalue()


def motion_of(params: FlameParams, rig: Rig, fps: float = FPS) -> Motion:
    """The parameters as a motion of a FLAME rig, in model axes. Expressions the rig lacks must be zero.

    Raises BadAvatar for a rig without FLAME's joints or with fewer expressions than are used.
    """
    _check_joints(rig)
    count = len(params)
    rotations = np.zeros((count, len(rig.joint_names), 3), np.float32)
    turned = {name: getattr(params, field) for name, field in JOINTS.items()}
    turned |= {EYES[0]: params.eyes_pose[:, :3], EYES[1]: params.eyes_pose[:, 3:]}
    for name, value in turned.items():
        rotations[:, rig.joint_names.index(name)] = model_vectors(value)
    expressions = np.zeros((count, len(rig.expression_names)), np.float32)
    columns = _expression_columns(rig)
    if params.expr[:, len(columns) :].any():
        raise BadAvatar(
            "the motion uses more expressions than the avatar has",
            found=str(params.expr.shape[1]),
            expected=f"at most {len(columns)}",
        )
    used = min(params.expr.shape[1], len(columns))
    expressions[:, columns[:used]] = params.expr[:, :used]
    return Motion(rotations, model_vectors(params.translation), expressions, fps)


def params_of(motion: Motion, rig: Rig, vertex_offset: Float | None) -> FlameParams:
    """Inverse of `motion_of`, with the rig's shape and an offset [V, 3] m of model axes. Eyelids have no place in it.

    Raises BadAvatar for a rig without FLAME's joints.
    """
    _check_joints(rig)
    turned = {name: flame_vectors(motion.rotations[:, rig.joint_names.index(name)]) for name in (*JOINTS, *EYES)}
    expr = np.zeros((len(motion), EXPRESSIONS), np.float32)
    columns = _expression_columns(rig)[:EXPRESSIONS]
    expr[:, : len(columns)] = motion.expressions[:, columns]
    return FlameParams(
        shape=np.asarray(rig.shape, np.float32),
        expr=expr,
        **{field: turned[name] for name, field in JOINTS.items()},
        eyes_pose=np.concatenate([turned[name] for name in EYES], 1),
        translation=flame_vectors(motion.translations),
        static_offset=None if vertex_offset is None else flame_vectors(vertex_offset),
    )


def offset_for(params: FlameParams, template: TemplateArrays, path: Path) -> Float | None:
    """The static offset in model axes with a row for every vertex of a template; other teeth than its own are left out.

    Raises BadAvatar where it is of another mesh.
    """
    if params.static_offset is None or not params.static_offset.any():
        return None
    rows = len(params.static_offset)
    if rows not in (FLAME_VERTICES, RGBAVATAR_VERTICES, GAUSSIAN_AVATARS_VERTICES):
        raise BadAvatar(
            f"{path} holds a static offset of another mesh",
            found=f"{rows} vertices",
            expected=f"FLAME's {FLAME_VERTICES}, or with teeth {RGBAVATAR_VERTICES} or {GAUSSIAN_AVATARS_VERTICES}",
        )
    offset = np.zeros((len(template.vertices), 3), np.float32)
    used = rows if rows == len(offset) else FLAME_VERTICES
    offset[:used] = model_vectors(params.static_offset[:used])
    return offset


def model_vectors(vectors: NDArray[np.floating]) -> Float:
    """Vectors [..., 3] of FLAME's axes in Effigy's: (x, y, z) becomes (x, -z, y). Axis-angle vectors turn likewise."""
    x, y, z = np.moveaxis(np.asarray(vectors, np.float32), -1, 0)
    return np.stack((x, -z, y), -1)


def flame_vectors(vectors: NDArray[np.floating]) -> Float:
    """Inverse of `model_vectors`: (x, y, z) becomes (x, z, -y)."""
    x, y, z = np.moveaxis(np.asarray(vectors, np.float32), -1, 0)
    return np.stack((x, z, -y), -1)


def _check_joints(rig: Rig) -> None:
    missing = [name for name in (*JOINTS, *EYES) if name not in rig.joint_names]
    if missing:
        raise BadAvatar(
            f"the template {rig.template_id!r} is not FLAME's",
            found=f"no joint {missing[0]!r}",
            do="Only heads on FLAME go with flame_param.npz",
        )


def _expression_columns(rig: Rig) -> list[int]:
    """Where exp000, exp001, … stand among the rig's expressions."""
    names = [f"exp{number:03d}" for number in range(len(rig.expression_names))]
    return [rig.expression_names.index(name) for name in names if name in rig.expression_names]


def _array(arrays: dict[str, NDArray[np.generic]], name: str, path: Path) -> Float:
    value = arrays.get(name)
    if value is None or value.dtype.kind not in "fiu":
        raise BadAvatar(f"{path} holds no numbers {name!r}", expected="the arrays of a flame_param.npz")
    value = value.astype(np.float32)
    if not np.isfinite(value).all():
        raise BadAvatar(f"{path} holds values of {name!r} that are not finite")
    return value
