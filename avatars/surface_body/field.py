"""The canonical fields: the template's signed distance with a bounded change, and colours (method page 12.1)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize, softplus

from avatars.relit_field.hash_grid import HashGrid
from avatars.relit_field.networks import ColourNetwork, layer
from avatars.surface_body.base_distance import DistanceGrid
from avatars.surface_body.body import StarBody
from avatars.surface_body.plane_settings import PlaneSettings
from avatars.surface_body.settings import SurfaceFieldSettings
from avatars.surface_body.tri_planes import TriPlanes

SOFTNESS = 100.0
SHARPNESS_STEP = 10.0
"""inv_s = exp(10 v), as in NeuS: v learns at the networks' rate."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """At P canonical places: distance_m [P], features [P, n], the distance's gradient [P, 3], base_m [P] the template's
    own distance."""

    distance_m: Tensor
    features: Tensor
    gradient: Tensor
    base_m: Tensor


class SurfaceField(Protocol):
    """What rendering asks of a field. levels: how many levels of detail count, a fraction in part,
    None for all."""

    def begin(self) -> None:
        """Called once before each step, picture or mesh: what places share is made ready."""

    def open_levels(self, share: float) -> float | None:
        """How many count at a share of the volumetric stage."""

    def geometry(self, places: Tensor, levels: float | None = None) -> Geometry:
        """All at canonical places [P, 3] m, differentiable in what is learned. Where places are differentiated,
        distance and features are; the gradient is as if they were constants."""

    def distance(self, places: Tensor, levels: float | None = None) -> Tensor:
        """Signed distance [P] m, without gradients."""

    def base(self, places: Tensor) -> Tensor:
        """The template's signed distance [P] m."""

    def colour(
        self, places: Tensor, geometry: Geometry, seen_along: Tensor, normals: Tensor, levels: float | None = None
    ) -> Tensor:
        """Display-encoded colours [P, 3] in 0..1. seen_along: [P, 3] unit, canonical; normals: [P, 3] unit, posed."""

    def sharpness(self) -> Tensor:
        """1 / m: how fast density rises at the surface."""


