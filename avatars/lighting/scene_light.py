"""The light of a picture as the two kinds of avatars need it: irradiance for colours, filtered maps for materials."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from avatars.lighting.irradiance import environment_irradiance, lamps_irradiance
from avatars.lighting.prefilter import FilteredLight, filtered_environment
from shared.types import Environment

_lights: WeakKeyDictionary[Environment, dict[str, Any]] = WeakKeyDictionary()


class SceneLight:
    """A map as its two kinds of avatars need it, each made when first asked for.

    They are remembered as long as the Environment lives, since a large map takes a while.
    """

    def __init__(self, environment: Environment, device: torch.device) -> None:
        self.environment, self.device = environment, device
        self.known = _lights.setdefault(environment, {})

    def irradiance(self, place: Tensor) -> Tensor:
        """[9, 3] coefficients, for avatars that hold colours; lamps shine as they do on `place` [3] m."""
        if "irradiance" not in self.known:
            self.known["irradiance"] = environment_irradiance(self.environment)
        found: Tensor = self.known["irradiance"].to(self.device)
        return found + lamps_irradiance(self.environment, place)

    def filtered(self) -> FilteredLight:
        """For avatars that hold materials."""
        key = f"filtered {self.device}"
        if key not in self.known:
            self.known[key] = filtered_environment(self.environment, self.device)
        return self.known[key]  # type: ignore[no-any-return]

    def lamps(self) -> int:
        """How many lights stand beside the map."""
        return len(self.environment.lights) + len(self.environment.lamps)
