"""What an editor of pictures is given: renders of the avatar, what they are conditioned on, and where things are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from avatars.rendering.cameras import CameraBatch


@dataclass(frozen=True, eq=False)
class Views:
    """B pictures of one avatar, all over the same background.

    images: [B, H, W, 3] sRGB in 0..1, the avatar as it is now. conditions: the same shape, what was there before any
    edit: photographs, or renders of the avatar it was made from. alpha: [B, H, W, 1] coverage of `images`.
    cameras: B of them. frames: [B] int64 instants of the motion. background: [3]. maps: normals, depth, places at rest
    and regions (`maps.SurfaceMaps`), for editors that ask for them (`needs_maps`), else None. where: [B, H, W, 1] how
    much each pixel is to be edited, None for everywhere; the loop keeps the rest as it was, so an editor may ignore it.
    """

    images: Tensor
    conditions: Tensor
    alpha: Tensor
    cameras: CameraBatch
    frames: Tensor
    background: Tensor
    maps: Any = None
    where: Tensor | None = None
