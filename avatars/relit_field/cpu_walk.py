"""Rays through a lattice of distances on the CPU, compiled. See `posed_distance`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from avatars.rendering import jit

if TYPE_CHECKING:
    from avatars.relit_field.posed_distance import PosedDistance

RAYS_A_PIECE = 512


def usable(places: Tensor) -> bool:
    """Whether the kernels serve these rays."""
    return places.device.type == "cpu" and places.dtype == torch.float32


def blocked(
    lattice: PosedDistance, origins: Tensor, directions: Tensor, start_m: float, far_m: float, span_m: float
) -> tuple[Tensor, Tensor]:
    """See `PosedDistance.blocked_plainly`."""
    from avatars.relit_field.cpu_walk_kernels import walk_blocked

    passed, where = (np.empty(len(origins), np.float32) for _ in range(2))
    numbers = (np.float32(value) for value in (start_m, far_m, span_m))
    rays = (origins.detach().contiguous().numpy(), directions.detach().contiguous().numpy())
    beta = np.float32(lattice.beta_m)
    jit.run(walk_blocked, *rays, *_numbers(lattice), beta, *numbers, passed, where, pieces=len(origins) // RAYS_A_PIECE)
    return torch.from_numpy(passed), torch.from_numpy(where)


def spans(
    lattice: PosedDistance, origins: Tensor, directions: Tensor, near_m: Tensor, far_m: Tensor
) -> tuple[Tensor, Tensor]:
    """See `PosedDistance.spans_plainly`."""
    from avatars.relit_field.cpu_walk_kernels import walk_spans

    begun, ended = (np.empty(len(origins), np.float32) for _ in range(2))
    given = [value.detach().contiguous().numpy() for value in (origins, directions, near_m, far_m)]
    reach = (np.float32(value) for value in lattice.reach_m())
    jit.run(walk_spans, *given, *_numbers(lattice), *reach, begun, ended, pieces=len(origins) // RAYS_A_PIECE)
    return torch.from_numpy(begun), torch.from_numpy(ended)


def _numbers(lattice: PosedDistance) -> tuple[Any, ...]:
    return lattice.values.numpy(), lattice.low.numpy(), np.float32(lattice.cell_m)
