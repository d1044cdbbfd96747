"""Rays of one picture, as published: samples in the dilated body, taken back through the skinning network, and what the
field shows there (method page 4 to 6). Memory is bounded: places are worked on in parts, and again for gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from avatars.surface_body.body import Guide
from avatars.surface_body.field import Geometry
from avatars.surface_body.march import RayBatch
from avatars.surface_body.model import SurfaceModel
from avatars.surface_body.network_weights import nearest_weights, way_back
from avatars.surface_body.parity_density import RaySamples, ray_weights, seen_along_of
from avatars.surface_body.parity_sampling import Placed, placed
from avatars.surface_body.sampling import spans_of
from avatars.surface_body.trilinear import trilinear


@dataclass(frozen=True, eq=False)
class OnePose:
    """One frame. transforms: [J, 3, 4] posed from canonical, differentiable; guide: where the template is as recorded;
    vertices: [V, 3] m posed and their weights [V, J]; low, high: [3] m of the box rays are cut to."""

    transforms: Tensor
    guide: Guide
    vertices: Tensor
    weights: Tensor
    low: Tensor
    high: Tensor


@dataclass(frozen=True, eq=False)
class Followed:
    """R rays with N samples each. weights, distance_m, where_m: [R, N]; colour, gradient: [R, N, 3]; skin, start:
    [R * N, J] the network's weights and those of the nearest vertices; hit: [R] bool, the dilated body is met."""

    weights: Tensor
    distance_m: Tensor
    where_m: Tensor
    colour: Tensor
    gradient: Tensor
    skin: Tensor
    start: Tensor
    hit: Tensor

    def over(self, values: Tensor) -> Tensor:
        """Sums [R, C] of values [R, N, C] by weight."""
        return (values * self.weights[..., None]).sum(1)


def one_pose(model: SurfaceModel, transforms: Tensor, guide: Guide, skin: Tensor) -> OnePose:
    """A frame of transforms [J, 3, 4]; skin: [V, J], the weights of the body's vertices."""
    with torch.no_grad():
        canonical = torch.from_numpy(model.body.vertices).to(skin)
        blended = (skin @ transforms.flatten(1)).view(-1, 3, 4)
        vertices = (blended[..., :3] @ canonical[..., None])[..., 0] + blended[..., 3]
        margin = model.config.parity.sampling.box_m
        return OnePose(transforms, guide, vertices, skin, vertices.amin(0) - margin, vertices.amax(0) + margin)


def cut(rays: RayBatch, pose: OnePose, near_m: float = 0.0) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave the pose's box, [R] m each; one that misses it leaves no later than it enters."""
    safe = torch.where(rays.directions.abs() < 1e-9, torch.full_like(rays.directions, 1e-9), rays.directions)
    one, two = (pose.low - rays.origins) / safe, (pose.high - rays.origins) / safe
    return torch.minimum(one, two).amax(-1).clamp_min(near_m), torch.maximum(one, two).amin(-1)


def samples_of(
    model: SurfaceModel,
    pose: OnePose,
    rays: RayBatch,
    near_m: Tensor,
    far_m: Tensor,
    generator: torch.Generator | None,
) -> Placed:
    """Where to look along rays that are in the box from near_m to far_m, [R] each."""
    wanted = model.config.parity.sampling
    with torch.no_grad():
        share = torch.linspace(0, 1, wanted.probes + 1, device=near_m.device)
        t = torch.lerp(near_m[:, None], far_m[:, None], share)
        places = rays.origins[:, None] + t[..., None] * rays.directions[:, None]
        signed = trilinear(pose.guide.distance, pose.guide.lattice, places.view(-1, 3))[0].view(t.shape)
        spans = spans_of(t, signed, model.config.sampling.shell_m)
        return placed(spans, near_m, far_m, wanted.samples, generator)


def follow(
    model: SurfaceModel,
    pose: OnePose,
    rays: RayBatch,
    at: Placed,
    levels: float | None,
    annealed: float,
) -> Followed:
    """Look at the samples `at` of R rays; gradients reach field, skinning and pose where they are on."""
    wanted = model.config.parity.sampling
    shape = at.where_m.shape
    places = (rays.origins[:, None] + at.where_m[..., None] * rays.directions[:, None]).view(-1, 3)
    start = nearest_weights(places, pose.vertices, pose.weights, wanted.neighbours)

    def back(some: Tensor, begun: Tensor) -> tuple[Tensor, ...]:
        found = way_back(some, begun, model.weights.at, pose.transforms, wanted.iterations)
        return found.canonical, found.weights

    canonical, skin = in_parts(back, wanted.chunk, places, start)
    along = seen_along_of(canonical.view(*shape, 3))

    def look(some: Tensor, seen: Tensor) -> tuple[Tensor, ...]:
        geometry: Geometry = model.field.geometry(some, levels)
        colour = model.field.colour(some, geometry, seen, seen, levels)
        return geometry.distance_m, geometry.gradient, geometry.base_m, colour

    distance, gradient, base, colour = in_parts(look, wanted.chunk, canonical, along.view(-1, 3))
    distance, gradient = distance.view(shape), gradient.view(*shape, 3)
    samples = RaySamples(distance, gradient, along, at.width_m, base.detach().view(shape))
    weights = ray_weights(samples, model.field.sharpness(), annealed, wanted.shell_m)
    return Followed(weights, distance, at.where_m, colour.view(*shape, 3), gradient, skin, start, at.hit)


def in_parts(function: Callable[..., tuple[Tensor, ...]], most: int, *inputs: Tensor) -> tuple[Tensor, ...]:
    """What a function of rows gives of inputs [P, ...], `most` rows at a time. With gradients on, only its inputs and
    results are kept, and the rest is computed again when gradients are taken."""
    if len(inputs[0]) <= most:
        return function(*inputs)
    found = []
    for part in zip(*(value.split(most) for value in inputs), strict=True):
        if torch.is_grad_enabled():
            found.append(checkpoint(function, *part, use_reentrant=False, preserve_rng_state=False))
        else:
            found.append(function(*part))
    return tuple(torch.cat(pieces) for pieces in zip(*found, strict=True))
