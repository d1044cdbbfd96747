"""Colours of band 0 and 1 by direction, as one vector for each channel: a product instead of spherical harmonics."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from avatars.gaussians.posed import ViewColours
from avatars.gaussians.spherical_harmonics import SH0
from avatars.mlp_body.express import SH1, tinted_colours


@cache
def _first_row(device: torch.device) -> Tensor:
    """Row 0, which is sent to the device once."""
    return torch.zeros(1, dtype=torch.int64, device=device)


class BandColours(ViewColours):
    """base [B, N, 3] plus tint [B, N, 3 channels, 3] · unit direction from the camera, both in world axes.

    coefficients and axes_from_world say the same as spherical harmonics, for whoever writes them to files; they are
    made when they are asked for.
    """

    def __init__(self, base: Tensor, tint: Tensor) -> None:
        object.__setattr__(self, "base", base)
        object.__setattr__(self, "tint", tint)

    base: Tensor
    tint: Tensor

    @property
    def coefficients(self) -> Tensor:  # type: ignore[override]
        """[B, N, 4, 3], as `ViewColours` has them."""
        x, y, z = (self.tint / SH1).unbind(-1)  # each [B, N, channel]; undoes c (-r, -p, q)
        return torch.stack(((self.base - 0.5) / SH0, -y, z, -x), 2)

    @property
    def axes_from_world(self) -> Tensor:  # type: ignore[override]
        """World axes."""
        return torch.eye(3, dtype=self.base.dtype, device=self.base.device).expand(len(self.base), 3, 3)

    def seen(self, means: Tensor, positions: Tensor) -> Tensor:
        """Colours [B, N, 3] of Gaussians at means [B, N, 3] m seen from positions [B, 3] m."""
        views = max(len(self.base), len(positions))
        if len(self.base) == 1:
            rows = _first_row(self.base.device).expand(views)
        else:
            rows = torch.arange(views, device=self.base.device)
        return tinted_colours(self.base, self.tint, means, rows, positions.to(means).expand(views, -1))

    def turned(self, rotations: Tensor) -> BandColours:
        """The same after everything was turned by rotations [B, 3, 3]."""
        return BandColours(self.base, self.tint @ rotations[:, None].transpose(-1, -2))
