"""Surfels in plain torch, differentiated by autograd: slow, any dtype, what the fast rasterisers are tested against."""

from __future__ import annotations

import torch
from torch import Tensor

from avatars.rendering.cameras import CameraBatch
from avatars.rendering.constants import ALPHA_CEILING, ALPHA_FLOOR, TRANSMITTANCE_STOP
from avatars.rendering.surfels import LOW_PASS, ProjectedSurfels


def surfel_alphas(matrices: Tensor, centres: Tensor, opacities: Tensor, pixels: Tensor) -> Tensor:
    """Alpha [P, N] at pixel centres [P, 2] of surfels: pixel_from_surfel [N, 3, 3], centres [N, 2] px."""
    across = pixels[:, None, 0, None] * matrices[None, :, 2] - matrices[None, :, 0]
    down = pixels[:, None, 1, None] * matrices[None, :, 2] - matrices[None, :, 1]
    meeting = torch.linalg.cross(across, down)
    w = meeting[..., 2]
    safe = torch.where(w == 0, torch.ones_like(w), w)
    on_plane = (meeting[..., :2] / safe[..., None]).square().sum(-1)
    on_plane = torch.where(w == 0, torch.full_like(w, 1e10), on_plane)
    round_px = LOW_PASS * (centres[None] - pixels[:, None]).square().sum(-1)
    alpha = (opacities * torch.exp(-0.5 * torch.minimum(on_plane, round_px))).clamp(max=ALPHA_CEILING)
    return torch.where((alpha >= ALPHA_FLOOR) & (w != 0), alpha, torch.zeros_like(alpha))


def blend(
    projected: ProjectedSurfels, opacities: Tensor, features: Tensor, cameras: CameraBatch, distortion: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Premultiplied features [B, H, W, C], alpha, alpha-weighted depth sum and distortion [B, H, W]."""
    width, height = cameras.width_px, cameras.height_px
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = (torch.stack([columns, rows], dim=-1).reshape(-1, 2) + 0.5).to(features)
    found: list[list[Tensor]] = [[], [], [], []]
    for frame in range(features.shape[0]):
        order = torch.argsort(projected.depths[frame], stable=True)
        order = order[projected.drawn[frame][order]]
        depths = projected.depths[frame, order]
        alpha = surfel_alphas(
            projected.pixel_from_surfel[frame, order],
            projected.centres_px[frame, order],
            opacities[frame, order],
            pixels,
        )
        after = torch.cumprod(1 - alpha, dim=1)
        alpha = torch.where(after > TRANSMITTANCE_STOP, alpha, torch.zeros_like(alpha))
        after = torch.cumprod(1 - alpha, dim=1)
        weights = alpha * torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1)
        cover, depth_sums = weights.cumsum(1), (weights * depths).cumsum(1)
        spread = 2 * (weights * (depths * (cover - weights) - (depth_sums - weights * depths))).sum(1)
        found[0].append(weights @ features[frame, order])
        found[1].append(weights.sum(1))
        found[2].append(weights @ depths)
        found[3].append(spread if distortion else spread.detach() * 0)
    shape = (features.shape[0], height, width)
    image, alpha, depth, spread = (torch.stack(part) for part in found)
    return image.reshape(*shape, -1), alpha.reshape(shape), depth.reshape(shape), spread.reshape(shape)
