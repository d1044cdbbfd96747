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

MOST_BRIGHTENED = 4.0  # times the ratio of the means: what was dark in the capture is mostly noise
DARKEST_CAPTURED = 0.25  # of the captured mean, likewise for albedo
FAINTEST_COLOUR = 0.05  # of the brightest colour's mean: a light without blue says nothing of a surface's blue


def _is_known(captured: Tensor | None) -> TypeGuard[Tensor]:
    return captured is not None and float(captured[0].max()) > 1e-6


def _at(light: Tensor, normals: Tensor | None) -> Tensor:
    return mean_irradiance(light) if normals is None else irradiance_at(light, normals).clamp(min=0)


def _guarded_mean(light: Tensor) -> Tensor:
    mean = mean_irradiance(light).clamp(min=0)
    return torch.maximum(mean, FAINTEST_COLOUR * mean.max())


def relit(
    gaussians: PosedGaussians, light: Tensor, captured: Tensor | None, captured_normals: Tensor | None
) -> PosedGaussians:
    """The same Gaussians with colours as under `light`; exactly the same where `light` is `captured`.

    light, captured: irradiance coefficients [9, 3] (see irradiance.py), in world axes of picture and capture. captured
    None (or dark) means unknown: white light from everywhere, as bright on average as `light`, so the picture's
    brightness is kept. captured_normals: [1 or B, N, 3] where the surfaces would face in the room of the capture; None
    uses the mean. Without normals of their own the Gaussians get the mean of the new light: its colour, no direction.
    """
    colours = gaussians.colours
    new = softened(light.to(colours))
    shade = _at(new, gaussians.normals)
    if _is_known(captured):
        old = softened(captured.to(colours))
        mean = _guarded_mean(old)
        limit = MOST_BRIGHTENED * mean_irradiance(new).clamp(min=0) / mean
        ratio = torch.minimum(shade / torch.maximum(_at(old, captured_normals), 1e-3 * mean), limit)
    else:
        luminance = (mean_irradiance(new) * torch.tensor(LUMINANCE).to(colours)).sum()
        ratio = shade / luminance.clamp(min=1e-6)
    linear = linear_from_srgb(colours.clamp(min=0)) * ratio
    return replace(gaussians, colours=srgb_from_linear(linear))


def albedo(gaussians: PosedGaussians, captured: Tensor | None, captured_normals: Tensor | None) -> Tensor:
    """Estimated linear diffuse albedo [B, N, 3] in 0..1: colour divided by captured irradiance / pi, as in `relit`.

    Where the captured light is unknown the colour itself is the estimate (as if under irradiance pi).
    """
    linear = linear_from_srgb(gaussians.colours.clamp(min=0))
    if _is_known(captured):
        light = softened(captured.to(linear))
        linear = linear * math.pi / torch.maximum(_at(light, captured_normals), DARKEST_CAPTURED * _guarded_mean(light))
    return linear.clamp(0, 1)
