"""What a teacher is trained on: the terms and weights of the method page (C.4), as one function of a step."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatars.lighting.colour import srgb_from_linear
from avatars.relit_field.body import PosedBody
from avatars.relit_field.fields import Materials
from avatars.relit_field.light import Light
from avatars.relit_field.march import Person, Traced
from avatars.relit_field.posed_distance import posed_distance
from avatars.relit_field.rays import Rays, Samples, uniform
from avatars.relit_field.settings import TeacherConfig
from avatars.relit_field.shading import Shaded, shade

FAINT = 1e-3


def shown(linear: Tensor, opacity: Tensor, background: Tensor) -> Tensor:
    """Display-encoded pixels [R, 3]: sums of linear radiance [R, 3] under opacity [R], over a background [3] or [R, 3].

    Encoded where the person is, then blended, as pictures with soft masks hold it.
    """
    straight = linear / opacity[:, None].clamp_min(FAINT)
    return srgb_from_linear(straight.clamp(0, 1)) * opacity[:, None] + (1 - opacity[:, None]) * background


def losses(
    person: Person,
    light: Light,
    pose: PosedBody,
    rays: Rays,
    target: Tensor,
    alpha: Tensor,
    background: Tensor,
    config: TeacherConfig,
    step: float,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Weighted terms of one step.

    rays: R of them; target: [R, 3] display-encoded pixels over the background [3]; alpha: [R] of the mask.
    """
    weights, fields = config.losses, person.fields
    levels = fields.shape_grid.open_levels(step)
    traced = person.trace(pose, rays, levels, fine=step >= config.march.fine_from, generator=generator)
    radiance = fields.radiance(traced.canonical, traced.geometry.features, traced.normals, traced.seen_along(), levels)
    opacity = traced.opacity.clamp(0, 1)
    pixels = shown(traced.over(radiance), opacity, background)
    held = opacity.clamp(1e-3, 1 - 1e-3)
    terms = {
        "radiance": weights.radiance * (pixels - target).abs().mean(),
        "mask": weights.mask * -(alpha * held.log() + (1 - alpha) * (1 - held).log()).mean(),
        **_shape_terms(person, traced, levels, generator, step, config),
    }
    if weights.grid_decay > 0:
        terms["grid"] = 0.5 * weights.grid_decay * fields.colour_grid.table.square().sum()
    if step >= config.light.starts_at:
        terms |= _shaded(person, light, pose, traced, target, background, config, step, generator, levels)
    return terms


def _shape_terms(
    person: Person, traced: Traced, levels: int, generator: torch.Generator, step: float, config: TeacherConfig
) -> dict[str, Tensor]:
    """Eikonal and, while it counts, curvature, both weighted; all further places are asked about at once.

    Eikonal: mean of (|gradient| - 1)^2 over the samples, and over as many places anywhere as there are rays. Curvature:
    mean angle, over pi, between the normals of the heaviest samples (as many as rays) and of places a little along the
    surface (PermutoSDF, Rosu and Behnke 2023).
    """
    weights, fields = config.losses, person.fields
    anywhere = uniform((len(traced.rays), 3), generator, fields.centre.device) * 2 - 1
    places = [anywhere * fields.half_m + fields.centre]
    curved = weights.curvature * max(0.0, 1 - step / max(weights.curvature_until, 1))
    if curved > 0:
        chosen = traced.weights.detach().topk(min(config.march.rays, len(traced.weights))).indices
        normals = normalize(traced.geometry.gradient.index_select(0, chosen), dim=-1, eps=1e-6)
        about = normalize(uniform((len(chosen), 3), generator, normals.device) * 2 - 1, dim=-1)
        along = normalize(torch.linalg.cross(normals.detach(), about), dim=-1, eps=1e-6)
        places.append(traced.canonical.detach()[chosen] + along * (weights.curvature_step * fields.half_m))
    gradient = fields.geometry(torch.cat(places), levels).gradient
    both = torch.cat((traced.geometry.gradient, gradient[: len(anywhere)]))
    terms = {"eikonal": weights.eikonal * (both.norm(dim=-1) - 1).square().mean()}
    if curved > 0 and len(chosen):
        shifted = normalize(gradient[len(anywhere) :], dim=-1, eps=1e-6)
        terms["curvature"] = curved * angle(normals, shifted).mean() / math.pi
    return terms


def angle(first: Tensor, second: Tensor) -> Tensor:
    """Angle [N] rad between unit vectors [N, 3], with a finite slope where they are equal or opposite."""
    return torch.acos((first * second).sum(-1).clamp(-1 + 1e-6, 1 - 1e-6))


