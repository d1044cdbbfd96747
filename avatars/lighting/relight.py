"""Estimated diffuse relighting: trained colours times the ratio of new to captured irradiance.

An avatar's colours hold the light it was captured in. For a diffuse surface, radiance is albedo * E(n) / pi, so moving
it into another light multiplies its linear colour by E_new(n) / E_captured(n_captured). Both lights are in the same
units, so exposure follows by itself. Shadows and highlights of the capture stay where they were.

Use it on finished pixels and their blended normals. Ratios (or irradiances) of single Gaussians, blended, would let
faint ones that lie a little wrong, and so face another way, shine through wherever the new light is low.
"""

from __future__ import annotations

import math
from typing import TypeGuard

import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatars.lighting.colour import LUMINANCE
from avatars.lighting.irradiance import irradiance_at, mean_irradiance, softened

CONFUSED, AGREED = 0.3, 0.7  # lengths of a blended normal below which it says nothing, above which it is taken fully
MOST_BRIGHTENED = 3.0  # times the ratio of the means: what was dark in the capture is mostly noise
DARKEST_CAPTURED = 0.25  # of the captured mean, likewise for albedo
FAINTEST_COLOUR = 0.05  # of the brightest colour's mean: a light without blue says nothing of a surface's blue


def _is_known(captured: Tensor | None) -> TypeGuard[Tensor]:
    return captured is not None and float(captured[0].max()) > 1e-6


def _at(light: Tensor, normals: Tensor) -> Tensor:
    """Irradiance [..., 3] at normals of length 0..1: towards the mean where surfaces disagree and normals are short."""
    mean, length = mean_irradiance(light), normals.norm(dim=-1, keepdim=True)
    trust = ((length - CONFUSED) / (AGREED - CONFUSED)).clamp(0, 1)
    return torch.lerp(mean.expand_as(normals), irradiance_at(light, normalize(normals, dim=-1)), trust).clamp(min=0)


def _guarded_mean(light: Tensor) -> Tensor:
    mean = mean_irradiance(light).clamp(min=0)
    return torch.maximum(mean, FAINTEST_COLOUR * mean.max())


def relighting(light: Tensor, captured: Tensor | None, normals: Tensor, captured_normals: Tensor) -> Tensor:
    """What to multiply linear colours by, [..., 3], to move them from the captured into the new light.

    light, captured: irradiance coefficients [9, 3] (see irradiance.py), in world axes of picture and capture. captured
    None (or dark) means unknown: white light from everywhere, as bright on average as `light`, so the picture's
    brightness is kept. normals, captured_normals: [..., 3] where surfaces face now and faced in the room of the
    capture, as blended: shorter than 1 where surfaces disagree, 0 where nothing is known. 1 where both are the same.
    """
    new = softened(light.to(normals))
    shade = _at(new, normals)
    if not _is_known(captured):
        luminance = (mean_irradiance(new) * torch.tensor(LUMINANCE).to(normals)).sum()
        return shade / luminance.clamp(min=1e-6)
    old = softened(captured.to(normals))
    mean = _guarded_mean(old)
    ratio = shade / torch.maximum(_at(old, captured_normals), FAINTEST_COLOUR * mean)
    # All colours are held back alike, or the hue would change.
    typical = (mean_irradiance(new) / mean).mean().clamp(min=1e-12)
    return ratio * (MOST_BRIGHTENED * typical / ratio.mean(dim=-1, keepdim=True).clamp(min=1e-12)).clamp(max=1)


def albedo(linear: Tensor, captured: Tensor | None, captured_normals: Tensor) -> Tensor:
    """Estimated diffuse albedo [..., 3] in 0..1 of linear colours [..., 3]: colour times pi over captured irradiance.

    Where the captured light is unknown the colour itself is the estimate (as if under irradiance pi).
    """
    if _is_known(captured):
        light = softened(captured.to(linear))
        linear = linear * math.pi / torch.maximum(_at(light, captured_normals), DARKEST_CAPTURED * _guarded_mean(light))
    return linear.clamp(0, 1)
