"""The terms a student is trained by (method page E.4), as pure functions. Maps are [B, H, W, C], alpha [B, H, W]."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import normalize

from avatars.rendering import CameraBatch

NEIGHBOURS = 5


def neighbours_of(positions: Tensor) -> Tensor:
    """The nearest others [N, NEIGHBOURS] int64 of points [N, 3]; a point without so many has itself."""
    places = positions.detach().cpu().numpy()
    near = cKDTree(places).query(places, k=min(NEIGHBOURS + 1, len(places)))[1].reshape(len(places), -1)[:, 1:]
    short = NEIGHBOURS - near.shape[1]
    if short:
        near = np.concatenate([near, np.tile(np.arange(len(places))[:, None], (1, short))], 1)
    return torch.from_numpy(near.astype(np.int64)).to(positions.device)


def as_isometric_as_possible(canonical: Tensor, posed: Tensor, neighbours: Tensor, chosen: Tensor) -> Tensor:
    """Mean change, m, of the distances from chosen [P] surfels to their neighbours [N, K] by posing.

    canonical: [N, 3]; posed: [B, N, 3].
    """
    near = neighbours[chosen]
    rest = _distances(canonical[chosen][:, None], canonical[near])
    moved = _distances(posed[:, chosen][:, :, None], posed[:, near])
    return (moved - rest[None]).abs().mean()


def _distances(first: Tensor, second: Tensor) -> Tensor:
    return ((first - second).square().sum(-1) + 1e-12).sqrt()


def depth_normals(depth: Tensor, cameras: CameraBatch, rays: Tensor) -> Tensor:
    """Unit normals [B, H, W, 3], world, towards the camera, of depth maps [B, H, W] m; 0 on the border.

    rays: [B, H, W, 3] unit world directions of the pixels (`lit_pixels.pixel_rays`); perspective cameras.
    """
    ahead = (rays * cameras.camera_from_world[:, None, None, 2, :3]).sum(-1, keepdim=True)
    points = cameras.positions()[:, None, None] + rays * (depth[..., None] / ahead.clamp(min=1e-3))
    across = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    down = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    inner = normalize(torch.linalg.cross(down, across, dim=-1), dim=-1)
    return torch.nn.functional.pad(inner, (0, 0, 1, 1, 1, 1))


def normal_consistency(normals: Tensor, alpha: Tensor, depth: Tensor, cameras: CameraBatch, rays: Tensor) -> Tensor:
    """Mean of 1 - cosine between blended normals and those of the depth map, where a pixel is covered wholly."""
    solid = (alpha.detach() > 0.95).float()
    inside = -torch.nn.functional.max_pool2d(-solid[:, None], 3, 1, 1)[:, 0]  # with all its neighbours
    inside = torch.nn.functional.pad(inside[:, 1:-1, 1:-1], (1, 1, 1, 1))
    cosine = (normalize(normals, dim=-1) * depth_normals(depth, cameras, rays)).sum(-1)
    return ((1 - cosine) * inside).sum() / inside.sum().clamp(min=1)


def edge_aware_variation(maps: Tensor, guide: Tensor, alpha: Tensor) -> Tensor:
    """Mean step of maps [B, H, W, C] between neighbouring pixels, less where the guide [B, H, W, 3] has an edge.

    Only where both pixels are covered (alpha).
    """
    total = maps.new_zeros(())
    for axis in (1, 2):
        size = maps.shape[axis] - 1
        step = maps.narrow(axis, 1, size) - maps.narrow(axis, 0, size)
        edge = (guide.narrow(axis, 1, size) - guide.narrow(axis, 0, size)).abs().mean(-1, keepdim=True)
        both = (alpha.narrow(axis, 1, size) * alpha.narrow(axis, 0, size)).detach()[..., None]
        total = total + (step.abs() * (-8.0 * edge).exp() * both).mean()
    return total


def map_variation(radiance: Tensor) -> Tensor:
    """Mean square step between neighbouring texels of a map [H, W, 3]; columns wrap."""
    across = radiance - radiance.roll(1, 1)
    return across.square().mean() + (radiance[1:] - radiance[:-1]).square().mean()
