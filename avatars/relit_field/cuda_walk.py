"""Rays through a lattice of distances on CUDA, one kernel for each question. See `posed_distance`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from avatars.rendering.has_triton import available

if TYPE_CHECKING:
    from avatars.relit_field.posed_distance import PosedDistance


def usable(places: Tensor) -> bool:
    """Whether the kernels serve these rays."""
    return bool(places.is_cuda) and available()


def blocked(
    lattice: PosedDistance, origins: Tensor, directions: Tensor, start_m: float, far_m: float, span_m: float
) -> tuple[Tensor, Tensor]:
    """See `PosedDistance.blocked_plainly`."""
    from avatars.relit_field.cuda_walk_kernels import RAYS_A_BLOCK, walk_blocked

    passed, where = (origins.new_empty(len(origins)) for _ in range(2))
    if len(origins):
        walk_blocked[(-(-len(origins) // RAYS_A_BLOCK),)](
            origins.contiguous(), directions.contiguous(), lattice.values, lattice.low, *lattice.values.shape,
            lattice.cell_m, lattice.beta_m, start_m, far_m, span_m, passed, where, len(origins), BLOCK=RAYS_A_BLOCK,
        )  # fmt: skip
    return passed, where


def spans(
    lattice: PosedDistance, origins: Tensor, directions: Tensor, near_m: Tensor, far_m: Tensor
) -> tuple[Tensor, Tensor]:
    """See `PosedDistance.spans_plainly`."""
    from avatars.relit_field.cuda_walk_kernels import RAYS_A_BLOCK, walk_spans

    begun, ended = (origins.new_empty(len(origins)) for _ in range(2))
    if len(origins):
        walk_spans[(-(-len(origins) // RAYS_A_BLOCK),)](
            origins.contiguous(), directions.contiguous(), near_m.contiguous(), far_m.contiguous(), lattice.values,
            lattice.low, *lattice.values.shape, lattice.cell_m, *lattice.reach_m(), begun, ended, len(origins),
            BLOCK=RAYS_A_BLOCK,
        )  # fmt: skip
    return begun, ended
