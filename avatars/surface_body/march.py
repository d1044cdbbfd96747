"""Rays through posed people: samples within the dilated template, taken back to canonical space, and what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatars.rendering.cameras import CameraBatch
from avatars.surface_body.body import Guide
from avatars.surface_body.deformation import Blends, blends_of, first_guesses, unposed
from avatars.surface_body.field import Geometry
from avatars.surface_body.model import SurfaceModel
from avatars.surface_body.sampling import Spans, drawn_edges, even_edges, spans_of, within
from avatars.surface_body.trilinear import Lattice, trilinear

GHOST_M = 0.04
"""Places that come from so much deeper than the posed template is away are false roots: nothing is there."""


@dataclass(frozen=True, eq=False)
class RayBatch:
    """R rays. origins, directions: [R, 3] (unit), world; pose: [R] int64, which of the poses each looks at."""

    origins: Tensor
    directions: Tensor
    pose: Tensor

    def some(self, which: Tensor | slice) -> RayBatch:
        """Those rays alone."""
        return RayBatch(self.origins[which], self.directions[which], self.pose[which])


@dataclass(frozen=True, eq=False)
class Posed:
    """B poses, ready to be looked at. blends: canonical to posed everywhere, differentiable; back: [B * G, 3, 4]
    canonical from posed at the guide's vertices; distance: [B * S^3, 1] m and starts: [B * S^3, K] rows of `back`, at
    the guides' nodes; low, high: [B, 3] m of their boxes; side: S."""

    blends: Blends
    back: Tensor
    distance: Tensor
    starts: Tensor
    low: Tensor
    high: Tensor
    side: int

    @property
    def nodes(self) -> Lattice:
        """The guides' nodes, numbered: 0 to S - 1 along each axis."""
        one = torch.ones(3, device=self.low.device)
        return Lattice(one * 0, one, (self.side, self.side, self.side))

    def in_guide(self, places: Tensor, pose: Tensor) -> Tensor:
        """Places [P, 3] m of poses [P] in numbers of their guide's nodes."""
        return (places - self.low[pose]) / (self.high - self.low)[pose] * self.side - 0.5

    def near(self, places: Tensor, pose: Tensor) -> Tensor:
        """Signed distance [P] m from the posed template, as its guide knows it."""
        offset = pose * self.side**3
        return trilinear(self.distance, self.nodes, self.in_guide(places, pose), offset=offset)[0][:, 0]

    def guesses(self, places: Tensor, pose: Tensor) -> Tensor:
        """Where places [P, 3] may come from, canonical [P, K, 3] m."""
        node = self.in_guide(places, pose).round().long().clamp(0, self.side - 1)
        row = (node[:, 2] * self.side + node[:, 1]) * self.side + node[:, 0] + pose * self.side**3
        return first_guesses(places, self.back, self.starts[row])


GuideParts = tuple[Tensor, Tensor, Tensor, Tensor]
"""Of B guides: distance [B * S^3, 1] m, starts [B * S^3, K] rows of all guides' vertices, low and high [B, 3] m."""


def together(model: SurfaceModel, guides: Sequence[Guide]) -> GuideParts:
    """The guides of B poses as tensors."""
    count = len(model.body.guide_weights)
    return (
        torch.cat([guide.distance for guide in guides]),
        torch.cat([guide.starts + number * count for number, guide in enumerate(guides)]),
        torch.stack([guide.low for guide in guides]),
        torch.stack([guide.high for guide in guides]),
    )


def posed(model: SurfaceModel, transforms: Tensor, guides: Sequence[Guide], rows: Tensor, lattice: Lattice) -> Posed:
    """B poses of transforms [B, J, 3, 4] with the guide of each; rows: the skinning [N, J] on its lattice."""
    return guided(model, transforms, together(model, guides), rows, lattice)


def guided(model: SurfaceModel, transforms: Tensor, parts: GuideParts, rows: Tensor, lattice: Lattice) -> Posed:
    """As `posed`, with guides as `together` gives them."""
    back = model.body.back_at_guide(transforms.detach())
    return Posed(blends_of(rows, lattice, transforms), back.flatten(0, 1), *parts, model.config.deformation.guide)


def rays_through(cameras: CameraBatch, pixels: Tensor) -> RayBatch:
    """Rays through image places [B, N, 2] px (x, y; pixel centres at +0.5), those of camera b look at pose b."""
    flat = (pixels - cameras.K[:, None, :2, 2]) / torch.stack((cameras.K[:, 0, 0], cameras.K[:, 1, 1]), -1)[:, None]
    back = cameras.camera_from_world[:, :3, :3]  # rows are the camera's axes in the world
    if cameras.orthographic:
        shift = cameras.camera_from_world[:, None, :3, 3]
        places = torch.cat((flat, torch.zeros_like(flat[..., :1])), -1) - shift
        origins = torch.einsum("bnc,bcw->bnw", places, back)
        directions = back[:, None, 2].expand_as(origins)
    else:
        seen = torch.cat((flat, torch.ones_like(flat[..., :1])), -1)
        directions = normalize(torch.einsum("bnc,bcw->bnw", seen, back), dim=-1)
        origins = cameras.positions()[:, None].expand_as(directions)
    pose = torch.arange(len(pixels), device=pixels.device)[:, None].expand(pixels.shape[:2])
    return RayBatch(origins.reshape(-1, 3), directions.reshape(-1, 3), pose.reshape(-1))


