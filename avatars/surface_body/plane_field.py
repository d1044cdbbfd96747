"""The published canonical field: the template's distance with a bounded change from tri-planes, and IDR colours.

Method page 3.1, 3.2 and 3.5. Gradients of the distance are analytic, in plain torch, so that a loss of them reaches the
planes, the networks and the places exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avatars.relit_field.networks import DistanceNetwork
from avatars.surface_body.base_distance import DistanceGrid
from avatars.surface_body.body import StarBody
from avatars.surface_body.field import Geometry
from avatars.surface_body.parity_networks import OCTAVES, ColourIdr, encoded
from avatars.surface_body.parity_settings import ParityNetworks
from avatars.surface_body.plane_settings import PlaneSettings
from avatars.surface_body.smooth_lookup import trilinear_smooth
from avatars.surface_body.tri_planes import TriPlanes

START_RADIUS = 0.5
SHARPNESS_STEP = 10.0


class PlaneField(nn.Module):
    """A `SurfaceField` as published. levels: how many octaves of the encodings count, a fraction in part.

    `begin` before each step or picture: attention over the planes is done there, once.
    """

    centre: Tensor

    def __init__(
        self,
        settings: ParityNetworks,
        planes: PlaneSettings,
        delta_max_m: float,
        body: StarBody,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.settings, self.delta_max_m = settings, delta_max_m
        self.base_grid: DistanceGrid = body.base
        self.register_buffer("centre", (body.low + body.high).cpu() / 2, persistent=False)
        self.half_m = max(planes.half_m, float((body.high - body.low).max()) / 2)
        self.planes = TriPlanes(planes, generator)
        inputs = 6 * OCTAVES + self.planes.width
        self.shape = DistanceNetwork(
            inputs, settings.width, settings.layers, 1 + settings.features, START_RADIUS, generator
        )
        with torch.no_grad():  # the first surface is the template; published is one bloated by up to 13 mm
            self.shape.g[-1][0], self.shape.b[-1][0] = 0.0, 0.0
        self.painted = ColourIdr(settings.features, settings.width, settings.colour_layers, generator)
        self.v = nn.Parameter(torch.tensor(settings.sharpness))

    def begin(self) -> None:
        """Mix the planes as they are now."""
        self.planes.begin()

    def open_levels(self, share: float) -> float:
        """Octaves open at a share of the stage."""
        first, last = self.settings.opens
        return OCTAVES * min(max((share - first) / max(last - first, 1e-9), 0.0), 1.0)

    def geometry(self, places: Tensor, levels: float | None = None) -> Geometry:
        """All at canonical places [P, 3] m; all of it, the gradient too, is differentiable in places and parameters."""
        base, base_slope = trilinear_smooth(self.base_grid.values, self.base_grid.lattice, places)
        found, slope, steep, waves_steep = self._decoded(places, levels)
        bent = torch.tanh(found / 2)
        waves = 3 + 6 * OCTAVES
        change = slope[:, :3] + (waves_steep * slope[:, None, 3:waves]).sum(-1)
        change = change + (steep * slope[:, None, waves:]).sum(-1) / (2 * self.half_m)  # the planes' cube is 0..1
        rate = 0.5 * self.delta_max_m * (1 - bent[:, :1].square())
        distance = base + self.delta_max_m * bent[:, 0]
        return Geometry(distance, self.delta_max_m * bent[:, 1:], base_slope + rate * change, base)

    def _decoded(self, places: Tensor, levels: float | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        about = places - self.centre
        features, steep = self.planes.encode(self._unit(about), slopes=True)
        waves, waves_steep = encoded(about, levels)
        found, slope = self.shape.with_slope(torch.cat((about, waves, features), -1))
        return found, slope, steep, waves_steep

    def _unit(self, about: Tensor) -> Tensor:
        return (about / self.half_m + 1) / 2

    def distance(self, places: Tensor, levels: float | None = None) -> Tensor:
        """Signed distance [P] m, without gradients."""
        with torch.no_grad():
            about = places - self.centre
            features, _ = self.planes.encode(self._unit(about))
            found = self.shape(torch.cat((about, encoded(about, levels)[0], features), -1))[:, 0]
            return self.base_grid.at(places) + self.delta_max_m * torch.tanh(found / 2)

    def base(self, places: Tensor) -> Tensor:
        """The template's signed distance [P] m."""
        return self.base_grid.at(places)

    def colour(
        self, places: Tensor, geometry: Geometry, seen_along: Tensor, normals: Tensor, levels: float | None = None
    ) -> Tensor:
        """Display-encoded colours [P, 3] in 0..1; seen_along: [P, 3] unit, canonical. Posed normals are not used."""
        seen: Tensor = self.painted(places - self.centre, seen_along, geometry.gradient, geometry.features, levels)
        return seen

    def sharpness(self) -> Tensor:
        """1 / m: how fast density rises at the surface."""
        return torch.exp(SHARPNESS_STEP * self.v).clamp(1e-6, 1e6)
