"""Reads FLAME from its owner's own files: the model's pickle, the UV layout, the eyelids (method page 2.4 and 9.3).

FLAME's axes are y up, facing +z; everything is turned to Effigy's (z up, facing -y) here, once. Nothing in the files is
executed. FLAME is licensed by the Max Planck Society and never ships with Effigy.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.templates.flame_teeth import TEETH_KINDS, Array, FlameArrays, TeethKind, with_teeth
from avatars.templates.restricted_pickle import read_pickle
from avatars.templates.stored import as_stored
from shared.errors import BadTemplate, nearest
from shared.npz import read_npy, read_npz
from shared.template import TemplateArrays

VERTICES, FACES, UV_VERTICES = 5023, 9976, 5118
SHAPES, EXPRESSIONS = 300, 100
JOINT_NAMES = ("root", "neck", "jaw", "left_eye", "right_eye")
PARENTS = (-1, 0, 1, 1, 1)
EYELID_NAMES = ("eyelid_left", "eyelid_right")
VERSIONS = ("2020", "2023")
EXPRESSION_RANGE, EYELID_RANGE = (-5.0, 5.0), (-0.5, 1.5)
"""How far sliders go: expressions are standard deviations and trackers use about ±3 of them; eyelids 0 open, 1 shut."""
WORLD_FROM_FLAME = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""(x, y, z) becomes (x, -z, y)."""
MAX_SIDE_FILE_BYTES = 32 << 20
SHAPES_OF: Mapping[str, tuple[int, ...]] = {
    "v_template": (VERTICES, 3),
    "f": (FACES, 3),
    "shapedirs": (VERTICES, 3, SHAPES + EXPRESSIONS),
    "posedirs": (VERTICES, 3, 36),
    "J_regressor": (5, VERTICES),
    "weights": (VERTICES, 5),
    "kintree_table": (2, 5),
}
LICENCE = "FLAME is licensed by the Max Planck Society for non-commercial research only: no redistribution"


def read_flame(
    model: Path,
    *,
    uv: Path | None,
    eyelids: tuple[Path, Path] | None = None,
    teeth: TeethKind = "rgbavatar",
    version: str = "",
) -> TemplateArrays:
    """FLAME as a template of view 'head', z up.

    model: generic_model.pkl (2020) or flame2023.pkl; uv: flame_uv.npz or head_template_mesh.obj; eyelids: l_eyelid.npy
    and r_eyelid.npy, which become the expressions eyelid_left and eyelid_right; teeth: whose 60 or 120 vertices to add;
    version: '2020' or '2023' where the file's name does not say it. Vertices, faces and UV faces keep FLAME's order,
    then come the teeth. Raises BadTemplate with a sentence that names the file.
    """
    if teeth not in TEETH_KINDS:
        raise BadTemplate(f"unknown teeth {teeth!r}{nearest(teeth, TEETH_KINDS)}", expected=", ".join(TEETH_KINDS))
    arrays = _model(model)
    named = version or flame_version(model)
    if named not in VERSIONS:
        raise BadTemplate(
            f"the name of {model.name} does not say which FLAME it is",
            found=named or "no version",
            expected="generic_model.pkl (2020) or flame2023.pkl",
            do="Say it: --version 2020 or --version 2023",
        )
    if uv is None:
        raise BadTemplate(
            f"{model.name} holds no UV layout, on which Gaussians sit",
            expected="flame_uv.npz or head_template_mesh.obj",
            do="Give it with --uv",
        )
    places, corners = read_uv(uv, arrays["f"])
    lids = None if eyelids is None else np.stack([_eyelid(path) for path in eyelids])
    flame = FlameArrays(
        arrays["v_template"],
        arrays["f"],
        arrays["shapedirs"],
        arrays["posedirs"],
        arrays["J_regressor"],
        arrays["weights"],
        places,
        corners,
        lids,
    )
    template_id = f"flame{named}" + ("" if teeth == "none" else f"_{teeth}")
    return _template(with_teeth(flame, teeth), template_id)


def flame_version(model: Path) -> str:
    """'2020' or '2023' by the name its authors gave the file, '' for another."""
    name = model.name.lower()
    return "2023" if "2023" in name else "2020" if "2020" in name or name == "generic_model.pkl" else ""


