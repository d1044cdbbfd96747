"""Weighted blending in plain torch, differentiated by autograd: slow, any dtype, what the fast ones are tested against.

The weights exp(-beta (1 - T)) are held (detached): a statistic of visibility. Their normalisation is not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from avatars.rendering.cameras import CameraBatch
from avatars.rendering.constants import ALPHA_FLOOR
from avatars.rendering.reference import pixel_weights, project, usable


def blend(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colours: Tensor,
    cameras: CameraBatch,
    beta: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Premultiplied colours [B, H, W, 3], alpha [B, H, W], shares [B, N]."""
    width, height = cameras.width_px, cameras.height_px
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = (torch.stack([columns, rows], dim=-1).reshape(-1, 2) + 0.5).to(means)
    images, alphas, shares = [], [], []
    for frame in range(means.shape[0]):
        kept = usable(means[frame], quats[frame], scales[frame], opacities[frame], colours[frame]).nonzero()[:, 0]
        K, pose = cameras.K[frame].to(means), cameras.camera_from_world[frame].to(means)
        found = project(means[frame, kept], quats[frame, kept], scales[frame, kept], K, pose, cameras)
        order = torch.argsort(found.depths, stable=True)
        order = order[(found.drawn & (opacities[frame, kept] >= ALPHA_FLOOR))[order]]
        ordered = found.some(order)
        opacity, own = opacities[frame, kept][order], colours[frame, kept][order]
        if not len(order):
            nothing = own.sum() * 0 + means[frame].nan_to_num(0, 0, 0).sum() * 0  # kept in the graph
            images.append(torch.zeros(height * width, 3, dtype=means.dtype, device=means.device) + nothing)
            alphas.append(torch.zeros_like(images[-1][:, 0]))
            shares.append(torch.zeros_like(opacities[frame]).detach())
            continue
        plain, left = pixel_weights(ordered, opacity, pixels)
        coverage = 1 - left
        held = (1 - torch.cumsum(plain, 1) + plain).detach()  # transmittance in front of each
        weights = plain * torch.exp(-beta * (1 - held))
        total = weights.sum(1).clamp_min(1e-12)
        images.append(weights @ own * (coverage / total)[:, None])
        alphas.append(coverage)
        a, b, c = ordered.conics.unbind(-1)
        alone = 2 * math.pi / (a * c - b * b).sqrt() * (opacity - ALPHA_FLOOR)
        share = torch.zeros_like(opacities[frame])
        share[kept[order]] = (plain.sum(0) / alone.clamp_min(1e-12)).clamp(0, 1)
        shares.append(share.detach())
    shape = (means.shape[0], height, width)
    return torch.stack(images).reshape(*shape, 3), torch.stack(alphas).reshape(shape), torch.stack(shares)
