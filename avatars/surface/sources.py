"""Where a mesh with colours of a person comes from: a relightable teacher's field, or any avatar's Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from avatars.avatar import Avatar
from avatars.lighting.colour import srgb_from_linear
from avatars.relit_body.mesh_teacher import MeshTeacher
from avatars.relit_body.person import Person
from avatars.relit_body.teacher import Teacher
from avatars.skinning.closest_points import closest_points
from avatars.surface.bake import Floats, Look, LookAt
from avatars.templates.rig import rig_of
from shared.types import ProxyMesh, Rig

INFLUENCES = 8
LEAST_WEIGHT = 1e-4
STEPS_TO_SURFACE, FARTHEST_M = 3, 0.01
GAUSSIANS = 8


@dataclass(frozen=True, eq=False)
class Followed:
    """What N vertices follow. joints: [N, 8] int32; weights: [N, 8]; expression_vertices [M], offsets [E, M, 3] m."""

    joints: NDArray[np.int32]
    weights: NDArray[np.float32]
    expression_vertices: NDArray[np.int32]
    expression_offsets: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class MeshSource:
    """A person's canonical surface. vertices [V, 3] m, faces [F, 3]; canonical [J, 3] rad; rest_pose [J, 3] rad.

    look_at: colours of points on it; follow: what vertices [N, 3] near it follow. kind: a word for reports.
    look_lighter: in place of look_at for points on a mesh that is lighter than this one, where that differs.
    """

    kind: str
    vertices: Floats
    faces: NDArray[np.int64]
    canonical: NDArray[np.float32]
    rest_pose: NDArray[np.float32]
    rig: Rig
    look_at: LookAt
    follow: Callable[[Floats], Followed]
    look_lighter: LookAt | None = None


@runtime_checkable
class HasSurface(Protocol):
    """An avatar that has a mesh of its own, beside its Gaussians."""

    def mesh_source(self) -> MeshSource:
        """The mesh, its colours and what it follows."""


def teacher_source(teacher: Teacher) -> MeshSource:
    """A teacher's own surface and materials; weights are those of the template's nearest vertices."""
    person = Person(teacher.template(), teacher.canonical_rotations.detach().cpu())
    vertices, faces = (part.detach().cpu().numpy() for part in teacher.mesh())
    faces = faces.astype(np.int64)
    used, renumbered = np.unique(faces, return_inverse=True)
    look = _mesh_look(teacher) if isinstance(teacher, MeshTeacher) else _field_look(teacher)
    canonical = person.canonical_rotations.numpy()
    return MeshSource(
        "teacher",
        vertices[used].astype(np.float64),
        renumbered.reshape(faces.shape),
        canonical,
        canonical,
        rig_of(person.arrays, person.joints, person.reference.shape),
        look,
        lambda points: _skin(person, points),
    )


def avatar_source(avatar: Avatar) -> MeshSource:
    """An avatar's own mesh, where it has one; of others the skinned surface that stands for them.

    That lies in the template's rest pose and is coloured by the Gaussians near each point.
    """
    if isinstance(avatar, HasSurface):
        return avatar.mesh_source()
    proxy, rig = avatar.proxy(), avatar.rig()
    joints, expressions = len(rig.joint_names), len(rig.expression_names)
    still = torch.zeros(1, joints, 3), torch.zeros(1, 3), torch.zeros(1, expressions)
    with torch.no_grad():
        posed = avatar.pose(*still)
    quads = proxy.faces.astype(np.int64)
    square = quads[quads[:, 2] != quads[:, 3]]
    faces = np.concatenate((quads[:, :3], square[:, [0, 2, 3]]))
    return MeshSource(
        "gaussians",
        proxy.vertices.astype(np.float64),
        faces,
        np.zeros((joints, 3), np.float32),
        np.asarray(avatar.rest_pose, np.float32),
        rig,
        gaussian_look(posed),
        lambda points: _as_proxy(proxy, points),
    )


def _field_look(teacher: Teacher) -> LookAt:
    """The field at the points of it nearest to those of a mesh that may be coarser than it."""

    def look(points: Floats, normals: Floats) -> Look:
        places = torch.from_numpy(points.astype(np.float32))
        outwards, start = torch.from_numpy(normals.astype(np.float32)), places
        for _ in range(STEPS_TO_SURFACE):
            found = teacher.query(places)
            away = found.distance_m.cpu()[:, None] * found.normals.cpu()
            moved = places - away
            near = (moved - start).norm(dim=-1, keepdim=True) < FARTHEST_M
            places = torch.where(near, moved, places)
        found = teacher.query(places)
        return _look(
            found, torch.where((found.normals.cpu() * outwards).sum(-1, keepdim=True) < 0, outwards, 1).numpy()
        )

    return look


def _look(found: Any, instead: Any) -> Look:
    normals = found.normals.cpu().double().numpy()
    normals = np.where(instead == 1, normals, instead)
    return Look(
        srgb_from_linear(found.albedo).clamp(0, 1).cpu().double().numpy(),
        found.roughness.cpu().double().numpy(),
        found.metallic.cpu().double().numpy(),
        normals,
    )


def _mesh_look(teacher: MeshTeacher) -> LookAt:
    """Materials at the vertices of the template, mixed within its faces."""
    vertices, faces = teacher.vertices.numpy(), teacher.faces.astype(np.int64)
    colour = srgb_from_linear(teacher.albedo).clamp(0, 1).double().numpy()
    rest = torch.stack((teacher.roughness, teacher.metallic), -1).double().numpy()

    def look(points: Floats, normals: Floats) -> Look:
        near = closest_points(points, vertices, faces)
        corners, shares = faces[near.face], near.barycentrics[..., None]
        mixed = (rest[corners] * shares).sum(1)
        return Look((colour[corners] * shares).sum(1), mixed[:, 0], mixed[:, 1])

    return look


def gaussian_look(posed: Any) -> LookAt:
    """Means over the Gaussians around a point, those that are near, opaque and wide counting more."""
    opaque = posed.opacities[0] > 0.05
    means = posed.means[0][opaque].double().cpu().numpy()
    strength = posed.opacities[0][opaque].double().cpu().numpy()
    size = posed.scales[0][opaque].amax(-1).double().cpu().numpy()
    values = [posed.colours[0][opaque].double().cpu().numpy()]
    if posed.material is not None:
        material = posed.material
        values = [srgb_from_linear(material.albedo[0][opaque]).clamp(0, 1).double().cpu().numpy()]
        values += [part[0][opaque].double().cpu().numpy() for part in (material.roughness, material.metallic)]
    table = np.concatenate(values, 1)
    tree = cKDTree(means)

    def look(points: Floats, normals: Floats) -> Look:
        count = min(GAUSSIANS, len(means))
        far, near = (np.asarray(part).reshape(len(points), count) for part in tree.query(points, k=count, workers=-1))
        reach = np.maximum(size[near], far[:, :1] * 0.5 + 1e-5)
        share = strength[near] * np.exp(-0.5 * np.minimum(far / reach, 6.0) ** 2)
        share /= share.sum(1, keepdims=True)
        mixed = (table[near] * share[..., None]).sum(1)
        if table.shape[1] == 3:
            return Look(mixed)
        return Look(mixed[:, :3], mixed[:, 3], mixed[:, 4])

    return look


def _skin(person: Person, points: Floats) -> Followed:
    skin = person.skin_of(torch.from_numpy(points.astype(np.float32)))
    offsets = skin.expression_dirs.numpy()
    touched = np.flatnonzero(np.abs(offsets).max((0, 2)) > 1e-6) if len(offsets) else np.zeros(0, np.int64)
    return strongest(skin.joints.numpy(), skin.weights.numpy(), touched, offsets[:, touched])


def _as_proxy(proxy: ProxyMesh, points: Floats) -> Followed:
    """What the proxy's nearest vertices follow; its own vertices get their own."""
    if points.shape == proxy.vertices.shape and np.abs(points - proxy.vertices).max(initial=0) < 1e-6:
        return strongest(proxy.joints, proxy.weights, proxy.expression_vertices, proxy.expression_offsets)
    near = cKDTree(proxy.vertices).query(points)[1]
    row = np.full(len(proxy.vertices), -1)
    row[proxy.expression_vertices] = np.arange(len(proxy.expression_vertices))
    touched = np.flatnonzero(row[near] >= 0)
    offsets = proxy.expression_offsets[:, row[near[touched]]]
    return strongest(proxy.joints[near], proxy.weights[near], touched, offsets)


def strongest(
    joints: NDArray[np.integer], weights: NDArray[np.floating], touched: NDArray[np.integer], offsets: NDArray[Any]
) -> Followed:
    """The eight largest weights of each row, those below 1e-4 dropped, made to sum to 1 again."""
    order = np.argsort(-weights, axis=1, kind="stable")[:, :INFLUENCES]
    kept = np.take_along_axis(weights, order, 1).astype(np.float64)
    kept = np.where(kept < LEAST_WEIGHT, 0.0, kept)
    kept /= kept.sum(1, keepdims=True)
    return Followed(
        np.take_along_axis(joints, order, 1).astype(np.int32),
        kept.astype(np.float32),
        touched.astype(np.int32),
        np.ascontiguousarray(offsets, np.float32),
    )


def with_surface(source: MeshSource, vertices: Floats, faces: NDArray[np.int64]) -> MeshSource:
    """The same person on another mesh near its surface."""
    return replace(source, vertices=vertices, faces=faces)