@dataclass(frozen=True, eq=False)
class Traced:
    """What R rays with N samples each met. t_m, weights: [R, N];
    opacity: [R]; canonical: [R * N, 3] m; geometry: of those; normals, seen_along: [R * N, 3] unit, posed and
    canonical; valid: [R, N] within the shell in canonical space as well."""

    t_m: Tensor
    weights: Tensor
    opacity: Tensor
    canonical: Tensor
    geometry: Geometry
    normals: Tensor
    seen_along: Tensor
    valid: Tensor

    def over(self, values: Tensor) -> Tensor:
        """Sums [R, C] of values [R * N, C] by weight."""
        return (values.view(*self.weights.shape, -1) * self.weights[..., None]).sum(1)


def spans(rays: RayBatch, poses: Posed, probes: int, shell_m: float, near_m: float = 0.0) -> Spans:
    """Where rays are within the dilated posed template, looked for at `probes` places of their way through its box."""
    with torch.no_grad():
        low, high = poses.low[rays.pose], poses.high[rays.pose]
        safe = torch.where(rays.directions.abs() < 1e-9, torch.full_like(rays.directions, 1e-9), rays.directions)
        one, two = (low - rays.origins) / safe, (high - rays.origins) / safe
        begun = torch.minimum(one, two).amax(-1).clamp_min(near_m)
        ended = torch.maximum(torch.maximum(one, two).amin(-1), begun)
        t = torch.lerp(begun[:, None], ended[:, None], torch.linspace(0, 1, probes + 1, device=begun.device))
        places = rays.origins[:, None] + t[..., None] * rays.directions[:, None]
        pose = rays.pose[:, None].expand(t.shape)
        return spans_of(t, poses.near(places.view(-1, 3), pose.reshape(-1)).view(t.shape), shell_m)


def trace(
    model: SurfaceModel,
    poses: Posed,
    rays: RayBatch,
    levels: float | None,
    *,
    anneal: float | Tensor = 1.0,
    jitter: tuple[Tensor, Tensor] | None = None,
    found: Spans | None = None,
) -> Traced:
    """Follow rays; gradients reach field, skinning and poses where they are on. anneal: 0 counts slopes of density from
    both sides, 1 only those against the ray (NeuS). jitter: where in its part each coarse [R, N] and each
    fine [R, M] sample lies, 0..1; None for the middle. found: the rays' spans, if known."""
    wanted, steps = model.config.sampling, model.config.deformation.iterations
    found = found if found is not None else spans(rays, poses, wanted.probes, wanted.shell_m)
    length = found.length_m
    with torch.no_grad():
        edges = even_edges(length, wanted.coarse)
        t, pose, places = _placed(rays, found, within(edges, None if jitter is None else jitter[0]))
        where = unposed(places, pose, poses.guesses(places, pose), poses.blends, model.body.base, steps)
        distance = model.field.distance(where.canonical, levels)
        thick = model.field.sharpness() * torch.sigmoid(-model.field.sharpness() * distance)
        base = model.field.base(where.canonical)
        thick = thick * (base <= wanted.shell_m) * (base >= poses.near(places, pose) - GHOST_M)
        rough = composited(thick.view(t.shape) * edges.diff(dim=1))
        edges = drawn_edges(edges, rough, wanted.spread, wanted.fine)
        t, pose, places = _placed(rays, found, within(edges, None if jitter is None else jitter[1]))
    where = unposed(places, pose, poses.guesses(places, pose), poses.blends, model.body.base, steps)
    geometry = model.field.geometry(where.canonical, levels)
    along = (where.back.detach() * rays.directions[:, None].expand(*t.shape, 3).reshape(-1, 1, 3)).sum(-1)
    slope = (along * geometry.gradient).sum(-1)
    against = torch.relu(-slope) * anneal + torch.relu(0.5 - 0.5 * slope) * (1 - anneal)
    sharp = model.field.sharpness()
    valid = (geometry.base_m <= wanted.shell_m) & (geometry.base_m >= poses.near(places, pose) - GHOST_M)
    valid = valid & (length > 0)[:, None].expand(t.shape).reshape(-1)
    density = sharp * torch.sigmoid(-sharp * geometry.distance_m) * against * valid
    weights = composited(density.view(t.shape) * edges.diff(dim=1))
    turned = (where.back.detach().transpose(1, 2) * geometry.gradient[:, None]).sum(-1)
    return Traced(
        t,
        weights,
        weights.sum(1),
        where.canonical,
        geometry,
        normalize(turned, dim=-1, eps=1e-6),
        normalize(along, dim=-1, eps=1e-6),
        valid.view(t.shape),
    )


def _placed(rays: RayBatch, found: Spans, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distances [R, N] of inside lengths u, and flat poses [R * N] and places [R * N, 3]."""
    t = found.at(u)
    places = rays.origins[:, None] + t[..., None] * rays.directions[:, None]
    return t, rays.pose[:, None].expand(t.shape).reshape(-1), places.view(-1, 3)


def composited(optical: Tensor) -> Tensor:
    """Weights [R, N] of samples with optical depths [R, N]: each's opacity times what those before it let through."""
    before = optical.cumsum(1) - optical
    return torch.exp(-before) * -torch.expm1(-optical)
