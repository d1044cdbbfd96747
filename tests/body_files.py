"""Writes SMPL-X and SMPL files as their owners get them, true in shape and axes, holding the open human.

The open template's skin is brought to the vertex count by joining the ends of its shortest edges. Nothing of it is the
licensed data.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.templates.body_models import SMPL, SMPLX, BodyKind
from shared.template import load_template, rest

Z_UP_TO_SMPL = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # (x, y, z) -> (x, z, -y)


@dataclass(frozen=True, eq=False)
class Body:
    """What a file is written from, z up. keep [V] rows of the open template; triangles [F, 3] into keep."""

    keep: NDArray[np.int64]
    triangles: NDArray[np.int64]
    vertices: NDArray[np.float64]
    weights: NDArray[np.float64]
    joints: NDArray[np.float64]


@lru_cache(maxsize=2)
def body(kind: BodyKind) -> Body:
    """The man of the open template with as many vertices and faces as `kind`."""
    t = load_template()
    vertices, joints = (part.astype(np.float64) for part in rest(t, preset="man"))
    quads = t.faces["skin"].astype(np.int64)
    triangles = np.concatenate((quads[:, :3], quads[:, [0, 2, 3]]))
    triangles = triangles[[len(set(row)) == 3 for row in triangles.tolist()]]
    parent = np.arange(len(vertices))
    pairs = np.unique(np.sort(np.concatenate((triangles[:, :2], triangles[:, 1:], triangles[:, [0, 2]])), 1), axis=0)
    order = np.argsort(np.linalg.norm(vertices[pairs[:, 0]] - vertices[pairs[:, 1]], axis=1), kind="stable")
    surplus = len(np.unique(triangles)) - kind.vertices

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = int(parent[k])
        return k

    for a, b in pairs[order].tolist():
        if surplus == 0:
            break
        first, second = root(a), root(b)
        if first != second:
            parent[max(first, second)] = min(first, second)
            surplus -= 1
    roots = np.array([root(k) for k in range(len(vertices))])
    joined = roots[triangles]
    joined = joined[(joined[:, 0] != joined[:, 1]) & (joined[:, 1] != joined[:, 2]) & (joined[:, 0] != joined[:, 2])]
    keep = np.unique(roots[np.unique(triangles)])
    joined = np.searchsorted(keep, joined)
    faces = joined[np.arange(kind.faces) % len(joined)]
    weights = t.weights[keep].astype(np.float64)
    if kind is SMPL:
        weights = np.concatenate((weights[:, :22], np.zeros((len(weights), 2))), 1)
        for column, side in ((22, "left"), (23, "right")):
            fingers = [k for k, n in enumerate(t.joint_names) if n.startswith(side) and n[-1] in "123" and k >= 25]
            weights[:, column] = t.weights[keep][:, fingers].sum(1)
        weights[:, 15] += t.weights[keep][:, 22:25].sum(1)
        joints = np.concatenate((joints[:22], joints[[t.joint("left_middle1"), t.joint("right_middle1")]]))
    return Body(keep, faces, vertices[keep], weights, joints)


@lru_cache(maxsize=3)
def model_arrays(kind: BodyKind, columns: int) -> dict[str, NDArray[Any]]:
    """The arrays of a model file in the file's own axes (y up, facing +z). Change no entry: it is kept."""
    rng = np.random.default_rng(0)
    one, count, joints = body(kind), kind.vertices, len(kind.joint_names)
    turn = Z_UP_TO_SMPL
    smooth = np.sin((one.vertices @ rng.normal(0, 3, (3, columns)) + rng.uniform(0, 6, columns)).astype(np.float32))
    shapedirs = 0.004 * smooth[:, None, :] * rng.normal(0, 1, (1, 3, columns))
    bend = np.sin((one.vertices @ rng.normal(0, 3, (3, 9 * (joints - 1)))).astype(np.float32))
    posedirs = 0.001 * bend[:, None, :] * rng.normal(0, 1, (1, 3, 9 * (joints - 1)))
    regressor = np.zeros((joints, count))
    for joint, place in enumerate(one.joints):
        nearest = np.argsort(np.linalg.norm(one.vertices - place, axis=1))[:12]
        design = np.concatenate((one.vertices[nearest].T, np.ones((1, 12))))
        regressor[joint, nearest] = np.linalg.lstsq(design, np.append(place, 1.0), rcond=None)[0]
    parents = np.array(kind.parents, np.int64)
    return {
        "v_template": one.vertices @ turn.T,
        "f": one.triangles.astype(np.uint32),
        "shapedirs": shapedirs.astype(np.float32),
        "posedirs": posedirs.astype(np.float32),
        "J_regressor": regressor,
        "weights": one.weights,
        "kintree_table": np.stack((np.where(parents < 0, 2**32 - 1, parents), np.arange(joints))).astype(np.int64),
    }


def write_smplx(folder: Path, *, columns: int = 400, name: str = "SMPLX_NEUTRAL.npz", **changes: Any) -> Path:
    """An npz with extras of the true file: UV, hand PCA, landmarks, and dictionaries stored as Python objects."""
    arrays = dict(model_arrays(SMPLX, columns))
    rng = np.random.default_rng(1)
    arrays |= {
        "vt": rng.random((11313, 2)),
        "ft": rng.integers(0, 11313, (SMPLX.faces, 3)).astype(np.uint32),
        "hands_meanl": np.zeros(45),
        "joint2num": np.array({"Pelvis": 0}, dtype=object),
    }
    arrays.update(changes)
    path = folder / name
    np.savez(path, **arrays)
    return path


def write_pickle(folder: Path, kind: BodyKind, columns: int, name: str) -> Path:
    """A pickle of plain arrays (Python 3)."""
    path = folder / name
    path.write_bytes(pickle.dumps({**model_arrays(kind, columns), "bs_style": "lbs", "bs_type": "lrotmin"}, protocol=2))
    return path
