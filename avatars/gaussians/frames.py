"""Frames of triangles that carry bound Gaussians. Which one an avatar uses is recorded in its file."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatars.gaussians.posed import multiply_quaternions, quaternion_from_matrix

FrameKind = Literal["uv", "orthonormal", "edge"]
FRAME_KINDS: tuple[FrameKind, ...] = ("uv", "orthonormal", "edge")


def triangle_frames(corners: Tensor, uv_corners: Tensor, kind: FrameKind) -> Tensor:
    """Frames [..., F, 3, 3] of triangles, columns tangent, bitangent, normal.

    corners [..., F, 3, 3] m (triangle, corner, xyz); uv_corners [F, 3, 2].
    'uv' is RGBAvatar's frame exactly (CVPR 2025; method page 2.6): T and B follow the UV axes, each normalised alone,
    so they are not orthogonal on a sheared triangle. 'orthonormal' keeps N and T's direction and makes a true rotation:
    covariances and normals then turn together, without which a relit surface is lit from the wrong side of a shear.
    'edge' is GaussianAvatars' frame (CVPR 2024; method page 10.1): the first edge, the normal, and the direction that
    makes a rotation of them; uv_corners are not looked at.
    No gradient flows into the corners for the first two (as in RGBAvatar's paper); it does for 'edge', so that FLAME's
    parameters can be tuned. A triangle without area gets the axes it can, and zeros elsewhere are replaced by an
    arbitrary perpendicular ('edge': stay zero), so the result is always finite.
    """
    if kind == "edge":
        return _edge_frames(corners)
    corners = corners.detach()
    edge1, edge2 = corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]
    (du1, dv1), (du2, dv2) = ((uv_corners[:, corner] - uv_corners[:, 0]).unbind(-1) for corner in (1, 2))
    # The factor 1 / (du1·dv2 − dv1·du2) matters by its sign only: every axis is normalised below.
    sign = torch.where(du1 * dv2 - dv1 * du2 < 0, -1.0, 1.0)
    tangent = (dv2 * sign)[:, None] * edge1 - (dv1 * sign)[:, None] * edge2
    bitangent = (du1 * sign)[:, None] * edge2 - (du2 * sign)[:, None] * edge1
    normal = torch.linalg.cross(edge1, edge2)
    tiny = 1e-20
    if kind == "uv":
        axes = (
            normalize(tangent, dim=-1, eps=tiny),
            normalize(bitangent, dim=-1, eps=tiny),
            normalize(normal, dim=-1, eps=tiny),
        )
        return torch.stack(axes, -1)
    normal = _direction(normal, tangent)
    tangent = tangent - (tangent * normal).sum(-1, keepdim=True) * normal
    tangent = _direction(tangent, normal)
    tangent = normalize(tangent - (tangent * normal).sum(-1, keepdim=True) * normal, dim=-1)
    return torch.stack((tangent, torch.linalg.cross(normal, tangent), normal), -1)


def triangle_scales(corners: Tensor) -> Tensor:
    """Sizes [..., F] m of triangles [..., F, 3, 3]: the mean of the first edge and of the height over it (10.1)."""
    across = _edge_frames(corners)[..., 2]
    edge1, edge2 = corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]
    return 0.5 * (edge1.norm(dim=-1) + (across * edge2).sum(-1).abs())


def _edge_frames(corners: Tensor) -> Tensor:
    edge1, edge2 = corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]
    along = normalize(edge1, dim=-1, eps=1e-20)
    normal = normalize(torch.linalg.cross(along, edge2), dim=-1, eps=1e-20)
    across = -normalize(torch.linalg.cross(normal, along), dim=-1, eps=1e-20)
    return torch.stack((along, normal, across), -1)


def frame_quaternions(frames: Tensor, kind: FrameKind) -> Tensor:
    """Unit wxyz quaternions [..., 4] of frames [..., 3, 3] in model axes.

    A 'uv' frame is not a rotation, and then the quaternion read off it depends on the axes it is written in: RGBAvatar
    reads it in FLAME's (y up), so it is read there and turned into model axes. The others are rotations.
    """
    if kind != "uv":
        return quaternion_from_matrix(frames)
    x, y, z = frames.unbind(-2)
    half = 0.5**0.5
    model_from_y_up = frames.new_tensor([half, half, 0.0, 0.0])  # a quarter turn about x: (x, y, z) to (x, -z, y)
    return multiply_quaternions(model_from_y_up, quaternion_from_matrix(torch.stack((x, z, -y), -2)))


def _direction(vector: Tensor, other: Tensor) -> Tensor:
    """Unit vectors; a vector without length becomes a perpendicular of `other` (or +z where that has none either)."""
    length = vector.norm(dim=-1, keepdim=True)
    axis = torch.zeros_like(other)
    axis.scatter_(-1, other.abs().argmin(-1, keepdim=True), 1.0)
    perpendicular = torch.linalg.cross(other, axis)
    z = torch.zeros_like(other)
    z[..., 2] = 1
    fallback = torch.where(
        perpendicular.norm(dim=-1, keepdim=True) > 1e-20, normalize(perpendicular, dim=-1, eps=1e-30), z
    )
    return torch.where(length > 1e-20, vector / length.clamp_min(1e-20), fallback)
