"""The trained mesh on its way to Blender: its own weights, its solid texture painted, normals of a finer surface."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from avatars.relit_body.person import Person
from avatars.skinning.closest_points import closest_points
from avatars.surface.bake import Floats, Look
from avatars.surface.sources import Followed, MeshSource, strongest
from avatars.surface.unwrap import smooth_normals, unit
from avatars.surface_body.mesh_state import MeshState
from shared.types import Rig

SAME_M = 1e-6
NOTICED_M = 1e-6
AROUND = 9
"""Vertices whose planes make the surface at a place."""
Colours = Callable[[Floats], Floats]
"""points [P, 3] m canonical -> colours [P, 3] sRGB."""
Finer = Callable[[Floats, Floats], Floats]
"""(points [P, 3] m on the mesh, its normals [P, 3]) -> normals [P, 3] of the surface it was taken from."""


def surface_source(
    person: Person,
    mesh: MeshState,
    rig: Rig,
    rest_pose: NDArray[np.float32],
    colours: Colours,
    finer: Finer | None = None,
) -> MeshSource:
    """What an export is made of. Its rest pose is the canonical one, in which skinning is the model's own.

    finer: normals of the surface the mesh was taken from, painted over it. Without them the mesh's own are painted over
    exports that are lighter than it.
    """
    vertices = mesh.vertices.cpu().double().numpy()
    faces = mesh.faces.cpu().numpy()
    normals, tree = smooth_normals(vertices, faces), cKDTree(vertices)

    def look(points: Floats, outwards: Floats) -> Look:
        return Look(colours(points), normals=None if finer is None else finer(points, outwards))

    def look_lighter(points: Floats, outwards: Floats) -> Look:
        places, own = _onto(points, outwards, vertices, normals, tree)
        return Look(colours(places), normals=own if finer is None else finer(places, own))

    canonical = person.canonical_rotations.numpy()
    return MeshSource(
        "surface",
        vertices,
        faces,
        canonical,
        rest_pose,
        rig,
        look,
        lambda points: followed_by(mesh, points),
        look_lighter,
    )


def solid_colours(mesh: MeshState) -> Colours:
    """Those of a mesh's own texture."""

    def colours(points: Floats) -> Floats:
        found: Floats = mesh.look(torch.from_numpy(points.astype(np.float32))).cpu().double().numpy()
        return found

    return colours


def _onto(points: Floats, outwards: Floats, vertices: Floats, normals: Floats, tree: cKDTree) -> tuple[Floats, Floats]:
    """Points [N, 3] moved onto a mesh's smooth surface, that of the planes of its nearest vertices, and its normals.

    Vertices that face away from `outwards` lie on the other side of something thin.
    """
    count = min(AROUND, len(vertices))
    far, near = (np.asarray(part).reshape(len(points), count) for part in tree.query(points, k=count, workers=-1))
    share = np.maximum(1 - (far / np.maximum(far[:, -1:] * 1.001, 1e-12)) ** 2, 1e-6) ** 2
    share *= np.maximum((normals[near] * outwards[:, None]).sum(-1), 1e-6)
    share /= share.sum(1, keepdims=True)
    mixed = unit((normals[near] * share[..., None]).sum(1))
    above = (((points[:, None] - vertices[near]) * mixed[:, None]).sum(-1) * share).sum(1)
    return points - above[:, None] * mixed, mixed


def followed_by(mesh: MeshState, points: NDArray[np.floating]) -> Followed:
    """What points [N, 3] m near a mesh follow: its own vertices exactly what was trained, others a mixture.

    Weights are mixed over all joints within the nearest face, and the eight largest kept.
    """
    vertices = mesh.vertices.cpu().double().numpy()
    joints, weights = mesh.joints.cpu().numpy(), mesh.weights.cpu().numpy()
    dirs = mesh.expression_dirs.cpu().numpy()
    places = np.asarray(points, np.float64)
    if places.shape == vertices.shape and np.abs(places - vertices).max(initial=0) < SAME_M:
        touched = _moved(dirs)
        found = (joints.astype(np.int32), weights.astype(np.float32), touched.astype(np.int32))
        return Followed(*found, np.ascontiguousarray(dirs[:, touched], np.float32))
    faces = mesh.faces.cpu().numpy()
    near = closest_points(places, vertices, faces)
    corners, shares = faces[near.face], near.barycentrics
    table = np.zeros((len(places), int(joints.max(initial=0)) + 1))
    rows = np.arange(len(places))[:, None, None]
    np.add.at(table, (rows, joints[corners]), weights[corners] * shares[..., None])
    joints = np.argsort(-table, axis=1, kind="stable")[:, :8]
    weights = np.take_along_axis(table, joints, 1)
    offsets = (dirs[:, corners] * shares[None, ..., None]).sum(2)
    touched = _moved(offsets)
    return strongest(joints, weights, touched, offsets[:, touched])


def _moved(offsets: NDArray[np.floating]) -> NDArray[np.int64]:
    """Rows that some of the expressions [E, N, 3] m move."""
    if not len(offsets):
        return np.zeros(0, np.int64)
    found: NDArray[np.int64] = np.flatnonzero(np.abs(offsets).max((0, 2)) > NOTICED_M)
    return found
