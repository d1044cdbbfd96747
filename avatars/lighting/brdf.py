"""Cook-Torrance with metallic and roughness, and the table of its integral over a white sky (split sum).

GGX distribution with alpha = roughness squared, height-correlated Smith masking (Heitz, "Understanding the
Masking-Shadowing Function", JCGT 2014), Schlick's Fresnel, F0 = 0.04 (1 - metallic) + albedo metallic; the diffuse part
is albedo (1 - metallic) / pi. Split sum: Karis, "Real Shading in Unreal Engine 4", SIGGRAPH course 2013.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

DIELECTRIC_F0 = 0.04
SMOOTHEST = 0.02
"""Roughness below this is taken as this: a mirror's lobe is infinitely high."""
GRAZING = 1e-4
TABLE_SIDE, TABLE_SAMPLES = 64, 256


def ggx(n_dot_h: Tensor, alpha: Tensor) -> Tensor:
    """Density of microfacet normals, 1/sr, for the cosine between the normal and the half vector (any shape)."""
    squared = alpha.square()
    cosine2 = n_dot_h.clamp(0, 1).square()
    # 1 - cos² (1 - a²) loses every digit where both are near 1; sin² + cos² a² does not.
    return squared / (math.pi * ((1 - cosine2) + cosine2 * squared).square())


def smith_visibility(n_dot_v: Tensor, n_dot_l: Tensor, alpha: Tensor) -> Tensor:
    """Masking and shadowing over 4 (n·v)(n·l): finite at grazing angles (any shape, cosines above 0)."""
    squared = alpha.square()
    towards_light = n_dot_l * (n_dot_v.square() * (1 - squared) + squared).sqrt()
    towards_view = n_dot_v * (n_dot_l.square() * (1 - squared) + squared).sqrt()
    return 0.5 / (towards_light + towards_view).clamp(min=1e-7)


def normal_reflectance(albedo: Tensor, metallic: Tensor) -> Tensor:
    """F0 [..., 3] of albedo [..., 3] and metallic [..., 1]."""
    return DIELECTRIC_F0 * (1 - metallic) + albedo * metallic


def brdf(
    normals: Tensor, to_eye: Tensor, to_light: Tensor, albedo: Tensor, roughness: Tensor, metallic: Tensor
) -> tuple[Tensor, Tensor]:
    """Diffuse and specular part, 1/sr, both [..., 3]; 0 where light or eye is behind the surface.

    normals, to_eye, to_light: [..., 3] unit; albedo [..., 3] linear; roughness, metallic [..., 1].
    """
    n_dot_v = (normals * to_eye).sum(-1, keepdim=True)
    n_dot_l = (normals * to_light).sum(-1, keepdim=True)
    lit = (n_dot_v > 0) & (n_dot_l > 0)
    n_dot_v, n_dot_l = n_dot_v.clamp(min=GRAZING), n_dot_l.clamp(min=GRAZING)
    half = torch.nn.functional.normalize(to_eye + to_light, dim=-1)
    n_dot_h, v_dot_h = (normals * half).sum(-1, keepdim=True), (to_eye * half).sum(-1, keepdim=True)
    alpha = roughness.clamp(min=SMOOTHEST).square()
    f0 = normal_reflectance(albedo, metallic)
    fresnel = f0 + (1 - f0) * (1 - v_dot_h.clamp(0, 1)) ** 5
    specular = fresnel * ggx(n_dot_h, alpha) * smith_visibility(n_dot_v, n_dot_l, alpha)
    diffuse = (albedo * (1 - metallic) / math.pi).expand_as(specular)
    nothing = torch.zeros_like(specular)
    return torch.where(lit, diffuse, nothing), torch.where(lit, specular, nothing)


def hammersley(count: int) -> Tensor:
    """Evenly spread points [count, 2] of the unit square, float64."""
    index = torch.arange(count, dtype=torch.int64)
    reversed_bits, digits = torch.zeros(count, dtype=torch.float64), index.clone()
    weight = 0.5
    for _ in range(max(1, count - 1).bit_length()):
        reversed_bits += weight * (digits & 1)
        digits >>= 1
        weight /= 2
    return torch.stack([(index + 0.5) / count, reversed_bits], dim=-1)


