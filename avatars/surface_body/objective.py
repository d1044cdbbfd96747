"""What the volumetric stage is trained on (method page 12.4), as one function of a step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatars.surface_body.march import Posed, RayBatch, Traced, trace
from avatars.surface_body.model import SurfaceModel
from avatars.surface_body.settings import SamplingSettings
from avatars.training.ranks import Part

ANNEAL_SHARE = 0.2
COUNTED = ("eikonal", "hull", "delta", "bumps")
HULL_PER_M = 10.0
"""The hull term counts tenths of a metre, as distances that the network makes are of that size."""


@dataclass(frozen=True)
class Course:
    """What a share of the stage decides that is no number of the device. levels: of the field that count; late: whether
    half of it is over; corrected: whether poses are corrected."""

    levels: float | None
    late: bool
    corrected: bool


@dataclass(frozen=True, eq=False)
class Chance:
    """Numbers drawn evenly from 0..1 for a step. pixels: [B, N] float64; coarse, fine: [B * N, samples of a ray];
    aside: [B * N, 3]."""

    pixels: Tensor
    coarse: Tensor
    fine: Tensor
    aside: Tensor

    @staticmethod
    def drawn(pictures: int, wanted: SamplingSettings, generator: torch.Generator) -> Chance:
        """For a step of so many pictures, on the generator's device."""
        each, device = max(1, wanted.rays // pictures), generator.device
        rays = pictures * each
        pixels = torch.rand(pictures, each, generator=generator, device=device, dtype=torch.float64)
        others = (torch.rand(rays, n, generator=generator, device=device) for n in (wanted.coarse, wanted.fine, 3))
        return Chance(pixels, *others)

    def of(self, part: Part | None) -> Chance:
        """Those of one process's pictures, where these are for a whole step."""
        if part is None:
            return self
        each = self.pixels.shape[1]
        rows = slice(part.first * each, part.last * each)
        return Chance(part.of(self.pixels), self.coarse[rows], self.fine[rows], self.aside[rows])


def annealed(share: float) -> float:
    """Which slopes of density count at a share of the stage: 0 from both sides, 1 only those against the ray."""
    return min(1.0, share / ANNEAL_SHARE)


def losses(
    model: SurfaceModel,
    poses: Posed,
    rays: RayBatch,
    target: Tensor,
    alpha: Tensor,
    background: Tensor,
    course: Course,
    anneal: Tensor,
    chance: Chance,
) -> tuple[dict[str, Tensor], Tensor]:
    """Weighted terms of a step, and over how many things (samples, rays) those in COUNTED are means, without gradient.

    rays: R of them; target: [R, 3] display-encoded pixels over background [R, 3]; alpha: [R] of the masks. anneal: as
    `annealed` says.
    """
    weights, levels, late = model.config.losses, course.levels, course.late
    model.field.begin()
    traced = trace(model, poses, rays, levels, anneal=anneal, jitter=(chance.coarse, chance.fine))
    colour = model.field.colour(traced.canonical, traced.geometry, traced.seen_along, traced.normals, levels)
    shown = traced.over(colour) + (1 - traced.opacity)[:, None] * background
    held = traced.opacity.clamp(1e-3, 1 - 1e-3)
    valid = traced.valid.reshape(-1).float()
    count = valid.sum().clamp_min(1)
    steep = traced.geometry.gradient.norm(dim=-1) - 1
    change = (traced.geometry.distance_m - traced.geometry.base_m) / model.config.fields.delta_max_m
    empty = (alpha < 1e-3).float()[:, None].expand(traced.weights.shape).reshape(-1) * valid
    deep = torch.relu(-traced.geometry.distance_m)
    met = traced.opacity.detach().clamp(0, 1).sum()
    terms = {
        "colour": weights.colour * (shown - target).abs().mean(),
        "mask": weights.mask * -(alpha * held.log() + (1 - alpha) * (1 - held).log()).mean(),
        "eikonal": (weights.eikonal_late if late else weights.eikonal) * (steep.square() * valid).sum() / count,
        "hull": weights.hull * (deep * empty).sum() / empty.sum().clamp_min(1) * HULL_PER_M,
        "delta": (weights.delta_late if late else weights.delta) * (change.square() * valid).sum() / count,
        "bumps": weights.bumps * bumps(model, traced, levels, chance.aside),
        "weights": weights.weights * model.weights.penalty(),
    }
    return terms, torch.stack((count, empty.sum().clamp_min(1), count, met.clamp_min(1))).detach()


def bumps(model: SurfaceModel, traced: Traced, levels: float | None, aside: Tensor) -> Tensor:
    """Mean change of the gradient over a short way along the surface, at each ray's heaviest sample, to a side that
    aside [R, 3] in 0..1 says."""
    row = torch.arange(len(traced.weights), device=traced.weights.device)
    best = traced.weights.detach().argmax(1) + row * traced.weights.shape[1]
    chosen = traced.geometry.gradient[best]
    across = normalize(torch.linalg.cross(chosen.detach(), 2 * aside - 1), dim=-1, eps=1e-6)
    along = across * model.config.losses.bumps_m
    moved = model.field.geometry(traced.canonical.detach()[best] + along, levels).gradient
    met = traced.opacity.detach().clamp(0, 1)
    total: Tensor = ((chosen - moved).norm(dim=-1) * met).sum() / met.sum().clamp_min(1)
    return total