class SlopedNetwork(nn.Module):
    """[P, inputs] -> [P, outputs] by softplus layers; the first output begins as 0, and its slope is at hand."""

    def __init__(self, inputs: int, width: int, layers: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        sizes = [inputs, *[width] * layers, outputs]
        made = [layer(before, after, generator) for before, after in pairwise(sizes)]
        self.w = nn.ParameterList([weight for weight, _ in made])
        self.b = nn.ParameterList([bias for _, bias in made])
        with torch.no_grad():
            self.w[-1][0] = 0
            self.b[-1][0] = 0

    def forward(self, inputs: Tensor) -> Tensor:
        """[P, outputs] of [P, inputs]."""
        found = inputs
        for number, (w, b) in enumerate(zip(self.w, self.b, strict=True)):
            found = linear(found, w, b)
            found = softplus(found, beta=SOFTNESS) if number < len(self.w) - 1 else found
        return found

    def with_slope(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """[P, outputs], and the first output's slope in the inputs [P, inputs], by the chain rule."""
        found, bent = inputs, []
        for number, (w, b) in enumerate(zip(self.w, self.b, strict=True)):
            found = linear(found, w, b)
            if number < len(self.w) - 1:
                bent.append(torch.sigmoid(SOFTNESS * found))
                found = softplus(found, beta=SOFTNESS)
        slope = self.w[-1][:1].expand(len(inputs), -1)
        for w, share in zip(reversed(list(self.w)[:-1]), reversed(bent), strict=True):
            slope = (slope * share) @ w
        return found, slope


class HashField(nn.Module):
    """The default `SurfaceField`: hash grids over the canonical box (a cube of its longest side) and small networks."""

    def __init__(
        self, settings: SurfaceFieldSettings, planes: PlaneSettings, body: StarBody, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.settings, self.groups = settings, planes.groups
        self.base_grid: DistanceGrid = body.base
        self.register_buffer("centre", (body.low + body.high).cpu() / 2, persistent=False)
        self.half_m = float((body.high - body.low).max()) / 2
        self.shape_grid, self.colour_grid = (encoder(settings, planes, generator) for _ in range(2))
        encoded = self.shape_grid.width
        self.shape = SlopedNetwork(3 + encoded, settings.width, settings.layers, 1 + settings.features, generator)
        seen = 3 + encoded + settings.features + 9
        self.painted = ColourNetwork(seen, settings.width, settings.colour_layers, generator)
        start = torch.tensor(settings.sharpness).log() / SHARPNESS_STEP
        self.v = nn.Parameter(start)

    centre: Tensor

    def begin(self) -> None:
        """Of planes, attention over them; of grids, nothing."""
        for grid in (self.shape_grid, self.colour_grid):
            if isinstance(grid, TriPlanes):
                grid.begin()

    def open_levels(self, share: float) -> float:
        """From start_levels on one after the other, all at levels_until; of planes by degrees, and from the first."""
        s = self.settings
        reached = share / s.levels_until if s.levels_until > 0 else 1.0
        if s.encoder == "planes":
            return 1 + (self.groups - 1) * min(reached, 1.0)
        return min(s.grid.levels, s.start_levels + int(max(0, s.grid.levels - s.start_levels) * reached))

    def _unit(self, places: Tensor) -> Tensor:
        return (places - self.centre) / self.half_m

    def geometry(self, places: Tensor, levels: float | None = None) -> Geometry:
        """See `SurfaceField.geometry`."""
        flat = places.detach()
        base, base_slope = self.base_grid.with_gradient(flat)
        unit = self._unit(places)
        encoded, steep = self.shape_grid.encode((unit + 1) / 2, levels, slopes=True)
        # Values follow the places through the analytic gradient below, features through the grid and the network.
        found, slope = self.shape.with_slope(torch.cat((unit, encoded), -1))
        bent = torch.tanh(found[:, 0])
        change = slope[:, :3] + 0.5 * (steep * slope[:, None, 3:]).sum(-1)  # half: the grid's cube is 0..1
        rate = self.settings.delta_max_m * (1 - bent * bent)
        gradient = base_slope + rate[:, None] * change / self.half_m
        distance = base + self.settings.delta_max_m * bent
        if places.requires_grad:
            distance = distance + (base_slope * (places - flat)).sum(-1)
        return Geometry(distance, found[:, 1:], gradient, base)

    def distance(self, places: Tensor, levels: float | None = None) -> Tensor:
        """See `SurfaceField.distance`."""
        with torch.no_grad():
            unit = self._unit(places)
            encoded, _ = self.shape_grid.encode((unit + 1) / 2, levels)
            found = self.shape(torch.cat((unit, encoded), -1))[:, 0]
            return self.base_grid.at(places) + self.settings.delta_max_m * torch.tanh(found)

    def base(self, places: Tensor) -> Tensor:
        """See `SurfaceField.base`."""
        return self.base_grid.at(places)

    def colour(
        self, places: Tensor, geometry: Geometry, seen_along: Tensor, normals: Tensor, levels: float | None = None
    ) -> Tensor:
        """See `SurfaceField.colour`."""
        unit = self._unit(places)
        encoded, _ = self.colour_grid.encode((unit + 1) / 2, levels, slopes=unit.requires_grad)
        known = (unit, encoded, geometry.features, normalize(geometry.gradient, dim=-1, eps=1e-6), normals, seen_along)
        return self.painted(torch.cat(known, -1))  # type: ignore[no-any-return]

    def sharpness(self) -> Tensor:
        """See `SurfaceField.sharpness`."""
        return torch.exp(SHARPNESS_STEP * self.v).clamp(1.0, 1e6)


def encoder(settings: SurfaceFieldSettings, planes: PlaneSettings, generator: torch.Generator) -> HashGrid | TriPlanes:
    """What describes places to the networks."""
    return TriPlanes(planes, generator) if settings.encoder == "planes" else HashGrid(settings.grid, generator)
