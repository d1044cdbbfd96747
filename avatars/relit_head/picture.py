"""Pictures of heads with materials, as training and measuring see them: blended first, shaded once a pixel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.lighting.colour import srgb_from_linear
from avatars.lighting.prefilter import FilteredLight
from avatars.lit_pixels import facing, lamp_directions, pixel_rays, shade_pixels, surface_rows
from avatars.rendering import CameraBatch, Rasterised, rasterise

LEAST_COVER = 0.02
"""Pixels covered less are not shaded: what their few Gaussians say, divided by it, means nothing."""
DARKEST = 1e-5
"""Linear radiance below which the slope of the display's curve is not followed."""


def lit_picture(
    posed: PosedGaussians, cameras: CameraBatch, lights: Sequence[tuple[Tensor, FilteredLight]]
) -> Rasterised:
    """Display-encoded colours [B, H, W, 3], premultiplied and cut at white, of posed heads with materials.

    lights: rows of the batch, and the light these share. Differentiable in all but visibility.
    """
    rows = surface_rows(posed, cameras.positions(), lamp_directions(lights[0][1], posed.means), plain=True)
    image = rasterise(posed, cameras, rows)
    away = pixel_rays(cameras)
    shown = torch.zeros(*image.alpha.shape, 3, dtype=image.features.dtype, device=image.alpha.device)
    for chosen, light in lights:
        covered = torch.zeros_like(image.alpha, dtype=torch.bool)
        covered[chosen] = image.alpha[chosen] > LEAST_COVER
        cover = image.alpha[covered][:, None]
        straight = image.features[covered] / cover
        normals = facing(straight[:, -3:], away[covered])
        linear = shade_pixels(straight[:, :-3], normals, -away[covered], light).total
        shown = shown.masked_scatter(covered[..., None], srgb_from_linear(linear.clamp(DARKEST, 1)) * cover)
    return Rasterised(shown, image.alpha, image.depth)
