"""Rays through a posed person: samples where it may be, moved to canonical space, and what the fields say there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatars.relit_field.body import CanonicalBody, PosedBody
from avatars.relit_field.compositing import finer_samples, ray_weights, summed
from avatars.relit_field.fields import Fields, Geometry, laplace_density
from avatars.relit_field.occupancy import Occupancy
from avatars.relit_field.rays import Rays, Samples, even_samples, merged, uniform
from avatars.relit_field.settings import MarchSettings


@dataclass(frozen=True, eq=False)
class Traced:
    """What rays met. canonical: [M, 3] m; normals: [M, 3] unit in world axes; weights: [M]; opacity: [R] in 0..1."""

    rays: Rays
    samples: Samples
    canonical: Tensor
    geometry: Geometry
    normals: Tensor
    weights: Tensor
    opacity: Tensor

    def over(self, values: Tensor) -> Tensor:
        """Sums [R, C] of values [M, C], not divided by opacity."""
        return summed(values, self.weights, self.samples.ray, len(self.rays))

    def seen_along(self) -> Tensor:
        """[M, 3] the direction each sample is looked at along."""
        return self.rays.directions[self.samples.ray]


@dataclass(frozen=True, eq=False)
class Person:
    """Everything marching needs: the fields on their body, and where there is anything."""

    body: CanonicalBody
    fields: Fields
    occupancy: Occupancy
    march: MarchSettings

    def step_m(self) -> float:
        """Length of a marching step: the canonical box's diagonal over the steps of a ray (the same in every pose)."""
        return self.body.diagonal_m / self.march.coarse_steps

    def placed(self, pose: PosedBody, rays: Rays, samples: Samples, levels: int | None) -> tuple[Samples, Tensor]:
        """The samples that may hold something, and their canonical places [M, 3]. Without gradients."""
        with torch.no_grad():
            near = pose.guide.near(rays.at(samples.ray, samples.t_m), self.body.settings.near_template_m)
            samples = samples.kept(near)
            canonical, ok = self.body.canonical(pose, rays.at(samples.ray, samples.t_m), self.fields, levels)
            ok = ok & self.occupancy.filled(self.fields, canonical)
            return samples.kept(ok), canonical[ok]

    def trace(
        self, pose: PosedBody, rays: Rays, levels: int | None, *, fine: bool, generator: torch.Generator | None
    ) -> Traced:
        """March rays through one pose; gradients reach the fields where they are on. generator: None for no jitter."""
        step_m, count = self.step_m(), len(rays)
        samples, canonical = self.placed(pose, rays, even_samples(rays, step_m, generator), levels)
        for _ in range(self.march.fine_rounds if fine else 0):
            with torch.no_grad():
                distance, _ = self.fields.distance(canonical, levels)
                optical = laplace_density(distance, self.fields.beta_m()) * samples.width_m
                weights = ray_weights(optical, samples.ray, count)
            more = finer_samples(samples, weights, count, *self._places(count, generator, weights.device))
            more, places = self.placed(pose, rays, more, levels)
            samples, order = merged(samples, more, step_m)
            canonical = torch.cat((canonical, places))[order]
        geometry = self.fields.geometry(canonical, levels)
        if pose.learned is not None:
            follows = self.body.following(pose, canonical)
            moved = (geometry.gradient.detach() * (follows - canonical)).sum(-1)
            geometry, canonical = replace(geometry, distance_m=geometry.distance_m + moved), follows
        optical = laplace_density(geometry.distance_m, self.fields.beta_m()) * samples.width_m
        weights = ray_weights(optical, samples.ray, count)
        normals = normalize(self.body.turned(pose, canonical.detach(), geometry.gradient), dim=-1, eps=1e-6)
        opacity = weights.new_zeros(count).index_add(0, samples.ray, weights)
        return Traced(rays, samples, canonical, geometry, normals, weights, opacity)

    def _places(self, rays: int, generator: torch.Generator | None, device: torch.device) -> tuple[Tensor, Tensor]:
        """Stratified numbers to draw finer samples with, and where in their interval each lies, both [R, N]."""
        count = self.march.fine_steps
        stratum = torch.arange(count, device=device).expand(rays, -1)
        if generator is None:
            return (stratum + 0.5) / count, ((stratum * 0.6180339887) % 1)
        shape = (rays, count)
        return (stratum + uniform(shape, generator, device)) / count, uniform(shape, generator, device)
