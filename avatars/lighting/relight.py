"""Estimated diffuse relighting: trained colours times the ratio of new to captured irradiance.

An avatar's colours hold the light it was captured in. For a diffuse surface, radiance is albedo * E(n) / pi, so moving
it into another light multiplies its linear colour by E_new(n) / E_captured(n_captured). Both lights are in the same
units, so exposure follows by itself. Shadows and highlights of the capture stay where they were.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeGuard

import torch
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.lighting.colour import LUMINANCE, linear_from_srgb, srgb_from_linear
from avatars.lighting.irradiance import irradiance_at, mean_irradiance, softened

DARKEST_CAPTURED = 0.25  # of the captured mean: what was darker is not brightened further, noise would show
FAINTEST_COLOUR = 0.05  # of the brightest colour's mean, likewise


def _is_known(captured: Tensor | None) -> TypeGuard[Tensor]:
    return captured is not None and float(captured[0].max()) > 1e-6


def _captured_irradiance(captured: Tensor, normals: Tensor | None) -> Tensor:
    """[..., 3] or [3]: irradiance at the capture, held above a share of its mean."""
    light = softened(captured)
    mean = mean_irradiance(light).clamp(min=0)
    found = mean if normals is None else irradiance_at(light, normals)
    return torch.maximum(found, torch.maximum(DARKEST_CAPTURED * mean, FAINTEST_COLOUR * mean.max()))


def relit(
    gaussians: PosedGaussians, light: Tensor, captured: Tensor | None, captured_normals: Tensor | None
) -> PosedGaussians:
    """The same Gaussians with colours as under `light`.

    light, captured: irradiance coefficients [9, 3] (see irradiance.py), in world axes of picture and capture. captured
    None (or dark) means unknown: white light from everywhere, as bright on average as `light`, so the picture's
    brightness is kept. captured_normals: [1 or B, N, 3] where the surfaces faced during the capture; None uses the
    mean. Without normals of their own the Gaussians get the mean of the new light, its colour but no direction.
    """
    colours = gaussians.colours
    new = softened(light.to(colours))
    shade = mean_irradiance(new) if gaussians.normals is None else irradiance_at(new, gaussians.normals).clamp(min=0)
    if not _is_known(captured):
        luminance = (mean_irradiance(new) * torch.tensor(LUMINANCE).to(colours)).sum()
        before = luminance.clamp(min=1e-6) if luminance > 0 else torch.ones_like(luminance)
    else:
        before = _captured_irradiance(captured.to(colours), captured_normals)
    linear = linear_from_srgb(colours.clamp(min=0)) * (shade / before)
    return replace(gaussians, colours=srgb_from_linear(linear))


def albedo(gaussians: PosedGaussians, captured: Tensor | None, captured_normals: Tensor | None) -> Tensor:
    """Estimated linear diffuse albedo [B, N, 3] in 0..1: colour divided by captured irradiance / pi, as in `relit`.

    Where the captured light is unknown the colour itself is the estimate (as if under irradiance pi).
    """
    linear = linear_from_srgb(gaussians.colours.clamp(min=0))
    if _is_known(captured):
        linear = linear * math.pi / _captured_irradiance(captured.to(linear), captured_normals)
    return linear.clamp(0, 1)
