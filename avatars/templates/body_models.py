"""Reads SMPL-X and SMPL from their owner's own files (.npz, or .pkl by the restricted reader). Nothing in them is run.

Axes of the files are y up, facing +z; everything is turned to Effigy's (z up, facing -y) here, once. SMPL and SMPL-X
are licensed by the Max Planck Society and never ship with Effigy. Source: bodies page C.6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.templates.restricted_pickle import read_pickle
from avatars.templates.stored import as_stored
from shared.errors import BadTemplate
from shared.motions import BODY_JOINTS, MODEL_FROM_SMPL, SMPLX_JOINTS
from shared.npz import read_npz
from shared.template import TemplateArrays

Array = NDArray[np.float64]

GENDERS = ("neutral", "male", "female")
MAX_NPZ_BYTES = 512 << 20
EXPRESSIONS_FROM = 300
"""Column at which expressions begin in files with 400 shape columns (v1.1); in others they follow 10 shapes."""
OLD_SHAPES = 10
RANGE = (-5.0, 5.0)
LICENCE = "SMPL and SMPL-X are licensed by the Max Planck Society for non-commercial research only: no redistribution"
NEEDED = ("v_template", "f", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table")
OPTIONAL = ("vt", "ft")
KNOWN_COUNTS: Mapping[int, str] = {
    5023: "FLAME",
    778: "MANO",
    6890: "SMPL or SMPL+H",
    10475: "SMPL-X",
    18439: "MHR",
}


@dataclass(frozen=True)
class BodyKind:
    """One published body: its name, sizes, joints and parents."""

    name: str
    vertices: int
    faces: int
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]


_FINGERS = tuple(parent for base in (25, 28, 31, 34, 37) for parent in (20, base, base + 1)) + tuple(
    parent for base in (40, 43, 46, 49, 52) for parent in (21, base, base + 1)
)
_BODY_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)
SMPLX = BodyKind("smplx", 10475, 20908, SMPLX_JOINTS, (*_BODY_PARENTS, 15, 15, 15, *_FINGERS))
SMPL = BodyKind("smpl", 6890, 13776, (*BODY_JOINTS, "left_hand", "right_hand"), (*_BODY_PARENTS, 20, 21))
KINDS = (SMPLX, SMPL)


def is_body_file(path: Path) -> bool:
    """Whether a file's name says that it holds SMPL or SMPL-X rather than FLAME."""
    name = path.name.lower()
    return "smpl" in name or name.startswith("basicmodel") or (path.suffix == ".npz" and "flame" not in name)


def read_body_model(path: Path, *, gender: str = "", kinds: Sequence[BodyKind] = KINDS) -> TemplateArrays:
    """SMPL-X or SMPL as a template of view 'body', z up, whichever the file holds.

    gender: 'neutral', 'male' or 'female' where the file's name does not say it; kinds: whose number of vertices is
    looked for. Shapes are 'shape000'..., expressions
    'exp000'... Pose correctives are kept. Raises BadTemplate with a sentence that names the file and what it holds.
    """
    content = _content(path)
    vertices = content.get("v_template")
    count = len(vertices) if isinstance(vertices, np.ndarray) and vertices.ndim == 2 else 0
    kind = next((kind for kind in kinds if kind.vertices == count), None)
    if kind is None:
        looks = f" (that is {KNOWN_COUNTS[count]})" if count in KNOWN_COUNTS else ""
        raise BadTemplate(
            f"{path.name} is no body model of SMPL-X or SMPL",
            found=f"{count} vertices{looks}" if count else "no v_template with vertices",
            expected="10475 vertices (SMPL-X) or 6890 (SMPL)",
            do="Give SMPLX_NEUTRAL.npz from smpl-x.is.tue.mpg.de",
        )
    arrays = _checked(content, kind, path)
    named = gender or next((one for one in GENDERS[::-1] if one in path.name.lower()), "") or _short(path) or "neutral"
    if named not in GENDERS:
        raise BadTemplate(f"unknown gender {named!r}", expected=", ".join(GENDERS))
    return _template(arrays, kind, f"{kind.name}_{named}")


def _short(path: Path) -> str:
    """Gender by the one-letter names of SMPL's first release (basicModel_f_lbs_...)."""
    name = path.name.lower()
    return "female" if "_f_" in name else "male" if "_m_" in name else ""


def _content(path: Path) -> dict[str, Any]:
    if path.suffix.lower() == ".npz":
        try:
            size = path.stat().st_size
            content = path.read_bytes() if size <= MAX_NPZ_BYTES else b""
        except OSError as error:
            raise BadTemplate(f"{path} cannot be read", found=error.strerror or str(error)) from error
        if size > MAX_NPZ_BYTES:
            raise BadTemplate(f"{path.name} is too large", found=f"{size} bytes", expected=f"at most {MAX_NPZ_BYTES}")
        wanted = (*NEEDED, *OPTIONAL)
        return dict(read_npz(content, path.name, BadTemplate, max_unpacked_bytes=1 << 30, only=wanted))
    found = read_pickle(path)
    if not isinstance(found, dict):
        raise BadTemplate(f"{path.name} is no body model", found=type(found).__name__, expected="a dictionary")
    return {str(name): value for name, value in found.items()}


