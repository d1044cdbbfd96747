"""The parametric human as plain arrays: load it, take its rest shape, pose it, skin it. numpy only, so Blender can too.

Model axes are the world's: right-handed, z up, metres, facing -y, left is +x. The rest pose is a T pose and every joint
frame is the identity at rest, so an axis-angle vector per joint (relative to its parent) is the whole pose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import BadTemplate, EffigyError, nearest
from .npz import read_npz
from .types import Float32, Float64, Int32, frozen_array

EMBEDDED_HUMAN = Path(__file__).parent / "data" / "effigy_human" / "template.npz"
FILE_FORMATS = ("effigy-template 1", "effigy-template 2")
"""The second may hold pose correctives, a joint regressor, expression ranges, a view and a licence."""
MAX_FILE_BYTES = 256 << 20
BUST_JOINTS = (
    "spine3",
    "neck",
    "left_collar",
    "right_collar",
    "head",
    "left_shoulder",
    "right_shoulder",
    "jaw",
    "left_eye",
    "right_eye",
)
"""Joints of the bust view. The chest keeps its SMPL-X name, so poses pass between views by joint name."""


@dataclass(frozen=True, eq=False)
class TemplateArrays:
    """A linear-blend-skinned human: vertices(shape, expression), skinned by joints. Arrays are read-only.

    digest: sha256 of the file it came from (views keep it). parents: [J], -1 root, parents first. joints: [J, 3] m.
    vertices: [V, 3] m; shape_dirs: [S, V, 3] m per standard deviation; joint_shape_dirs: [S, J, 3].
    expression_vertices: [M] rows moved by expressions; expression_dirs: [E, M, 3] m at full strength;
    joint_expression_dirs: [E, J, 3]. weights: [V, J], rows sum to 1. faces: group -> [F, 4], a triangle repeats its
    last index. uv: [U, 2] in 0..1, v up; uv_faces: group -> [F, 4] into uv.
    presets: name -> (vertex_offsets [V, 3], joint_offsets [J, 3]) m. pose_dirs: SMPL's correctives
    [9 (J - 1), V, 3] m for each number of R - I of the joints below the root, row-major; None where there are none.
    view: "body", "bust" or "head". joint_regressor: [J, V], joints from vertices, for offsets of single vertices; None
    where joints do not follow them. expression_ranges: [E, 2] how far each may go, low and high; None for 0 to 1.
    licence: one sentence, where the template is not Effigy's own.
    """

    template_id: str
    digest: str
    joint_names: tuple[str, ...]
    parents: Int32
    joints: Float32
    vertices: Float32
    shape_dirs: Float32
    joint_shape_dirs: Float32
    shape_names: tuple[str, ...]
    expression_names: tuple[str, ...]
    expression_vertices: Int32
    expression_dirs: Float32
    joint_expression_dirs: Float32
    weights: Float32
    faces: Mapping[str, Int32]
    uv: Float32
    uv_faces: Mapping[str, Int32]
    presets: Mapping[str, tuple[Float32, Float32]]
    pose_dirs: Float32 | None
    view: str
    joint_regressor: Float32 | None = None
    expression_ranges: Float32 | None = None
    licence: str = ""

    def __post_init__(self) -> None:
        try:
            self._check()
        except BadTemplate:
            raise
        except EffigyError as error:
            raise BadTemplate(error.what, found=error.found, expected=error.expected) from error

    def _check(self) -> None:
        def put(name: str, dtype: Any, shape: tuple[int | None, ...]) -> NDArray[Any]:
            array = frozen_array(getattr(self, name), dtype, shape, f"template {name}")
            object.__setattr__(self, name, array)
            return array

        joints, count = len(self.joint_names), len(self.vertices)
        parents = put("parents", np.int32, (joints,))
        if not joints or parents[0] != -1 or (parents >= np.arange(joints)).any() or (parents[1:] < 0).any():
            raise BadTemplate("template joints are out of order", expected="one root first, parents before children")
        put("joints", np.float32, (joints, 3))
        put("vertices", np.float32, (None, 3))
        put("shape_dirs", np.float32, (len(self.shape_names), count, 3))
        put("joint_shape_dirs", np.float32, (len(self.shape_names), joints, 3))
        touched = put("expression_vertices", np.int32, (None,))
        put("expression_dirs", np.float32, (len(self.expression_names), len(touched), 3))
        put("joint_expression_dirs", np.float32, (len(self.expression_names), joints, 3))
        weights = put("weights", np.float32, (count, joints))
        if count and (weights.min() < 0 or np.abs(weights.sum(1) - 1).max() > 1e-3):
            raise BadTemplate("template weights are not a partition", expected="rows >= 0 that sum to 1")
        uv = put("uv", np.float32, (None, 2))
        if self.pose_dirs is not None:
            put("pose_dirs", np.float32, (9 * (joints - 1), count, 3))
        if self.joint_regressor is not None:
            put("joint_regressor", np.float32, (joints, count))
        if self.expression_ranges is not None:
            ranges = put("expression_ranges", np.float32, (len(self.expression_names), 2))
            if (ranges[:, 0] >= ranges[:, 1]).any():
                raise BadTemplate("template expression_ranges are out of order", expected="low below high")
        _check_index(touched, count, "expression_vertices")
        if self.faces.keys() != self.uv_faces.keys():
            raise BadTemplate("template faces and uv_faces name different groups")
        faces = {name: frozen_array(f, np.int32, (None, 4), f"faces {name}") for name, f in self.faces.items()}
        uv_faces = {
            name: frozen_array(f, np.int32, (len(faces[name]), 4), f"uv_faces {name}")
            for name, f in self.uv_faces.items()
        }
        for name, index in faces.items():
            _check_index(index, count, f"faces {name}")
            _check_index(uv_faces[name], len(uv), f"uv_faces {name}")
        presets = {
            name: (
                frozen_array(vertex_offsets, np.float32, (count, 3), f"preset {name} vertices"),
                frozen_array(joint_offsets, np.float32, (joints, 3), f"preset {name} joints"),
            )
            for name, (vertex_offsets, joint_offsets) in self.presets.items()
        }
        for name, value in (("faces", faces), ("uv_faces", uv_faces), ("presets", presets)):
            object.__setattr__(self, name, MappingProxyType(value))

    def joint(self, name: str) -> int:
        """Index of the joint called `name`. Raises BadTemplate naming the nearest."""
        if name not in self.joint_names:
            raise BadTemplate(f"the {self.view} view has no joint {name!r}{nearest(name, self.joint_names)}")
        return self.joint_names.index(name)

    def group_vertices(self, *groups: str) -> Int32:
        """Sorted indices of the vertices that the faces of `groups` use."""
        for name in groups:
            if name not in self.faces:
                raise BadTemplate(f"the template has no face group {name!r}{nearest(name, self.faces)}")
        return np.unique(np.concatenate([self.faces[name].ravel() for name in groups])).astype(np.int32)


def load_template(path: Path | None = None) -> TemplateArrays:
    """The template in `path` (an .npz), or the embedded human. Raises BadTemplate for a missing or damaged file."""
    source = EMBEDDED_HUMAN if path is None else Path(path)
    try:
        size = source.stat().st_size
        if size > MAX_FILE_BYTES:
            raise BadTemplate(
                f"template file {source.name} is too large", found=f"{size} bytes", expected=f"at most {MAX_FILE_BYTES}"
            )
        content = source.read_bytes()
    except OSError as error:
        raise BadTemplate(
            f"template file {source} cannot be read",
            found=error.strerror or str(error),
            do="Reinstall Effigy or give another file",
        ) from error
    return parse_template(content, source.name)


def parse_template(content: bytes, name: str) -> TemplateArrays:
    """The template in the bytes of a file called `name`. Raises BadTemplate."""
    arrays = read_npz(content, f"template file {name}", BadTemplate)
    try:
        return _assemble(arrays, hashlib.sha256(content).hexdigest())
    except KeyError as error:
        raise BadTemplate(f"template file {name} lacks the array {error.args[0]!r}") from error
    except (ValueError, IndexError, TypeError) as error:
        raise BadTemplate(f"template file {name} has the wrong layout", found=str(error)) from error


def bust_view(t: TemplateArrays) -> TemplateArrays:
    """The same human cropped to head, neck, upper chest and shoulders, with the joints of `BUST_JOINTS`.

    The crop is taken on the mean rest shape (mid-chest, half the upper arm), so it is the same for every identity.
    Weights of dropped joints go to their nearest kept ancestor, or to the chest. Rotations, expressions and presets
    mean the same as in the body view as long as nothing below the chest or beyond the shoulders moves.
    """
    kept_joints = [t.joint(name) for name in BUST_JOINTS]
    owner = []
    for joint in range(len(t.joint_names)):
        ancestor = joint
        while ancestor >= 0 and ancestor not in kept_joints:
            ancestor = int(t.parents[ancestor])
        owner.append(kept_joints.index(ancestor) if ancestor >= 0 else 0)
    parents = [-1] + [owner[t.parents[joint]] for joint in kept_joints[1:]]
    weights = np.zeros((len(t.vertices), len(kept_joints)), np.float32)
    np.add.at(weights.T, owner, t.weights.T)

    shoulder, elbow = t.joints[t.joint("left_shoulder")], t.joints[t.joint("left_elbow")]
    lowest_z = t.joints[t.joint("spine3"), 2] - 0.02
    widest_x = 0.5 * (shoulder[0] + elbow[0])
    inside = (t.vertices[:, 2] > lowest_z) & (np.abs(t.vertices[:, 0]) < widest_x)
    chosen = {name: inside[faces].all(axis=1) for name, faces in t.faces.items()}
    groups = [name for name, mask in chosen.items() if mask.any()]
    faces, vertex_ids = _compact([t.faces[name][chosen[name]] for name in groups], len(t.vertices))
    uv_faces, uv_ids = _compact([t.uv_faces[name][chosen[name]] for name in groups], len(t.uv))
    moved = np.isin(t.expression_vertices, vertex_ids)
    new_index = np.searchsorted(vertex_ids, t.expression_vertices[moved])
    return replace(
        t,
        view="bust",
        joint_names=BUST_JOINTS,
        parents=np.asarray(parents, np.int32),
        joints=t.joints[kept_joints],
        vertices=t.vertices[vertex_ids],
        shape_dirs=t.shape_dirs[:, vertex_ids],
        joint_shape_dirs=t.joint_shape_dirs[:, kept_joints],
        expression_vertices=new_index.astype(np.int32),
        expression_dirs=t.expression_dirs[:, moved],
        joint_expression_dirs=t.joint_expression_dirs[:, kept_joints],
        weights=weights[vertex_ids],
        faces=dict(zip(groups, faces, strict=True)),
        uv=t.uv[uv_ids],
        uv_faces=dict(zip(groups, uv_faces, strict=True)),
        presets={name: (v[vertex_ids], j[kept_joints]) for name, (v, j) in t.presets.items()},
        joint_regressor=None,  # its rows reach over vertices that the crop drops
        pose_dirs=None if t.pose_dirs is None else t.pose_dirs[..., vertex_ids, :],
    )


def rest(
    t: TemplateArrays,
    *,
    preset: str = "",
    shape: ArrayLike | None = None,
    expression: ArrayLike | Mapping[str, float] | None = None,
) -> tuple[Float32, Float32]:
    """Vertices [V, 3] and joints [J, 3] in m of an identity before posing.

    preset: name of a whole identity, "" = the mean adult. shape: up to [S] standard deviations added to it.
    expression: [E] or name -> weight, 0 neutral, 1 full. Raises BadTemplate for unknown names and wrong lengths.
    """
    vertices, joints = t.vertices.copy(), t.joints.copy()
    if preset:
        if preset not in t.presets:
            raise BadTemplate(f"the template has no preset {preset!r}{nearest(preset, t.presets)}")
        vertices += t.presets[preset][0]
        joints += t.presets[preset][1]
    if shape is not None:
        coefficients = _coefficients(shape, len(t.shape_names), "shape", exact=False)
        used = len(coefficients)
        vertices += np.tensordot(coefficients, t.shape_dirs[:used], axes=1)
        joints += np.tensordot(coefficients, t.joint_shape_dirs[:used], axes=1)
    if expression is not None:
        if isinstance(expression, Mapping):
            expression = expression_vector(t, expression)
        strength = _coefficients(expression, len(t.expression_names), "expression", exact=True)
        vertices[t.expression_vertices] += np.tensordot(strength, t.expression_dirs, axes=1)
        joints += np.tensordot(strength, t.joint_expression_dirs, axes=1)
    return vertices, joints


def expression_vector(t: TemplateArrays, weights: Mapping[str, float]) -> Float32:
    """[E] weights from names. Raises BadTemplate for an unknown name."""
    vector = np.zeros(len(t.expression_names), np.float32)
    for name, weight in weights.items():
        if name not in t.expression_names:
            raise BadTemplate(f"the template has no expression {name!r}{nearest(name, t.expression_names)}")
        vector[t.expression_names.index(name)] = weight
    return vector


def rotation_matrices(rotations: ArrayLike) -> Float64:
    """[..., 3, 3] from axis-angle vectors [..., 3] rad (Rodrigues' formula, exact and smooth through zero)."""
    vectors = np.asarray(rotations, np.float64)
    angle = np.linalg.norm(vectors, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*vectors.shape[:-1], 3, 3)
    sine = np.sinc(angle / np.pi)  # sin(angle) / angle
    cosine = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2  # (1 - cos(angle)) / angle^2
    matrices: Float64 = np.eye(3) + sine * cross + cosine * (cross @ cross)
    return matrices


def joint_transforms(
    rotations: ArrayLike, joints: ArrayLike, parents: Sequence[int] | Int32, translation: ArrayLike | None = None
) -> tuple[Float64, Float64]:
    """Transforms of a posed skeleton: (skinning [J, 4, 4], which takes rest to posed; global [J, 4, 4] joint frames).

    rotations: [J, 3] axis-angle rad relative to the parent, in model axes. joints: [J, 3] m at rest. parents: [J].
    translation: [3] m added to everything. Source: SMPL (Loper et al. 2015), section 3, without correctives.
    """
    rest_joints = np.asarray(joints, np.float64)
    local = np.tile(np.eye(4), (len(rest_joints), 1, 1))
    local[:, :3, :3] = rotation_matrices(np.broadcast_to(np.asarray(rotations, np.float64), rest_joints.shape))
    world = np.empty_like(local)
    for joint, parent in enumerate(np.asarray(parents)):
        local[joint, :3, 3] = rest_joints[joint] - (rest_joints[parent] if parent >= 0 else 0.0)
        world[joint] = local[joint] if parent < 0 else world[parent] @ local[joint]
    if translation is not None:
        world[:, :3, 3] += np.asarray(translation, np.float64)
    skinning = world.copy()
    skinning[:, :3, 3] -= np.einsum("jab,jb->ja", world[:, :3, :3], rest_joints)
    return skinning, world


def skin(vertices: ArrayLike, weights: ArrayLike, skinning: ArrayLike) -> Float32:
    """Posed vertices [V, 3] m: linear blend skinning of rest vertices [V, 3] by weights [V, J], skinning [J, 4, 4]."""
    points, rows = np.asarray(vertices, np.float32), np.asarray(weights, np.float32)
    transforms = np.asarray(skinning, np.float64)[:, :3].astype(np.float32)
    blended = (rows @ transforms.reshape(len(transforms), 12)).reshape(-1, 3, 4)
    posed: Float32 = np.einsum("vab,vb->va", blended[:, :, :3], points) + blended[:, :, 3]
    return posed


def _check_index(index: Int32, count: int, name: str) -> None:
    if index.size and (index.min() < 0 or index.max() >= count):
        raise BadTemplate(
            f"template {name} points outside its {count} entries", found=f"{index.min()} to {index.max()}"
        )


def _coefficients(values: ArrayLike, length: int, name: str, *, exact: bool) -> Float32:
    vector = np.asarray(values, np.float32)
    if vector.ndim != 1 or len(vector) > length or (exact and len(vector) != length):
        raise BadTemplate(
            f"{name} has the wrong length",
            found=str(list(vector.shape)),
            expected=f"{'' if exact else 'at most '}{length}",
        )
    if not np.isfinite(vector).all():
        raise BadTemplate(f"{name} holds values that are not finite")
    return vector


def _compact(faces: list[Int32], count: int) -> tuple[list[Int32], Int32]:
    """Faces re-indexed to the entries they use, and those entries in old numbering."""
    used = np.unique(np.concatenate([group.ravel() for group in faces])).astype(np.int32)
    new_index = np.full(count, -1, np.int32)
    new_index[used] = np.arange(len(used), dtype=np.int32)
    return [new_index[group] for group in faces], used


def _assemble(a: Mapping[str, NDArray[Any]], digest: str) -> TemplateArrays:
    if str(a["format"]) not in FILE_FORMATS:
        raise BadTemplate(
            "not a template file of this version", found=str(a["format"]), expected=" or ".join(FILE_FORMATS)
        )
    names = {
        key: tuple(str(name) for name in a[key])
        for key in ("joint_names", "shape_names", "expression_names", "preset_names")
    }
    if "weights" in a:
        weights = a["weights"]
    else:
        weights = np.zeros((len(a["vertices"]), len(names["joint_names"])), np.float32)
        np.put_along_axis(weights, a["weight_joints"].astype(np.int64), a["weight_values"].astype(np.float32), axis=1)
        weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    return TemplateArrays(
        template_id=str(a["template_id"]),
        digest=digest,
        joint_names=names["joint_names"],
        parents=a["parents"],
        joints=a["joints"],
        vertices=a["vertices"],
        shape_dirs=a["shape_dirs"],
        joint_shape_dirs=a["joint_shape_dirs"],
        shape_names=names["shape_names"],
        expression_names=names["expression_names"],
        expression_vertices=a["expression_vertices"],
        expression_dirs=a["expression_dirs"],
        joint_expression_dirs=a["joint_expression_dirs"],
        weights=weights,
        faces={str(g): a[f"faces_{g}"] for g in a["group_names"]},
        uv=a["uv"],
        uv_faces={str(g): a[f"uv_faces_{g}"] for g in a["group_names"]},
        presets={
            name: (a["preset_vertices"][k], a["preset_joints"][k]) for k, name in enumerate(names["preset_names"])
        },
        pose_dirs=a.get("pose_dirs"),
        view=str(a["view"]) if "view" in a else "body",
        joint_regressor=a.get("joint_regressor"),
        expression_ranges=a.get("expression_ranges"),
        licence=str(a["licence"]) if "licence" in a else "",
    )
