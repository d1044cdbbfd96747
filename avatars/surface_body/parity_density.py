"""From signed distances along rays to opacities, as published (method page 3.5 and 6): NeuS's logistic density (Wang et
al. 2021) as a density along the ray, its width fitted to each ray's slopes (HF-NeuS, Wang et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import relu

FAINT = 0.2
"""A ray whose densities sum to less than so much has no surface to tell its slope by."""
KEPT = 1e-7


@dataclass(frozen=True, eq=False)
class RaySamples:
    """N samples on each of R rays. distance_m [R, N]; gradient, seen_along (unit) [R, N, 3] canonical; width_m [R, N]
    posed, what each stands for; base_m [R, N]: distance to the template alone."""

    distance_m: Tensor
    gradient: Tensor
    seen_along: Tensor
    width_m: Tensor
    base_m: Tensor


def ray_weights(samples: RaySamples, sharpness: Tensor, annealed: float, shell_m: float) -> Tensor:
    """What each sample contributes, [R, N]. sharpness: 1/m; annealed: 0..1 of the way from half to full cosines."""
    sharp = sharpness * ray_scale(samples.distance_m, samples.gradient, sharpness)[:, None]
    facing = (samples.seen_along * samples.gradient).sum(-1)
    slope = relu(0.5 - 0.5 * facing) * (1 - annealed) + relu(-facing) * annealed
    density = sharp * torch.sigmoid(-sharp * samples.distance_m) * slope
    opacity = (1 - torch.exp(-density * samples.width_m)).clamp(0, 1)
    opacity = opacity * (samples.base_m <= shell_m)
    passed = torch.cumprod(1 - opacity + KEPT, 1)
    before = torch.cat((torch.ones_like(passed[:, :1]), passed[:, :-1]), 1)
    return opacity * before


def ray_scale(distance_m: Tensor, gradient: Tensor, sharpness: Tensor) -> Tensor:
    """[R]: exp(mean slope near the surface - 1), by which a ray's sharpness is multiplied. The means do not learn by
    what they are weighted with."""
    scaled = -distance_m.detach() * sharpness.detach()
    density = sharpness.detach() * torch.sigmoid(scaled) * torch.sigmoid(-scaled)
    total = density.sum(1, keepdim=True)
    even = torch.full_like(density, 1 / density.shape[1])
    shares = torch.where(total < FAINT, even, density / total.clamp_min(FAINT))
    slope = (gradient.square().sum(-1) + 1e-12).sqrt()
    return torch.exp((shares * slope).sum(1) - 1)


def seen_along_of(canonical: Tensor) -> Tensor:
    """[R, N, 3] unit directions from each sample to the next of its ray, of canonical places [R, N, 3]; the last one's
    is that before it."""
    steps = canonical[:, 1:] - canonical[:, :-1]
    steps = torch.cat((steps, steps[:, -1:]), 1)
    return steps / (steps.square().sum(-1, keepdim=True) + 1e-12).sqrt()
