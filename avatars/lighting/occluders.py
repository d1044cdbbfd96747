"""What a posed person must be able to say of how it hides the light from itself, whatever it was baked into."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Occluders(Protocol):
    """Visibility of the sky in B poses: `probes.PosedProbes` (lattices about rigid parts, for any point) and
    `surface_probes.PosedSurfaceProbes` (on the person's own surface, following its expressions)."""

    def visible(self, points: Tensor, normals: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Ambient [B, N, 1] for normals, and visibility [B, N, D] along directions [B, N, D, 3]; 0 hidden to 1 open.

        points [B, N, 3] m are the person's Gaussians, in their order; normals [B, N, 3]; all in the world, unit.
        """

    def moved(self, world_from_model: Tensor) -> Occluders:
        """After the whole person was moved by [B, 4, 4], rigid with a uniform, positive scale."""
