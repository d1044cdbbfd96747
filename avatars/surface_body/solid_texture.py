"""Colour of a mesh's surface before it is unwrapped: a hash grid at canonical places and a small network behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, relu

from avatars.relit_field.hash_grid import HashGrid
from avatars.relit_field.networks import layer
from avatars.relit_field.settings import GridSettings
from shared.errors import BadAvatar

ASKED_AT_ONCE = 1 << 17


@dataclass(frozen=True)
class SolidSettings:
    """grid: the encoding; width: of the one hidden layer; features: numbers beside the colour, for what depends on
    where it is seen from."""

    grid: GridSettings = field(
        default_factory=lambda: GridSettings(levels=12, table_log2=18, base=16, growth=1.55, start_levels=12)
    )
    width: int = 32
    features: int = 8


class SolidTexture(nn.Module):
    """Display-encoded colour at canonical places [P, 3] m of a cube with that centre [3] and half side."""

    centre: Tensor

    def __init__(self, centre: Tensor, half_m: float, settings: SolidSettings, generator: torch.Generator) -> None:
        super().__init__()
        self.settings, self.half_m = settings, half_m
        self.register_buffer("centre", centre.detach().float().clone())
        self.grid = HashGrid(settings.grid, generator)
        sizes = (self.grid.width, settings.width, 3 + settings.features)
        made = [layer(before, after, generator) for before, after in pairwise(sizes)]
        self.w = nn.ParameterList([weight for weight, _ in made])
        self.b = nn.ParameterList([bias for _, bias in made])

    def with_features(self, places: Tensor, *, follow: bool = False) -> tuple[Tensor, Tensor]:
        """(colours [P, 3] in 0..1, features [P, n]) at canonical places [P, 3] m. follow: gradients reach places."""
        within = (places - self.centre) / (2 * self.half_m) + 0.5
        found, _ = self.grid.encode(within if follow else within.detach(), slopes=follow)
        hidden = relu(linear(found, self.w[0], self.b[0]))
        out = linear(hidden, self.w[1], self.b[1])
        return torch.sigmoid(out[:, :3]), out[:, 3:]

    def forward(self, places: Tensor) -> Tensor:
        """Colours [P, 3] in 0..1 at canonical places [P, 3] m, without gradients to places."""
        return self.with_features(places)[0]

    @torch.no_grad()
    def colours(self, places: Tensor) -> Tensor:
        """Colours [P, 3] of any number of places, without gradients."""
        parts = [self(some.to(self.centre)) for some in places.split(ASKED_AT_ONCE)]
        return torch.cat(parts) if parts else places.new_zeros(0, 3)

    def tensors(self) -> dict[str, Tensor]:
        """What `solid_from` needs beside the description."""
        return {name: tensor.detach() for name, tensor in self.state_dict().items()}

    def description(self) -> dict[str, Any]:
        """How it is built, as JSON has it."""
        return {"half_m": self.half_m, **asdict(self.settings)}


def solid_from(tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> SolidTexture:
    """Inverse of `tensors` and `description`. Raises BadAvatar where they do not fit each other."""
    try:
        grid = GridSettings(**description["grid"])
        settings = SolidSettings(grid, int(description["width"]), int(description["features"]))
        solid = SolidTexture(torch.zeros(3), float(description["half_m"]), settings, torch.Generator().manual_seed(0))
        solid.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BadAvatar(
            "the surface's colours are not as described", found=str(error).splitlines()[0], do="Make the avatar again"
        ) from error
    return solid