def _checked(content: Mapping[str, Any], kind: BodyKind, path: Path) -> dict[str, Array]:
    """The needed arrays as float64, every shape and every number checked."""
    joints = len(kind.joint_names)
    shapes: dict[str, tuple[int | None, ...]] = {
        "v_template": (kind.vertices, 3),
        "f": (kind.faces, 3),
        "shapedirs": (kind.vertices, 3, None),
        "posedirs": (kind.vertices, 3, 9 * (joints - 1)),
        "J_regressor": (joints, kind.vertices),
        "weights": (kind.vertices, joints),
        "kintree_table": (2, joints),
    }
    found = {}
    for name, wanted in shapes.items():
        array = content.get(name)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
            raise BadTemplate(f"{path.name} lacks the numbers {name!r}", expected=", ".join(NEEDED))
        fits = array.ndim == len(wanted) and all(w in (None, s) for w, s in zip(wanted, array.shape, strict=False))
        if not fits or not np.isfinite(array).all():
            shown = ["any" if size is None else size for size in wanted]
            raise BadTemplate(
                f"{name} of {path.name} does not fit {kind.name.upper()}",
                found=str(list(array.shape)) if not fits else "values that are not finite",
                expected=str(shown),
            )
        found[name] = array.astype(np.float64)
    if not found["shapedirs"].shape[2]:
        raise BadTemplate(f"{path.name} has no shapes", expected="at least 10 columns of shapedirs")
    if tuple(found["kintree_table"][0, 1:].astype(np.int64)) != kind.parents[1:]:
        raise BadTemplate(f"{path.name} has other joints than {kind.name.upper()}", expected=f"{joints} in its order")
    if found["f"].min() < 0 or found["f"].max() >= kind.vertices:
        raise BadTemplate(f"f of {path.name} points outside v_template", found=f"up to {found['f'].max():.0f}")
    if found["weights"].min() < -1e-6 or found["weights"].sum(1).min() < 0.5:
        raise BadTemplate(f"weights of {path.name} are no skinning weights", expected="rows >= 0 that sum to 1")
    places, corners = content.get("vt"), content.get("ft")
    if (
        isinstance(places, np.ndarray)
        and isinstance(corners, np.ndarray)
        and corners.shape == found["f"].shape
        and places.ndim == 2
        and places.shape[1] == 2
        and 0 <= corners.min() <= corners.max() < len(places)
    ):
        found["vt"], found["ft"] = places.astype(np.float64), corners.astype(np.float64)
    else:  # bodies are sampled on the surface, not in UV: one point serves
        found["vt"], found["ft"] = np.zeros((1, 2)), np.zeros_like(found["f"])
    return found


def _template(arrays: Mapping[str, Array], kind: BodyKind, template_id: str) -> TemplateArrays:
    """Axes turned, joints regressed once, shapes and expressions told apart; float32 at the very end."""
    turn, joints = MODEL_FROM_SMPL, len(kind.joint_names)
    directions = np.einsum("ix,vxs->svi", turn, arrays["shapedirs"])
    columns = len(directions)
    first = EXPRESSIONS_FROM if columns >= EXPRESSIONS_FROM + 100 else OLD_SHAPES
    if kind.name == SMPL.name:
        first = columns
    shape_dirs, expression_dirs = directions[:first], directions[first:]
    # The feature is R - I of all joints but the root, row-major, in the file's axes; R in ours is turn R turnᵀ.
    poses = arrays["posedirs"].reshape(kind.vertices, 3, joints - 1, 3, 3)
    pose_dirs = np.einsum("ix,vxjab,ca,db->jcdvi", turn, poses, turn, turn, optimize=True)
    regressor, vertices = arrays["J_regressor"], arrays["v_template"] @ turn.T

    def joints_of(moved: Array) -> NDArray[np.float32]:
        """Rounded to a nanometre, so that the digest does not depend on the order a machine sums in."""
        return np.round(regressor @ moved, 9).astype(np.float32) + np.float32(0)

    def quads(faces: Array) -> NDArray[np.int32]:
        return np.concatenate((faces, faces[:, 2:]), 1).astype(np.int32)

    weights = np.maximum(arrays["weights"], 0)
    names = tuple(f"exp{index:03d}" for index in range(len(expression_dirs)))
    template = TemplateArrays(
        template_id=template_id,
        digest="",
        joint_names=kind.joint_names,
        parents=np.array(kind.parents, np.int32),
        joints=joints_of(vertices),
        vertices=vertices.astype(np.float32),
        shape_dirs=shape_dirs.astype(np.float32),
        joint_shape_dirs=joints_of(shape_dirs),
        shape_names=tuple(f"shape{index:03d}" for index in range(len(shape_dirs))),
        expression_names=names,
        expression_vertices=np.arange(kind.vertices if names else 0, dtype=np.int32),
        expression_dirs=(expression_dirs.astype(np.float32) if names else np.zeros((0, 0, 3), np.float32)),
        joint_expression_dirs=joints_of(expression_dirs) if names else np.zeros((0, joints, 3), np.float32),
        weights=(weights / weights.sum(1, keepdims=True)).astype(np.float32),
        faces={"skin": quads(arrays["f"])},
        uv=arrays["vt"].astype(np.float32),
        uv_faces={"skin": quads(arrays["ft"])},
        presets={},
        pose_dirs=np.ascontiguousarray(pose_dirs.reshape(9 * (joints - 1), kind.vertices, 3), np.float32),
        view="body",
        joint_regressor=regressor.astype(np.float32),
        expression_ranges=np.array([RANGE] * len(names), np.float32).reshape(-1, 2) if names else None,
        licence=LICENCE,
    )
    return as_stored(template)[0]
