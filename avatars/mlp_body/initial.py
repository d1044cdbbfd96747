"""A new body: points sampled on a template in its big pose, before any picture has been seen (method page A.2, A.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.gaussians.regions import patch_triangles
from avatars.mlp_body.express import COLOUR, OPACITY, ROTATION, SCALE
from avatars.mlp_body.inside import looks_inside
from avatars.mlp_body.model import MlpBody, Points
from avatars.mlp_body.neighbours import mixing_of, nearest
from avatars.mlp_body.pose_range import PoseRange
from avatars.mlp_body.settings import MlpBodyConfig
from avatars.mlp_body.skeleton import FACE_JOINTS, Canonical, DrivingPose, hand_joints
from avatars.skinning.clothed import on_the_body, read_clothed_template
from avatars.skinning.surface_points import sample_surface
from avatars.templates.opening import TemplateReference
from shared.errors import BadTemplate
from shared.template import TemplateArrays

SPACING_NEIGHBOURS = 3
MIN_SCALE_M, MAX_SCALE_M = 2e-4, 0.03
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Clothes:
    """A mesh of the dressed person in the big pose: vertices [T, 3] m, weights [T, J]."""

    vertices: Tensor
    weights: Tensor


class Surface:
    """Points on a mesh in the big pose, as barycentric mixes of its vertices. normals of its own vertices."""

    def __init__(self, canonical: Canonical | Clothes, corners: NDArray[np.int64], shares: NDArray[np.float32]) -> None:
        self.corners, self.shares = corners, shares
        self.points = self._mixed(canonical.vertices.numpy())
        self.weights = self._mixed(canonical.weights.numpy())

    def _mixed(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = (values[self.corners] * self.shares[..., None]).sum(1)
        return found

    def normals(self, canonical: Canonical | Clothes, triangles: NDArray[np.int64]) -> NDArray[np.float32]:
        """Unit normals [N, 3], smooth over the surface of triangles [F, 3]."""
        vertices = canonical.vertices.numpy().astype(np.float64)
        first, second, third = (vertices[triangles[:, k]] for k in range(3))
        across = np.cross(second - first, third - first)
        total = np.zeros_like(vertices)
        for k in range(3):
            np.add.at(total, triangles[:, k], across)
        found = self._mixed((total / np.maximum(np.linalg.norm(total, axis=1), 1e-12)[:, None]).astype(np.float32))
        return found / np.maximum(np.linalg.norm(found, axis=1), 1e-6)[:, None]

    def facing(
        self, canonical: Canonical | Clothes, triangles: NDArray[np.int64], names: Sequence[str]
    ) -> NDArray[np.float32]:
        """Unit normals [N, 3] to light the points by: inside the head those of the nearest point outside."""
        found = self.normals(canonical, triangles)
        head = [names.index(name) for name in ("head", *FACE_JOINTS) if name in names]
        skull = [names.index(name) for name in ("head", "jaw") if name in names]  # eyeballs face where they look
        on_head = np.nonzero(self.weights[:, skull].sum(1) > 0.5)[0]
        near = (canonical.weights.numpy()[:, head].sum(1) > 0.5)[triangles].any(1)
        inside = looks_inside(self.points[on_head], found[on_head], canonical.vertices.numpy(), triangles[near])
        outside = on_head[~inside]
        if inside.any() and len(outside):
            over, _ = nearest(self.points[on_head[inside]], self.points[outside], 1)
            found[on_head[inside]] = found[outside[over[:, 0]]]
        return found

    def expressions(self, arrays: TemplateArrays) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows [M] of the points that expressions move and how, [E, M, 3] m at full strength."""
        row = np.full(len(arrays.vertices), -1, np.int64)
        row[arrays.expression_vertices] = np.arange(len(arrays.expression_vertices))
        place = row[self.corners]
        moved = np.nonzero((place >= 0).any(1))[0]
        shares = np.where(place[moved] >= 0, self.shares[moved], 0.0)
        dirs = arrays.expression_dirs[:, np.maximum(place[moved], 0)]
        return moved, (dirs * shares[None, ..., None]).sum(2).astype(np.float32)