def read_uv(path: Path, faces: NDArray[np.int64]) -> tuple[Array, NDArray[np.int64]]:
    """UV vertices [5118, 2] and UV faces [9976, 3], one for each of `faces` [9976, 3]. Raises BadTemplate."""
    content = _content(path)
    if path.suffix.lower() == ".obj":
        places, corners, owners = _obj(content, path.name)
        if owners.shape != faces.shape or (owners != faces).any():
            raise BadTemplate(
                f"the faces of {path.name} are not the model's",
                found=f"{len(owners)} faces" if len(owners) != len(faces) else "another order",
                expected=f"the {len(faces)} of FLAME, in its order",
            )
    else:
        arrays = read_npz(content, path.name, BadTemplate)
        missing = [name for name in ("vt", "ft") if name not in arrays]
        if missing:
            raise BadTemplate(
                f"{path.name} lacks the array {missing[0]!r}", found=", ".join(arrays), expected="vt and ft"
            )
        places, corners = _numbers(arrays["vt"], "vt", path), _indices(arrays["ft"], "ft", path)
    if places.shape != (UV_VERTICES, 2) or corners.shape != (FACES, 3):
        raise BadTemplate(
            f"{path.name} is no UV layout of FLAME",
            found=f"vt {list(places.shape)}, ft {list(corners.shape)}",
            expected=f"vt {[UV_VERTICES, 2]}, ft {[FACES, 3]}",
        )
    if corners.min() < 0 or corners.max() >= UV_VERTICES:
        raise BadTemplate(f"ft of {path.name} points outside vt", found=f"{corners.min()} to {corners.max()}")
    return places, corners