def visible_half_vectors(uniform: Tensor, n_dot_v: Tensor, alpha: Tensor) -> Tensor:
    """Microfacet normals [..., 3] that an eye at (sqrt(1 - (n·v)²), 0, n·v) sees, for points [..., 2] of a unit square.

    The density of half vectors is G1 (v·h) ggx / (n·v); reflected about them, a light direction has F G2 / G1 as its
    weight, which is never above 1. Heitz, "Sampling the GGX Distribution of Visible Normals", JCGT 2018.
    """
    x, z = alpha * (1 - n_dot_v.square()).clamp(min=0).sqrt(), n_dot_v
    length = (x.square() + z.square()).sqrt()
    x, z = x / length, z / length
    radius, turn = uniform[..., 0].sqrt(), 2 * math.pi * uniform[..., 1]
    side, up = radius * turn.cos(), radius * turn.sin()
    share = (1 + z) / 2
    up = (1 - share) * (1 - side.square()).clamp(min=0).sqrt() + share * up
    ahead = (1 - side.square() - up.square()).clamp(min=0).sqrt()
    half = torch.stack([alpha * (ahead * x - up * z), alpha * side, (ahead * z + up * x).clamp(min=1e-9)], dim=-1)
    return torch.nn.functional.normalize(half, dim=-1)


def smith_lambda(cosine: Tensor, alpha: Tensor) -> Tensor:
    """Smith's Lambda of GGX at cosines above 0: G1 = 1 / (1 + Lambda), G2 = 1 / (1 + Lambda(v) + Lambda(l))."""
    tangent2 = 1 / cosine.square() - 1
    return ((1 + alpha.square() * tangent2).sqrt() - 1) / 2


@lru_cache(maxsize=4)
def _table(side: int, samples: int) -> Tensor:
    """[side, side, 2] float64: scale and bias of F0; rows by roughness, columns by the root of n·v, 0..1 inclusive."""
    steps = torch.linspace(0, 1, side, dtype=torch.float64)
    n_dot_v = steps.square().clamp(min=GRAZING)[None, :, None].expand(side, -1, samples)
    alpha = steps.clamp(min=SMOOTHEST).square()[:, None, None].expand(-1, side, samples)
    half = visible_half_vectors(hammersley(samples).expand(side, side, -1, -1), n_dot_v, alpha)
    v_dot_h = half[..., 0] * (1 - n_dot_v.square()).sqrt() + half[..., 2] * n_dot_v
    n_dot_l = 2 * v_dot_h * half[..., 2] - n_dot_v
    towards_eye, towards_light = smith_lambda(n_dot_v, alpha), smith_lambda(n_dot_l.clamp(min=1e-9), alpha)
    weight = (1 + towards_eye) / (1 + towards_eye + towards_light)
    weight = torch.where((n_dot_l > 0) & (v_dot_h > 0), weight, torch.zeros_like(weight))
    schlick = (1 - v_dot_h.clamp(0, 1)) ** 5
    return torch.stack([((1 - schlick) * weight).mean(-1), (schlick * weight).mean(-1)], dim=-1)


@lru_cache(maxsize=8)
def split_sum_table(device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """[side, side, 2] on `device`: row roughness, column the root of n·v, 0..1 inclusive; specular is F0 scale + bias.

    The root, because it is at grazing angles that the curves are steep. Computed once a process by sampling.
    """
    return _table(TABLE_SIDE, TABLE_SAMPLES).to(device=device, dtype=dtype)


def split_sum(n_dot_v: Tensor, roughness: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and bias of F0 [...] at cosines and roughness [...] of one shape, bilinear in the table."""
    table = split_sum_table(n_dot_v.device, n_dot_v.dtype)
    last = table.shape[0] - 1
    column, row = n_dot_v.clamp(GRAZING, 1).sqrt() * last, roughness.clamp(0, 1) * last
    left, top = column.detach().floor().clamp(max=last - 1).long(), row.detach().floor().clamp(max=last - 1).long()
    across, down = (column - left)[..., None], (row - top)[..., None]
    flat, side = table.reshape(-1, 2), last + 1
    here = top * side + left
    upper = flat[here] * (1 - across) + flat[here + 1] * across
    lower = flat[here + side] * (1 - across) + flat[here + side + 1] * across
    found = upper * (1 - down) + lower * down
    return found[..., 0], found[..., 1]
