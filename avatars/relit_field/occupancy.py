"""Which parts of the canonical box hold anything: a grid of the highest recent opacity. Empty space costs nothing.

The original keeps one grid over time and pose; a canonical one needs no pose.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avatars.relit_field.fields import Fields, laplace_density
from avatars.relit_field.rays import uniform
from avatars.relit_field.settings import MarchSettings

POINTS_AT_ONCE = 1 << 17


class Occupancy:
    """opacity: [G*G*G] of one marching step; nothing is left out before the first refresh."""

    def __init__(self, settings: MarchSettings, device: torch.device) -> None:
        self.settings = settings
        side = settings.occupancy
        self.opacity = torch.ones(side**3, device=device)
        steps = torch.arange(side, device=device)
        self.corners = torch.cartesian_prod(steps, steps, steps)

    def filled(self, fields: Fields, places: Tensor) -> Tensor:
        """[P] bool: canonical places in cells that may hold something."""
        side = self.settings.occupancy
        index = ((fields.unit(places) + 1) / 2 * side).floor().long().clamp(0, side - 1)
        return self.opacity[(index[:, 0] * side + index[:, 1]) * side + index[:, 2]] > self.settings.occupancy_threshold

    def refresh(
        self, fields: Fields, step_m: float, levels: int | None, generator: torch.Generator, *, anew: bool = False
    ) -> None:
        """Look at one random place of every cell; what was seen before fades unless the grid is made anew."""
        side = self.settings.occupancy
        shift = uniform((len(self.corners), 3), generator, self.corners.device)
        reach_m = fields.half_m / side  # half a cell: the surface may cross elsewhere in it
        seen = torch.empty_like(self.opacity)
        with torch.no_grad():
            for begun in range(0, len(seen), POINTS_AT_ONCE):
                some = slice(begun, begun + POINTS_AT_ONCE)
                unit = (self.corners[some] + shift[some]) / side * 2 - 1
                distance, _ = fields.distance(unit * fields.half_m + fields.centre, levels)
                density = laplace_density(distance - 2 * reach_m, fields.beta_m())
                seen[some] = -torch.expm1(-density * step_m)
        kept = torch.zeros_like(seen) if anew else self.opacity * self.settings.occupancy_decay
        self.opacity = torch.maximum(seen, kept)