def surface_triangles(arrays: TemplateArrays, density: Mapping[str, float]) -> tuple[NDArray[np.int64], Floats]:
    """All triangles [F, 3] of the patches of `density` and the density of each [F]. Raises BadTemplate for none."""
    found, shares = [], []
    for patch, share in density.items():
        if patch.partition("/")[0] in arrays.faces and share > 0:
            triangles = patch_triangles(arrays, patch)[0]
            found.append(triangles.astype(np.int64))
            shares.append(np.full(len(triangles), float(share)))
    if not found:  # a template with other groups: all of it
        groups = [patch_triangles(arrays, name)[0].astype(np.int64) for name in arrays.faces]
        if not groups:
            raise BadTemplate("the template has no faces to put Gaussians on")
        return np.concatenate(groups), np.ones(sum(map(len, groups)))
    return np.concatenate(found), np.concatenate(shares)


def sample(
    canonical: Canonical | Clothes, triangles: NDArray[np.int64], density: Floats, count: int, seed: int
) -> Surface:
    """`count` points spread evenly over the triangles [F, 3], as dense as `density` [F] asks."""
    vertices = canonical.vertices.numpy().astype(np.float64)
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) * density
    kinds = [density == value for value in np.unique(density)]
    # Each density by itself, so that its points keep their distance; shares are rounded so that they sum to `count`.
    ends = np.round(np.cumsum([area[kind].sum() for kind in kinds]) / area.sum() * count).astype(int)
    corners, shares = [], []
    for kind, end, begin in zip(kinds, ends, (0, *ends[:-1]), strict=True):
        if end > begin:
            found = sample_surface(vertices, triangles[kind], int(end - begin), seed=seed)
            corners.append(triangles[kind][found.face])
            shares.append(found.barycentrics)
    return Surface(canonical, np.concatenate(corners), np.concatenate(shares))


def anchor_surface(
    canonical: Canonical | Clothes,
    names: Sequence[str],
    triangles: NDArray[np.int64],
    config: MlpBodyConfig,
    seed: int,
) -> Surface:
    """Anchors over the whole body, `detail_anchors` of them on head and hands alone."""
    on_detail = round(config.anchors * config.detail_anchors)
    whole = sample(canonical, triangles, np.ones(len(triangles)), config.anchors - on_detail, seed)
    if not on_detail:
        return whole
    wanted = ("head", *FACE_JOINTS, *hand_joints("left"), *hand_joints("right"))
    joints = [names.index(name) for name in wanted if name in names]
    there = (canonical.weights.numpy()[:, joints].sum(1) > 0.5)[triangles].all(1)
    if not there.any():
        return sample(canonical, triangles, np.ones(len(triangles)), config.anchors, seed)
    detail = sample(canonical, triangles[there], np.ones(int(there.sum())), on_detail, seed + 1)
    return Surface(
        canonical, np.concatenate((whole.corners, detail.corners)), np.concatenate((whole.shares, detail.shares))
    )


