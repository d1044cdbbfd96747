"""Light from infinitely far away: environment maps as spherical harmonics, and relighting by them."""

from avatars.lighting.irradiance import environment_irradiance, irradiance_at
from avatars.lighting.relight import albedo, relighting

__all__ = ["albedo", "environment_irradiance", "irradiance_at", "relighting"]