def _shaded(
    person: Person,
    light: Light,
    pose: PosedBody,
    traced: Traced,
    target: Tensor,
    background: Tensor,
    config: TeacherConfig,
    step: float,
    generator: torch.Generator,
    levels: int,
) -> dict[str, Tensor]:
    """Terms of physically based shading, of a random part of the rays that met something."""
    weights = config.losses
    hit = torch.nonzero(traced.opacity.detach() > 0.5)[:, 0]
    if not len(hit):
        return {}
    order = torch.argsort(uniform((len(hit),), generator, hit.device))
    chosen = hit[order[: config.light.rays]].sort().values
    part, rows = rays_of(traced, chosen)
    if not config.light.bends:
        geometry = part.geometry
        kept = replace(geometry, features=geometry.features.detach(), gradient=geometry.gradient.detach())
        part = replace(part, geometry=kept, normals=part.normals.detach())
    materials = person.fields.materials(part.canonical, part.geometry.features, levels)
    cell_m = config.light.training_cell_m
    lattice = posed_distance(person, pose, levels, cell_m) if cell_m > 0 else None
    found = shade(person, pose, part, materials, light, config.light, generator, levels, lattice)
    opacity = part.opacity.detach().clamp(0, 1)
    pixels = shown(found.radiance * opacity[:, None], opacity, background)
    error = (pixels - target[chosen]).abs()[found.met]
    terms = {"shaded": weights.shaded * (error.mean() if len(error) else error.sum())}
    if weights.smoothness > 0 and len(rows):
        terms["smoothness"] = weights.smoothness * _smoothness(
            person, part, materials, weights.jitter_m, levels, generator
        )
    if weights.prior + weights.metal_prior > 0 and len(rows):
        smooth, metal = (1 - materials.roughness).mean(), materials.metallic.mean()
        terms["prior"] = weights.prior * smooth + weights.metal_prior * metal
    if step >= weights.lipschitz_from:
        terms["lipschitz"] = weights.lipschitz * person.fields.material.bound()
    return terms


def _smoothness(
    person: Person, traced: Traced, materials: Materials, jitter_m: float, levels: int, generator: torch.Generator
) -> Tensor:
    """Relative squared difference of materials a little way off, summed over the three of them."""
    moved = traced.canonical + jitter_m * torch.randn(
        traced.canonical.shape, generator=generator, device=generator.device
    ).to(traced.canonical)
    _, features = person.fields.distance(moved, levels)
    other = person.fields.materials(moved, features, levels)
    return sum(  # type: ignore[return-value]
        relative_difference(first, second)
        for first, second in (
            (materials.albedo, other.albedo),
            (materials.roughness, other.roughness),
            (materials.metallic, other.metallic),
        )
    )


def relative_difference(first: Tensor, second: Tensor) -> Tensor:
    """Mean of ((a - b) / larger)^2, the divisor not differentiated."""
    larger = torch.maximum(first, second).detach().clamp_min(1e-6)
    return ((first - second) / larger).square().mean()


def rays_of(traced: Traced, chosen: Tensor) -> tuple[Traced, Tensor]:
    """A part of traced rays, renumbered from 0, and which samples [M'] those are. chosen: [R'] int64, rising."""
    number = torch.full((len(traced.rays),), -1, dtype=torch.int64, device=chosen.device)
    number[chosen] = torch.arange(len(chosen), device=chosen.device)
    rows = torch.nonzero(number[traced.samples.ray] >= 0)[:, 0]
    kept = traced.samples.kept(rows)
    held = (traced.geometry.distance_m[:, None], traced.geometry.features, traced.geometry.gradient, traced.normals)
    parts = (*held, traced.weights[:, None])
    some = torch.cat(parts, -1).index_select(0, rows).split([part.shape[1] for part in parts], -1)
    geometry = type(traced.geometry)(some[0][:, 0], some[1], some[2])
    part = Traced(
        traced.rays.some(chosen),
        Samples(number[kept.ray], kept.t_m, kept.width_m),
        traced.canonical.detach()[rows],
        geometry,
        some[3],
        some[4][:, 0],
        traced.opacity[chosen],
    )
    return part, rows


def met_radiance(shaded: Shaded) -> Tensor:
    """Linear radiance [R, 3], 0 where a ray met nothing."""
    return torch.where(shaded.met[:, None], shaded.radiance, torch.zeros_like(shaded.radiance))
