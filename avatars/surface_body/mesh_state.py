"""A person as a canonical triangle mesh: what the mesh stage leaves to the stage after it, to the avatar and to export.

Every vertex has the eight joints that it follows where it is exported, so what is trained is what Blender shows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatars.relit_body.person import Person
from avatars.surface_body.solid_texture import SolidTexture
from avatars.whole_sums import summed_at_corners


@dataclass(frozen=True, eq=False)
class MeshState:
    """vertices [V, 3] m canonical; faces [F, 3] int64, outwards counter-clockwise; joints [V, 8] int64 and weights
    [V, 8], rows sum to 1; expression_dirs [E, V, 3] m, how expressions move vertices in canonical space."""

    vertices: Tensor
    faces: Tensor
    joints: Tensor
    weights: Tensor
    expression_dirs: Tensor
    solid: SolidTexture

    def to(self, device: torch.device | str) -> MeshState:
        """The same on another device; the texture moves there itself."""
        names = ("vertices", "faces", "joints", "weights", "expression_dirs", "solid")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def posed(self, person: Person, rotations: Tensor, translations: Tensor, expressions: Tensor) -> Tensor:
        """Vertices [B, V, 3] m for rotations [B, J, 3] rad, translations [B, 3] m and expressions [B, E]."""
        moved = person.moved(rotations, translations, expressions)
        shifted = with_expressions(self.vertices, self.expression_dirs, expressions)
        return skinned(shifted, blended(moved, self.joints, self.weights))

    def look(self, points: Tensor, normals: Tensor | None = None) -> Tensor:
        """Colours [P, 3], display-encoded, of canonical points [P, 3] m, whatever their normals."""
        return self.solid.colours(points)

    def normals(self) -> Tensor:
        """Unit normals [V, 3] of the canonical mesh."""
        return vertex_normals(self.vertices[None], self.faces)[0]


def eight_of(joints: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Eight columns of joints and weights [V, K]: the first eight of more, filled up with weights of 0 where fewer."""
    missing = 8 - joints.shape[1]
    if missing > 0:
        joints = torch.nn.functional.pad(joints, (0, missing))
        weights = torch.nn.functional.pad(weights, (0, missing))
    kept = weights[:, :8]
    return joints[:, :8], kept / kept.sum(1, keepdim=True).clamp_min(1e-12)


def with_expressions(vertices: Tensor, expression_dirs: Tensor, expressions: Tensor) -> Tensor:
    """Canonical vertices [V, 3] moved by expressions [B, E]: [B, V, 3], or [1, V, 3] where none of them move any."""
    count = min(expressions.shape[1], len(expression_dirs))
    if not count:
        return vertices[None]
    return vertices[None] + torch.einsum("be,evc->bvc", expressions[:, :count], expression_dirs[:count])


def blended(moved: Tensor, joints: Tensor, weights: Tensor) -> Tensor:
    """[B, V, 3, 4] posed from canonical of vertices that follow joints [V, 8] with weights [V, 8]; moved [B, J, 4, 4].

    One product with the weights of all joints: far less to read than each vertex's own eight matrices.
    """
    frames, count = moved.shape[:2]
    table = weights.new_zeros(len(joints), count).scatter_add(1, joints, weights)
    rows = moved[:, :, :3].reshape(frames, count, 12).transpose(0, 1).reshape(count, -1)
    return (table @ rows).view(-1, frames, 3, 4).transpose(0, 1)


def skinned(vertices: Tensor, transforms: Tensor) -> Tensor:
    """Vertices [B or 1, V, 3] carried by [B, V, 3, 4]: [B, V, 3]."""
    return (transforms[..., :3] * vertices[..., None, :]).sum(-1) + transforms[..., 3]


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals [B, V, 3] of vertices [B, V, 3], faces [F, 3] weighted by area; differentiable, 0 without a face."""
    corners = vertices[:, faces.flatten()].view(len(vertices), -1, 3, 3)
    across = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    return normalize(summed_at_corners(faces, across, vertices.shape[1]), dim=-1, eps=1e-20)