def new_points(
    canonical: Canonical, driving: DrivingPose, config: MlpBodyConfig, seed: int, clothed: Path | None = None
) -> Points:
    """Gaussians, control points and anchors on the template, and who takes from whom.

    clothed: a template.ply to put them on instead of the bare body. Raises BadTemplate.
    """
    arrays = canonical.arrays
    triangles, density = surface_triangles(arrays, config.density)
    mesh: Canonical | Clothes = canonical
    skin = triangles
    if clothed is not None:
        worn = read_clothed_template(clothed, canonical.vertices.numpy(), skin, canonical.weights.numpy())
        mesh = Clothes(torch.from_numpy(worn.vertices), torch.from_numpy(worn.weights))
        over, _ = on_the_body(worn.vertices[worn.triangles].mean(1), canonical.vertices.numpy(), skin)
        triangles, density = worn.triangles, density[over.face]  # as dense as on what lies beneath
    gaussians = sample(mesh, triangles, density, config.gaussians, seed)
    controls = sample(mesh, triangles, np.ones(len(triangles)), config.controls, seed + 1)
    anchors = anchor_surface(mesh, arrays.joint_names, triangles, config, seed + 2)
    if clothed is None:
        rows, dirs = gaussians.expressions(arrays)
    else:  # the face beneath carries its expressions to what lies on it
        place, near_skin = on_the_body(gaussians.points, canonical.vertices.numpy(), skin)
        shares = np.where(near_skin[:, None], place.barycentrics, 0.0).astype(np.float32)
        rows, dirs = Surface(canonical, skin[place.face], shares).expressions(arrays)
    near = config.neighbours
    return Points(
        xyz=torch.from_numpy(gaussians.points),
        normals=torch.from_numpy(gaussians.facing(mesh, triangles, arrays.joint_names)),
        controls=torch.from_numpy(controls.points),
        anchors=torch.from_numpy(anchors.points),
        weights=torch.from_numpy(gaussians.weights),
        expression_rows=torch.from_numpy(rows),
        expression_dirs=torch.from_numpy(dirs),
        gaussian_anchors=mixing_of(gaussians.points, anchors.points, near),
        control_anchors=mixing_of(controls.points, anchors.points, near),
        gaussian_controls=mixing_of(gaussians.points, controls.points, near),
        control_pairs=torch.from_numpy(nearest(controls.points, controls.points, config.smooth_neighbours)[0]),
        anchor_sees=driving.seen_by(torch.from_numpy(anchors.weights), arrays.joint_names),
    )


def new_body(
    reference: TemplateReference,
    config: MlpBodyConfig,
    *,
    seed: int,
    rotations: NDArray[np.float32] | None = None,
    expressions: NDArray[np.float32] | None = None,
    rest_pose: NDArray[np.float32] | None = None,
    captured_irradiance: Tensor | None = None,
    clothed: Path | None = None,
) -> MlpBody:
    """An untrained body. rotations [T, J, 3] rad and expressions [T, E] of training frames set the range of poses.

    clothed: a template.ply of the dressed person to put the points on, None for the bare body.

    Raises BadTemplate when the template is not at hand.
    """
    canonical = Canonical.of(reference)
    driving = DrivingPose.of(canonical.arrays, hands=config.hands, face=config.face)
    points = new_points(canonical, driving, config, seed, clothed)
    known = None
    if rotations is not None and expressions is not None and config.clamp_components and len(rotations) > 1:
        theta = driving.vector(torch.tensor(rotations), torch.tensor(expressions), canonical.arrays)
        known = PoseRange.fit(theta, config.clamp_components, config.clamp_sigmas)
    joints = len(canonical.arrays.joint_names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MlpBody(
            canonical,
            points,
            driving,
            basis=config.basis,
            control_basis=config.control_basis,
            widths=config.widths,
            wiggle_m=config.wiggle_m,
            view_dependent=config.sh_from >= 0,
            pose_range=known,
            rest_pose=np.zeros((joints, 3), np.float32) if rest_pose is None else rest_pose,
            captured_irradiance=captured_irradiance,
        )
        spread = config.initial_basis
        shared = torch.empty(config.basis, model.neutral.shape[0], 1).uniform_(-spread, spread)
        shared_control = torch.empty(config.control_basis, 1, 3).uniform_(-spread, spread)
    _, distance = nearest(points.xyz.numpy(), points.xyz.numpy(), min(SPACING_NEIGHBOURS + 1, len(points.xyz)))
    spacing = np.sqrt((distance[:, 1:] ** 2).mean(1)).clip(MIN_SCALE_M, MAX_SCALE_M)
    with torch.no_grad():
        model.neutral[COLOUR] = 0
        model.neutral[SCALE] = torch.from_numpy(np.log(spacing)).float()
        model.neutral[ROTATION.start] = 1
        model.neutral[OPACITY] = float(np.log(config.initial_opacity / (1 - config.initial_opacity)))
        model.bases.copy_(shared.expand_as(model.bases))
        model.control_bases.copy_(shared_control.expand_as(model.control_bases))
    return model
