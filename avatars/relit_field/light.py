"""The light a teacher learns: lobes (spherical Gaussians) or a small latitude-longitude picture (method page C.3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from avatars.lighting.latlong import columns_rows, looked_up, pixel_directions
from avatars.lighting.lobes import Lobes, lobes_of
from avatars.relit_field.networks import evenly_spread
from avatars.relit_field.settings import LightSettings
from shared.types import Environment

if TYPE_CHECKING:
    from avatars.relit_field.sky import Sky

ENVIRONMENT_HEIGHT = 256


class LobeLight(nn.Module):
    """Radiance = sum of amplitude exp(sharpness (direction . axis - 1)), world axes."""

    def __init__(self, settings: LightSettings, generator: torch.Generator) -> None:
        super().__init__()
        count = settings.lobes
        sharpness = 10 + (20 * torch.randn(count, generator=generator)).abs()
        amplitude = torch.randn(count, 1, generator=generator).abs().expand(-1, 3) + 1e-3
        energy = amplitude * (2 * math.pi / sharpness * -torch.expm1(-2 * sharpness))[:, None]
        self.axes = nn.Parameter(evenly_spread(count))
        self.sharpness = nn.Parameter(sharpness)
        self.amplitude = nn.Parameter(amplitude * (settings.energy * 2 * math.pi / energy.sum(0)))

    def radiance(self, directions: Tensor) -> Tensor:
        """[N, 3] linear at unit directions [N, 3]."""
        cosine = directions @ normalize(self.axes, dim=-1).T
        return torch.exp(self.sharpness.abs() * (cosine - 1)) @ self.amplitude.abs()


class PictureLight(nn.Module):
    """Radiance of a latitude-longitude picture of positive texels, world axes."""

    def __init__(self, settings: LightSettings, generator: torch.Generator) -> None:
        super().__init__()
        start = settings.energy * 2 * math.pi / (4 * math.pi)
        raw = math.log(math.expm1(start))
        noise = 0.01 * torch.randn(settings.height, 2 * settings.height, 3, generator=generator)
        self.texels = nn.Parameter(raw + noise)

    def radiance(self, directions: Tensor) -> Tensor:
        """[N, 3] linear at unit directions [N, 3]."""
        return looked_up(softplus(self.texels), *columns_rows(directions))


class KnownLight(nn.Module):
    """Radiance of an environment that is given: a teacher under another light.

    beside: its suns and lamps; sky: where the map is bright, once somebody asked (`sky.sky_of`).
    """

    texels: Tensor

    def __init__(self, environment: Environment) -> None:
        super().__init__()
        self.rotation_rad = environment.rotation_rad
        self.beside: Lobes | None = lobes_of(environment)
        self.sky: Sky | None = None
        radiance = torch.from_numpy(environment.radiance.copy()) * environment.strength
        self.register_buffer("texels", radiance, persistent=False)

    def radiance(self, directions: Tensor) -> Tensor:
        """[N, 3] linear at unit directions [N, 3]."""
        return looked_up(self.texels.to(directions), *columns_rows(directions, self.rotation_rad))


Light = LobeLight | PictureLight | KnownLight


def learned_light(settings: LightSettings, generator: torch.Generator) -> Light:
    """The light of a new teacher."""
    return (LobeLight if settings.kind == "lobes" else PictureLight)(settings, generator)


def environment_of(light: Light, height: int = ENVIRONMENT_HEIGHT) -> Environment:
    """A light as a latitude-longitude picture of so many rows."""
    device = next(iter(light.state_dict(keep_vars=True).values()), torch.zeros(())).device
    directions = pixel_directions(height, 2 * height).float().to(device)
    with torch.no_grad():
        radiance = light.radiance(directions.reshape(-1, 3)).view(height, 2 * height, 3)
    return Environment(radiance.cpu().numpy())
