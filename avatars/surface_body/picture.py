"""Whole pictures of a field in poses: colour, coverage, depth and normals."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avatars.rendering.cameras import CameraBatch
from avatars.surface_body.march import Posed, rays_through, spans, trace
from avatars.surface_body.model import SurfaceModel

RAYS_AT_ONCE = {"cpu": 4096, "cuda": 1 << 17}
FAINT = 1e-3


@dataclass(frozen=True, eq=False)
class Picture:
    """B pictures. colour: [B, H, W, 3] display-encoded, premultiplied; alpha: [B, H, W]; depth_m: [B, H, W] camera z, 0
    where empty; normals: [B, H, W, 3] unit, world, 0 where empty."""

    colour: Tensor
    alpha: Tensor
    depth_m: Tensor
    normals: Tensor


def picture(model: SurfaceModel, poses: Posed, cameras: CameraBatch, levels: float | None = None) -> Picture:
    """Camera b's picture of pose b, without gradients."""
    width, height, device = cameras.width_px, cameras.height_px, cameras.K.device
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack((x, y), -1).view(1, -1, 2).to(device).expand(cameras.frames, -1, -1)
    rays = rays_through(cameras, pixels)
    found = torch.zeros(len(rays.pose), 8, device=device)
    wanted, forward = model.config.sampling, cameras.camera_from_world[:, 2, :3]
    with torch.no_grad():
        model.field.begin()
        for part in torch.arange(len(rays.pose), device=device).split(16 * RAYS_AT_ONCE[device.type]):
            some = rays.some(part)
            inside = spans(some, poses, wanted.probes, wanted.shell_m, cameras.near_m)
            met = torch.nonzero(inside.length_m > 0)[:, 0]
            for chosen in met.split(RAYS_AT_ONCE[device.type]):
                looking = some.some(chosen)
                known = type(inside)(inside.start_m[chosen], inside.ends[chosen])
                traced = trace(model, poses, looking, levels, found=known)
                args = (traced.canonical, traced.geometry, traced.seen_along, traced.normals, levels)
                colour = traced.over(model.field.colour(*args))
                ahead = (looking.directions * forward[looking.pose]).sum(-1)
                depth = (traced.t_m * traced.weights).sum(1) * ahead
                parts = (colour, traced.opacity[:, None], depth[:, None], traced.over(traced.normals))
                found[part[chosen]] = torch.cat(parts, -1)
    found = found.view(cameras.frames, height, width, 8)
    alpha = found[..., 3].clamp(0, 1)
    seen = alpha > FAINT
    depth = torch.where(seen, found[..., 4] / alpha.clamp_min(FAINT), torch.zeros_like(alpha))
    normals = torch.nn.functional.normalize(found[..., 5:], dim=-1, eps=1e-6) * seen[..., None]
    return Picture(found[..., :3], alpha, depth, normals)
