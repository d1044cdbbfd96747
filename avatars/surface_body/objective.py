"""What the volumetric stage is trained on (method page 12.4), as one function of a step."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatars.surface_body.march import Posed, RayBatch, Traced, trace
from avatars.surface_body.model import SurfaceModel

ANNEAL_SHARE = 0.2
HULL_PER_M = 10.0
"""The hull term counts tenths of a metre, as distances that the network makes are of that size."""


def losses(
    model: SurfaceModel,
    poses: Posed,
    rays: RayBatch,
    target: Tensor,
    alpha: Tensor,
    background: Tensor,
    share: float,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Weighted terms of a step at a share 0..1 of the stage.

    rays: R of them; target: [R, 3] display-encoded pixels over background [R, 3]; alpha: [R] of the masks.
    """
    weights = model.config.losses
    levels = model.field.open_levels(share)
    model.field.begin()
    traced = trace(model, poses, rays, levels, anneal=min(1.0, share / ANNEAL_SHARE), generator=generator)
    colour = model.field.colour(traced.canonical, traced.geometry, traced.seen_along, traced.normals, levels)
    shown = traced.over(colour) + (1 - traced.opacity)[:, None] * background
    held = traced.opacity.clamp(1e-3, 1 - 1e-3)
    late = share >= 0.5
    valid = traced.valid.reshape(-1).float()
    count = valid.sum().clamp_min(1)
    steep = traced.geometry.gradient.norm(dim=-1) - 1
    change = (traced.geometry.distance_m - traced.geometry.base_m) / model.config.fields.delta_max_m
    empty = (alpha < 1e-3).float()[:, None].expand(traced.weights.shape).reshape(-1) * valid
    deep = torch.relu(-traced.geometry.distance_m)
    return {
        "colour": weights.colour * (shown - target).abs().mean(),
        "mask": weights.mask * -(alpha * held.log() + (1 - alpha) * (1 - held).log()).mean(),
        "eikonal": (weights.eikonal_late if late else weights.eikonal) * (steep.square() * valid).sum() / count,
        "hull": weights.hull * (deep * empty).sum() / empty.sum().clamp_min(1) * HULL_PER_M,
        "delta": (weights.delta_late if late else weights.delta) * (change.square() * valid).sum() / count,
        "bumps": weights.bumps * bumps(model, traced, levels, generator),
        "weights": weights.weights * model.weights.penalty(),
    }


def bumps(model: SurfaceModel, traced: Traced, levels: float | None, generator: torch.Generator) -> Tensor:
    """Mean change of the gradient over a short way along the surface, at each ray's heaviest sample."""
    row = torch.arange(len(traced.weights), device=traced.weights.device)
    best = traced.weights.detach().argmax(1) + row * traced.weights.shape[1]
    chosen = traced.geometry.gradient[best]
    about = torch.rand(chosen.shape, generator=generator, device=generator.device).to(chosen) * 2 - 1
    along = normalize(torch.linalg.cross(chosen.detach(), about), dim=-1, eps=1e-6) * model.config.losses.bumps_m
    moved = model.field.geometry(traced.canonical.detach()[best] + along, levels).gradient
    met = traced.opacity.detach().clamp(0, 1)
    total: Tensor = ((chosen - moved).norm(dim=-1) * met).sum() / met.sum().clamp_min(1)
    return total