def _model(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of the pickle, float64 and int64, every shape checked."""
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise BadTemplate(f"{path.name} is no FLAME model", found=type(content).__name__, expected="a dictionary")
    found = {}
    for name, shape in SHAPES_OF.items():
        if name not in content:
            raise BadTemplate(f"{path.name} is no FLAME model", found=f"no {name}", expected=", ".join(SHAPES_OF))
        array = content[name]
        if not isinstance(array, np.ndarray) or array.shape != shape:
            raise BadTemplate(
                f"{path.name} is no FLAME model of 2020 or 2023",
                found=f"{name} {list(array.shape) if isinstance(array, np.ndarray) else type(array).__name__}",
                expected=f"{name} {list(shape)}",
                do=_hint(name, array),
            )
        whole = name in ("f", "kintree_table")
        found[name] = _indices(array, name, path) if whole else _numbers(array, name, path)
    parents = found.pop("kintree_table")[0]
    if tuple(parents[1:]) != PARENTS[1:]:
        raise BadTemplate(
            f"{path.name} has other joints than FLAME", found=str(parents.tolist()), expected=str(list(PARENTS))
        )
    if found["f"].min() < 0 or found["f"].max() >= VERTICES:
        raise BadTemplate(f"f of {path.name} points outside v_template", found=f"up to {found['f'].max()}")
    return found


def _hint(name: str, array: Any) -> str:
    known = {6890: "SMPL", 10475: "SMPL-X", 778: "MANO", 5083: "FLAME with teeth", 5143: "FLAME with teeth"}
    if name == "v_template" and isinstance(array, np.ndarray) and array.ndim:
        guess = known.get(len(array))
        return f"This looks like {guess}; give FLAME's own file" if guess else ""
    return ""


def _eyelid(path: Path) -> Array:
    array = _numbers(read_npy(_content(path), path.name, BadTemplate), "its array", path)
    if array.shape != (VERTICES, 3):
        raise BadTemplate(
            f"{path.name} holds no eyelid of FLAME", found=str(list(array.shape)), expected=str([VERTICES, 3])
        )
    return array


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_SIDE_FILE_BYTES:
            raise BadTemplate(
                f"{path.name} is too large",
                found=f"{path.stat().st_size} bytes",
                expected=f"at most {MAX_SIDE_FILE_BYTES}",
            )
        return path.read_bytes()
    except OSError as error:
        raise BadTemplate(f"{path} cannot be read", found=error.strerror or str(error)) from error


def _numbers(array: NDArray[Any], name: str, path: Path) -> Array:
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise BadTemplate(f"{name} of {path.name} holds values that are no finite numbers", found=str(array.dtype))
    return array.astype(np.float64)


def _indices(array: NDArray[Any], name: str, path: Path) -> NDArray[np.int64]:
    if array.dtype.kind not in "iuf":
        raise BadTemplate(f"{name} of {path.name} holds no whole numbers", found=str(array.dtype))
    return array.astype(np.int64)


def _obj(content: bytes, name: str) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
    """UV vertices, UV faces and faces (from 0) of a Wavefront file of triangles `f v/vt v/vt v/vt`."""
    places: list[list[float]] = []
    corners: list[list[int]] = []
    owners: list[list[int]] = []
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        words = line.split()
        try:
            if words[:1] == ["vt"]:
                places.append([float(words[1]), float(words[2])])
            elif words[:1] == ["f"]:
                first, second, third = (word.split("/") for word in words[1:])
                owners.append([int(pair[0]) - 1 for pair in (first, second, third)])
                corners.append([int(pair[1]) - 1 for pair in (first, second, third)])
        except (ValueError, IndexError) as error:
            raise BadTemplate(
                f"line {number} of {name} cannot be read", found=line[:60], expected="triangles with UV (f 1/1 2/2 3/3)"
            ) from error
    places_array = np.array(places, np.float64).reshape(-1, 2)
    return places_array, np.array(corners, np.int64).reshape(-1, 3), np.array(owners, np.int64).reshape(-1, 3)


def _template(flame: FlameArrays, template_id: str) -> TemplateArrays:
    """The template of FLAME's arrays: joints regressed once, axes turned, float32 at the very end."""
    turn = WORLD_FROM_FLAME
    directions = np.einsum("ix,vxs->svi", turn, flame.directions)
    shape_dirs, expression_dirs = directions[:SHAPES], directions[SHAPES:]
    names = [f"exp{index:03d}" for index in range(EXPRESSIONS)]
    ranges = [EXPRESSION_RANGE] * EXPRESSIONS
    if flame.eyelids is not None:
        expression_dirs = np.concatenate((expression_dirs, flame.eyelids @ turn.T))
        names += EYELID_NAMES
        ranges += [EYELID_RANGE] * len(EYELID_NAMES)
    # The feature is R - I of four joints, row-major, in FLAME's axes; R in ours is turn R turnᵀ.
    poses = flame.pose_dirs.reshape(-1, 3, 4, 3, 3)
    pose_dirs = np.einsum("ix,vxjab,ca,db->jcdvi", turn, poses, turn, turn, optimize=True).reshape(36, -1, 3)
    vertices = flame.vertices @ turn.T
    skin = len(flame.faces) - flame.teeth_faces

    def joints_of(moved: Array) -> NDArray[np.float32]:
        """Rounded to a nanometre, so that the digest does not depend on the order a machine sums in."""
        return np.round(flame.regressor @ moved, 9).astype(np.float32) + np.float32(0)

    def groups(faces: NDArray[np.int64]) -> dict[str, NDArray[np.int32]]:
        quads = np.concatenate((faces, faces[:, 2:]), 1).astype(np.int32)
        return {"skin": quads[:skin], **({"teeth": quads[skin:]} if flame.teeth_faces else {})}

    arrays = TemplateArrays(
        template_id=template_id,
        digest="",
        joint_names=JOINT_NAMES,
        parents=np.array(PARENTS, np.int32),
        joints=joints_of(vertices),
        vertices=vertices.astype(np.float32),
        shape_dirs=shape_dirs.astype(np.float32),
        joint_shape_dirs=joints_of(shape_dirs),
        shape_names=tuple(f"shape{index:03d}" for index in range(SHAPES)),
        expression_names=tuple(names),
        expression_vertices=np.arange(VERTICES, dtype=np.int32),
        expression_dirs=expression_dirs[:, :VERTICES].astype(np.float32),
        joint_expression_dirs=joints_of(expression_dirs),
        weights=(flame.weights / flame.weights.sum(1, keepdims=True)).astype(np.float32),
        faces=groups(flame.faces),
        uv=flame.uv.astype(np.float32),
        uv_faces=groups(flame.uv_faces),
        presets={},
        pose_dirs=pose_dirs.astype(np.float32),
        view="head",
        joint_regressor=flame.regressor.astype(np.float32),
        expression_ranges=np.array(ranges, np.float32),
        licence=LICENCE,
    )
    return as_stored(arrays)[0]
