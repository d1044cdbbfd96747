"""Faces at pixels by nvdiffrast, where its user has installed it (it is for research use; nothing here needs it)."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from shared.errors import EnvironmentFailed

SIDES = 8
"""Its CUDA rasteriser wants sides that are multiples of this."""


@cache
def _context(device: torch.device) -> Any:
    try:
        import nvdiffrast.torch as dr
    except ImportError as error:
        raise EnvironmentFailed("nvdiffrast is not installed", do="Use the built-in rasteriser") from error
    return dr, dr.RasterizeCudaContext(device=device)


def face_ids(
    places_px: Tensor, depths_m: Tensor, faces: Tensor, width_px: int, height_px: int, near_m: float
) -> Tensor:
    """[B, H, W] int64, as `mesh_drawing.face_ids`. Raises EnvironmentFailed where nvdiffrast is missing."""
    module, context = _context(places_px.device)
    width, height = (-(-side // SIDES) * SIDES for side in (width_px, height_px))
    size = places_px.new_tensor([width, height])
    depth = depths_m[..., None]
    flat = 2 * places_px / size - 1
    seen = torch.cat((flat * depth, depth - 2 * near_m, depth), -1).contiguous()
    drawn, _ = module.rasterize(context, seen, faces.int().contiguous(), resolution=[height, width], grad_db=False)
    found = drawn[:, :height_px, :width_px, 3].long() - 1
    whole = (depths_m > 0)[:, faces.flatten()].view(len(depths_m), -1, 3).all(-1)
    kept = torch.gather(whole, 1, found.clamp_min(0).flatten(1)).view_as(found)
    return torch.where(kept, found, -1)
