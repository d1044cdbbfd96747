"""One person's template in the canonical pose: what moves with which joint, and the rigid parts it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from avatars.templates.big_pose import SURFACE_GROUPS
from avatars.templates.opening import TemplateReference
from avatars.templates.rotations import matrices_from_axis_angle
from avatars.templates.template import Template, triangles_of
from shared.errors import BadAvatar
from shared.template import TemplateArrays

NEIGHBOURS = 7
JOINTS_KEPT = 8
PART_SHARE = 0.035
"""Of the whole surface: joints that move less become part of what carries them, fingers of the forearm."""


@dataclass(frozen=True, eq=False)
class Skin:
    """What N points follow. joints: [N, K] int64 and weights: [N, K], rows sum to 1. expression_dirs: [E, N, 3] m, how
    expressions move them in canonical space.
    """

    joints: Tensor
    weights: Tensor
    expression_dirs: Tensor

    def to(self, device: torch.device | str) -> Skin:
        """The same on another device."""
        return Skin(self.joints.to(device), self.weights.to(device), self.expression_dirs.to(device))


class Person:
    """A template with its shape, in a canonical pose [J, 3] rad, on one device. Raises BadTemplate, BadAvatar.

    vertices: [V, 3] m canonical; joints: [J, 3] m at rest; canonical_from_rest: [J, 4, 4].
    """

    def __init__(self, reference: TemplateReference, canonical_rotations: Tensor) -> None:
        self.reference = reference
        self.arrays: TemplateArrays = reference.open()
        count = len(self.arrays.joint_names)
        if tuple(canonical_rotations.shape) != (count, 3) or not torch.isfinite(canonical_rotations).all():
            raise BadAvatar(
                "the canonical pose does not fit the template",
                found=str(list(canonical_rotations.shape)),
                expected=f"[{count}, 3]",
            )
        template = Template(self.arrays)
        shape = template.vertices.new_tensor([reference.shape]) if reference.shape else None
        rest, joints = template.rest(preset=reference.preset, shape=shape)
        self.canonical_rotations = canonical_rotations.detach().cpu().float()
        skinning, _ = template.joint_transforms(self.canonical_rotations[None], joints, torch.zeros(1, 3))
        self.rest_vertices, self.joints = rest[0], joints[0]
        self.vertices = template.skin(rest, skinning).vertices[0]
        self.canonical_from_rest = skinning[0]
        self.joint_dirs = template.joint_expression_dirs
        parents = [int(parent) for parent in self.arrays.parents]
        above = [parent if parent >= 0 else count for parent in parents] + [count]
        self.rounds: list[Tensor] = []
        while any(joint != count for joint in above):
            self.rounds.append(torch.tensor(above))
            above = [above[joint] for joint in above]
        self._rest_from_canonical = torch.linalg.inv(self.canonical_from_rest)

    def to(self, device: torch.device | str) -> Person:
        """The same on another device; shares what is there already."""
        moved = Person.__new__(Person)
        moved.__dict__.update(self.__dict__)
        for name in ("joints", "joint_dirs", "_rest_from_canonical"):
            setattr(moved, name, getattr(self, name).to(device))
        moved.rounds = [table.to(device) for table in self.rounds]
        return moved

    def moved(self, rotations: Tensor, translations: Tensor, expressions: Tensor) -> Tensor:
        """Posed from canonical for each joint alone, [B, J, 4, 4], by pointer doubling along the chains.

        rotations [B, J, 3] rad, translations [B, 3] m, expressions [B, E].
        """
        matrices = matrices_from_axis_angle(rotations)
        joints = self.joints[None]
        if expressions.shape[1]:
            joints = joints + torch.einsum("be,ejc->bjc", expressions, self.joint_dirs[: expressions.shape[1]])
        frames, count = matrices.shape[:2]
        joints = joints.expand(frames, -1, -1)
        identity = torch.eye(3, dtype=matrices.dtype, device=matrices.device).expand(frames, 1, 3, 3)
        points = torch.cat([joints, joints.new_zeros(frames, 1, 3)], dim=1)
        turned = torch.cat([matrices, identity], dim=1)
        placed = points - points[:, self.rounds[0]] if self.rounds else points
        for above in self.rounds:
            lifted = turned[:, above]
            placed = (lifted @ placed[..., None])[..., 0] + placed[:, above]
            turned = lifted @ turned
        turned, placed = turned[:, :count], placed[:, :count]
        shift = placed - (turned @ joints[..., None])[..., 0] + translations[:, None]
        last = torch.eye(4, dtype=turned.dtype, device=turned.device)[3].expand(frames, count, 1, 4)
        posed_from_rest = torch.cat([torch.cat([turned, shift[..., None]], dim=-1), last], dim=-2)
        return posed_from_rest @ self._rest_from_canonical

    @cached_property
    def faces(self) -> NDArray[np.int32]:
        """Triangles [F, 3] of what the person shows of the template."""
        groups = [name for name in self.arrays.faces if name in SURFACE_GROUPS] or list(self.arrays.faces)
        return np.concatenate([triangles_of(self.arrays.faces[n], self.arrays.uv_faces[n])[0] for n in groups])

    def skin_of(self, points: Tensor) -> Skin:
        """What canonical points [N, 3] follow: their nearest vertices of the surface, nearer ones more."""
        used = np.unique(self.faces)
        vertices = self.vertices.numpy()[used]
        most = min(NEIGHBOURS, len(used))
        distance, near = cKDTree(vertices).query(points.detach().cpu().numpy(), k=most)
        distance, near = distance.reshape(len(points), most), used[near.reshape(len(points), most)]
        reach = np.maximum((distance**2).mean(1, keepdims=True), 1e-8)
        share = np.exp(-np.minimum(distance**2 / reach, 4.0))
        share /= share.sum(1, keepdims=True)
        blended = np.einsum("nk,nkj->nj", share, self.arrays.weights[near])
        kept = min(JOINTS_KEPT, blended.shape[1])
        joints = np.argsort(-blended, axis=1, kind="stable")[:, :kept]
        weights = np.take_along_axis(blended, joints, 1)
        weights /= weights.sum(1, keepdims=True)
        expressions = np.zeros((len(self.arrays.expression_names), len(points), 3), np.float32)
        if len(self.arrays.expression_names):
            row = np.full(len(self.arrays.vertices), -1)
            row[self.arrays.expression_vertices] = np.arange(len(self.arrays.expression_vertices))
            for neighbour in range(most):
                found = row[near[:, neighbour]]
                touched = found >= 0
                expressions[:, touched] += (
                    share[touched, neighbour, None] * self.arrays.expression_dirs[:, found[touched]]
                )
            turned = self.canonical_from_rest.numpy()[joints[:, 0], :3, :3]  # offsets are given at rest
            expressions = np.einsum("nij,enj->eni", turned, expressions)
        return Skin(
            torch.from_numpy(joints.astype(np.int64)),
            torch.from_numpy(weights.astype(np.float32)),
            torch.from_numpy(expressions.astype(np.float32)),
        )

    def parts(self) -> tuple[tuple[int, ...], NDArray[np.int64]]:
        """Joints that carry a rigid part each, and the part [V] of every vertex, found from weights and areas."""
        vertices, faces, parents = self.vertices.numpy(), self.faces, self.arrays.parents
        corners = vertices[faces]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
        owner = self.arrays.weights.argmax(1)
        size = np.zeros(len(parents))
        np.add.at(size, owner[faces[:, 0]], area)
        carrier = np.arange(len(parents))
        for joint in range(len(parents) - 1, 0, -1):
            if size[joint] < PART_SHARE * area.sum() and parents[joint] >= 0:
                carrier[joint] = parents[joint]
                size[parents[joint]] += size[joint]
                size[joint] = 0
        for joint in range(1, len(parents)):  # parents come first, so that one pass follows whole chains
            carrier[joint] = carrier[carrier[joint]]
        used = np.unique(carrier[owner])
        part = np.full(len(parents), -1)
        part[used] = np.arange(len(used))
        return tuple(int(joint) for joint in used), part[carrier[owner]]

    def as_json(self) -> dict[str, Any]:
        """What beside the template's note makes this person."""
        return {"canonical_rotations": self.canonical_rotations.tolist()}
