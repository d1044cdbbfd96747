"""Broyden's method and blended transforms on the CPU, compiled; each candidate takes as long as it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from avatars.rendering import jit

if TYPE_CHECKING:
    from avatars.relit_field.blend_volume import BlendVolume
    from avatars.relit_field.settings import ArticulationSettings

PLACES_A_PIECE = 64


def usable(places: Tensor) -> bool:
    """Whether the kernel serves these places."""
    return places.device.type == "cpu" and places.dtype == torch.float32


def roots(
    places: Tensor, starts: Tensor, inverse: Tensor, volume: BlendVolume, settings: ArticulationSettings
) -> tuple[Tensor, Tensor]:
    """See `inverse_skinning.roots_plainly`."""
    from avatars.relit_field.cpu_roots_kernels import broyden

    count, each = starts.shape
    found, off = np.empty((count, each, 3), np.float32), np.empty((count, each), np.float32)
    given = [value.detach().contiguous().numpy() for value in (places, starts, inverse, volume.rows)]
    numbers = (*volume.numbers(), settings.iterations, np.float32(settings.converged_m))
    jit.run(broyden, *given, *numbers, found, off, pieces=count // PLACES_A_PIECE)
    return torch.from_numpy(found), torch.from_numpy(off)


def blended(places: Tensor, volume: BlendVolume) -> Tensor:
    """See `BlendVolume.at`."""
    from avatars.relit_field.cpu_roots_kernels import blend

    found = np.empty((len(places), 12), np.float32)
    given = (places.detach().contiguous().numpy(), volume.rows.numpy(), *volume.numbers())
    jit.run(blend, *given, found, pieces=len(places) // PLACES_A_PIECE)
    return torch.from_numpy(found).view(-1, 3, 4)
