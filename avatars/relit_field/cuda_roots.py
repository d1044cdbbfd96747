"""Broyden's method and blended transforms on CUDA, one kernel each. See `inverse_skinning` and `blend_volume`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from avatars.rendering.has_triton import available

if TYPE_CHECKING:
    from avatars.relit_field.blend_volume import BlendVolume
    from avatars.relit_field.settings import ArticulationSettings


def usable(places: Tensor) -> bool:
    """Whether the kernels serve these places."""
    return places.is_cuda and places.dtype == torch.float32 and available()


def roots(
    places: Tensor, starts: Tensor, inverse: Tensor, volume: BlendVolume, settings: ArticulationSettings
) -> tuple[Tensor, Tensor]:
    """See `inverse_skinning.roots_plainly`."""
    from avatars.relit_field.cuda_roots_kernels import PLACES_A_BLOCK, broyden

    count, each = starts.shape
    found, off = places.new_empty(count, each, 3), places.new_empty(count, each)
    if count:
        broyden[(-(-count * each // PLACES_A_BLOCK),)](
            places.contiguous(), starts.contiguous(), inverse, volume.rows, volume.low, volume.per_m, *volume.shape,
            found, off, count * each, each, settings.iterations, settings.converged_m, BLOCK=PLACES_A_BLOCK,
        )  # fmt: skip
    return found, off


def blended(places: Tensor, volume: BlendVolume) -> Tensor:
    """See `BlendVolume.at`."""
    from avatars.relit_field.cuda_roots_kernels import PLACES_A_BLOCK, blend

    found = places.new_empty(len(places), 3, 4)
    if len(places):
        blend[(-(-len(places) // PLACES_A_BLOCK),)](
            places.contiguous(), volume.rows, volume.low, volume.per_m, *volume.shape, found, len(places),
            BLOCK=PLACES_A_BLOCK,
        )  # fmt: skip
    return found
