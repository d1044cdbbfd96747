"""Volume rendering of packed samples: weights along each ray, sums over them, and drawing from them."""

from __future__ import annotations

import torch
from torch import Tensor

from avatars.relit_field.rays import Samples


def ray_weights(optical: Tensor, ray: Tensor, rays: int) -> Tensor:
    """Weight [M] of each sample: its own opacity times what the samples before it on its ray let through.

    optical: [M] density times width; ray: [M] int64, sorted. The sums are taken in float64, for they run over all rays.
    """
    if not len(optical):
        return optical
    total = optical.double().cumsum(0)
    before = total - optical.double()
    first = torch.searchsorted(ray, torch.arange(rays, device=ray.device)).clamp(max=len(ray) - 1)
    start = before.index_select(0, first[ray])  # its gradient adds, where that of [] sorts
    passed = torch.exp(-(before - start)).to(optical.dtype)
    return passed * -torch.expm1(-optical)


def ray_weights_plainly(optical: Tensor, ray: Tensor, rays: int) -> Tensor:
    """What `ray_weights` gives, one sample after the other: the reference it is tested against."""
    found = []
    light = {number: optical.new_ones(()) for number in range(rays)}
    for depth, number in zip(optical, ray.tolist(), strict=True):
        opacity = 1 - torch.exp(-depth)
        found.append(light[number] * opacity)
        light[number] = light[number] * (1 - opacity)
    return torch.stack(found) if found else optical


def summed(values: Tensor, weights: Tensor, ray: Tensor, rays: int) -> Tensor:
    """[R, C] of values [M, C] by weights [M]."""
    return values.new_zeros(rays, values.shape[1]).index_add(0, ray, values * weights[:, None])


def drawn(weights: Tensor, ray: Tensor, rays: int, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Samples drawn by their weight: index [R, N] int64 and whether the ray has any weight [R] bool.

    uniform: [R, N] numbers in 0..1. Every ray's distribution is one step of a rising function over all of them.
    """
    if not len(weights):
        return torch.zeros_like(uniform, dtype=torch.int64), torch.zeros(rays, dtype=torch.bool, device=uniform.device)
    mass = weights.detach().double()
    total = mass.new_zeros(rays).index_add(0, ray, mass)
    usable = total > 1e-9
    share = mass / total.clamp_min(1e-9)[ray]
    running = share.cumsum(0)
    number = torch.arange(rays, device=ray.device)
    first = torch.searchsorted(ray, number).clamp(max=len(ray) - 1)
    last = (torch.searchsorted(ray, number, right=True) - 1).clamp(min=0)
    begun = (running - share)[first]
    wanted = begun[:, None] + uniform.double() * (running[last] - begun)[:, None]
    index = torch.searchsorted(running, wanted.clamp_min(0))
    return torch.minimum(torch.maximum(index, first[:, None]), last[:, None]), usable


def finer_samples(samples: Samples, weights: Tensor, rays: int, uniform: Tensor, within: Tensor) -> Samples:
    """N more samples on each ray with any weight, where the weights are. uniform, within: [R, N] in 0..1.

    `within` places each in its sample's interval. Widths are left to `merged`.
    """
    index, usable = drawn(weights, samples.ray, rays, uniform)
    ray = torch.nonzero(usable)[:, 0]
    index, shift = index[ray], within[ray] - 0.5
    t = samples.t_m[index] + shift * samples.width_m[index]
    flat = ray[:, None].expand_as(t).flatten()
    return Samples(flat, t.flatten(), torch.zeros_like(t.flatten()))
