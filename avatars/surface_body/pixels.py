"""Which pixels a step looks at: inside the mask, along its edge, and not far from it (method page 12.4)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from avatars.surface_body.settings import SamplingSettings

AROUND = 0.08
"""Of the longer image side: elsewhere means so near to the mask."""
REFERENCE_PX = 512


def choose_pixels(alpha: Tensor, settings: SamplingSettings, drawn: Tensor) -> Tensor:
    """Rows and columns [B, N, 2] int64 of pictures with masks alpha [B, H, W] in 0..1, by numbers drawn
    [B, N] from 0..1.

    Where a picture lacks one of the kinds, the others take its share. No waiting for the device.
    """
    _, height, width = alpha.shape
    longest = max(height, width)
    mask = (alpha > 0.5).float()[:, None]
    edge_px = max(1, round(settings.edge_px * longest / REFERENCE_PX))
    inside = mask[:, 0] > 0.5
    edge = (grown(mask, edge_px) > 0.5) & (grown(1 - mask, edge_px) > 0.5)
    around = grown(mask, max(2, round(AROUND * longest))) > 0.5
    shares = (settings.inside_share, settings.edge_share, 1 - settings.inside_share - settings.edge_share)
    chance = torch.full_like(alpha, 1e-9)
    for members, share in zip((inside, edge[:, 0], around[:, 0]), shares, strict=True):
        chance = chance + share * members / members.sum((1, 2), keepdim=True).clamp_min(1)
    running = chance.flatten(1).double().cumsum(1)
    flat = torch.searchsorted(running, drawn.double() * running[:, -1:]).clamp(max=height * width - 1)
    return torch.stack((flat // width, flat % width), -1)


def grown(mask: Tensor, by_px: int) -> Tensor:
    """A mask [B, 1, H, W] grown by a square."""
    side = 2 * by_px + 1
    rows = max_pool2d(mask, (side, 1), stride=1, padding=(by_px, 0))
    return max_pool2d(rows, (1, side), stride=1, padding=(0, by_px))
