"""The canonical fields: distance with its gradient, density, radiance and materials (method page C.1).

Places are canonical, in m; inside, the box becomes the cube -1..1 (one length for all axes, so distances stay round).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from avatars.relit_field.hash_grid import HashGrid
from avatars.relit_field.networks import ColourNetwork, DistanceNetwork, LipschitzNetwork, sphere_harmonics_16
from avatars.relit_field.settings import FieldSettings

ALBEDO, ROUGHNESS = (0.77, 0.03), (0.9, 0.09)
"""Scale and offset of the sigmoid: albedo in 0.03..0.8, roughness in 0.09..0.99; metallic in 0..1."""
METAL_START = -2.5
"""Of metallic before the sigmoid: a person is no metal until the light says so."""
SMALLEST_BETA_M = 1e-4


@dataclass(frozen=True, eq=False)
class Geometry:
    """distance_m [P], features [P, n] and the distance's gradient [P, 3] (near 1 long) at P canonical places."""

    distance_m: Tensor
    features: Tensor
    gradient: Tensor


@dataclass(frozen=True, eq=False)
class Materials:
    """albedo [P, 3] linear, roughness and metallic [P, 1]."""

    albedo: Tensor
    roughness: Tensor
    metallic: Tensor


class Fields(nn.Module):
    """All that is learned of a person. centre: [3] m of the box, half_m: half its longest side."""

    centre: Tensor

    def __init__(self, settings: FieldSettings, centre: Tensor, half_m: float, generator: torch.Generator) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("centre", centre.float(), persistent=False)
        self.half_m = float(half_m)
        self.shape_grid = HashGrid(settings.grid, generator)
        self.colour_grid = HashGrid(settings.grid, generator)
        encoded, features = self.shape_grid.width, settings.geometry_features
        self.shape = DistanceNetwork(
            encoded, settings.width, settings.geometry_layers, features, settings.sphere_radius, generator
        )
        self.colour = ColourNetwork(3 + encoded + features + 3 + 16, settings.width, settings.colour_layers, generator)
        self.material = LipschitzNetwork(3 + encoded + features, settings.width, settings.colour_layers, 5, generator)
        with torch.no_grad():
            self.material.b[-1][4] += METAL_START
        self.beta = nn.Parameter(torch.tensor(settings.beta))

    def unit(self, places: Tensor) -> Tensor:
        """Canonical places [P, 3] m in the cube -1..1."""
        return (places - self.centre) / self.half_m

    def inside(self, places: Tensor) -> Tensor:
        """[P] bool: within the box."""
        return (self.unit(places).abs() <= 1).all(-1)

    def distance(self, places: Tensor, levels: int | None = None) -> tuple[Tensor, Tensor]:
        """Signed distance [P] m and features [P, n] at places [P, 3]."""
        unit = self.unit(places)
        encoded, _ = self.shape_grid.encode((unit + 1) / 2, levels, slopes=places.requires_grad)
        found = self.shape(torch.cat((unit, encoded), -1))
        return found[:, 0] * self.half_m, found

    def geometry(self, places: Tensor, levels: int | None = None) -> Geometry:
        """Distance, features and gradient, all differentiable in what is learned.

        Where places [P, 3] are differentiated, distance and features are; the gradient is as if they were constants.
        """
        unit = self.unit(places)
        encoded, steep = self.shape_grid.encode((unit + 1) / 2, levels, slopes=True)
        found, slope = self.shape.with_slope(torch.cat((unit, encoded), -1))
        gradient = slope[:, :3] + 0.5 * (steep * slope[:, None, 3:]).sum(-1)  # half: the grid's cube is 0..1
        return Geometry(found[:, 0] * self.half_m, found, gradient)

    def geometry_plainly(self, places: Tensor, levels: int | None = None) -> Geometry:
        """What `geometry` gives, by a gradient that can be differentiated again: the reference it is tested against."""
        with torch.enable_grad():
            at = places if places.requires_grad else places.detach().requires_grad_()
            unit = self.unit(at)
            found = self.shape(torch.cat((unit, self.shape_grid((unit + 1) / 2, levels)), -1))
            distance = found[:, 0] * self.half_m
            (gradient,) = torch.autograd.grad(distance.sum(), at, create_graph=True)
        return Geometry(distance, found, gradient)

    def beta_m(self) -> Tensor:
        """Width of the surface's density in m."""
        return self.beta.abs() + SMALLEST_BETA_M

    def radiance(
        self, places: Tensor, features: Tensor, normals: Tensor, seen_along: Tensor, levels: int | None = None
    ) -> Tensor:
        """Linear radiance [P, 3] in 0..1 towards the eye. normals, seen_along (eye to place): [P, 3] unit, posed."""
        unit = self.unit(places)
        mirrored = seen_along - 2 * (seen_along * normals).sum(-1, keepdim=True) * normals
        looked = sphere_harmonics_16(normalize(mirrored, dim=-1))
        return self.colour(torch.cat((unit, self._coloured(unit, levels), features, normals, looked), -1))

    def _coloured(self, unit: Tensor, levels: int | None) -> Tensor:
        return self.colour_grid.encode((unit + 1) / 2, levels, slopes=unit.requires_grad)[0]

    def materials(self, places: Tensor, features: Tensor, levels: int | None = None) -> Materials:
        """Albedo, roughness and metallic at places [P, 3] with their geometry's features."""
        unit = self.unit(places)
        raw = self.material(torch.cat((unit, self._coloured(unit, levels), features), -1)).sigmoid()
        albedo = ALBEDO[0] * raw[:, :3] + ALBEDO[1]
        return Materials(albedo, ROUGHNESS[0] * raw[:, 3:4] + ROUGHNESS[1], raw[:, 4:5])


def laplace_density(distance_m: Tensor, beta_m: Tensor) -> Tensor:
    """Density 1/m of VolSDF (Yariv et al. 2021): the Laplace distribution's CDF of -distance, over beta."""
    size = distance_m.abs()
    outside = 0.5 * torch.exp(-size / beta_m)
    return torch.where(distance_m >= 0, outside, 1 - outside) / beta_m
