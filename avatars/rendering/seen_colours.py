"""What colour each Gaussian was seen to have: a start for its colour instead of learning it from grey.

RGBAvatar's colour initialisation (Li et al. 2025): in images with known masks, a Gaussian that contributes more than a
tenth of a pixel takes part of that pixel's colour.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.rasterise import Implementation, rasterise
from shared.errors import EffigyError

MIN_WEIGHT = 0.1


@torch.no_grad()
def seen_colours(
    gaussians: PosedGaussians,
    cameras: CameraBatch,
    images: Tensor,
    masks: Tensor,
    *,
    min_weight: float = MIN_WEIGHT,
    implementation: Implementation = "auto",
) -> tuple[Tensor, Tensor]:
    """Sums over the batch of weight * colour [N, 3] and of weight [N] for each Gaussian.

    images: [B, H, W, 3] as recorded, not composited. masks: [B, H, W]; a pixel counts above 0.5. Weights are alpha
    times transmittance; on the CPU only those above `min_weight` count, exactly. With gsplat every weight counts: the
    image is linear in the Gaussians' colours, so the gradient of its product with the masked image is the sum wanted,
    but it cannot be cut off below. Divide the first by the second where that is large enough (0.1) to get colours.
    """
    frames = gaussians.frames
    shape = (frames, cameras.height_px, cameras.width_px)
    if tuple(images.shape) != (*shape, 3) or tuple(masks.shape) != shape or cameras.frames != frames:
        raise EffigyError(
            "images, masks and cameras do not fit the Gaussians",
            found=f"images {list(images.shape)}, masks {list(masks.shape)}, {cameras.frames} cameras",
            expected=f"images {[*shape, 3]}, masks {list(shape)}, {frames} cameras",
        )
    inside = (masks > 0.5).to(images)[..., None]
    seen = torch.cat([images * inside, inside], dim=-1)
    if implementation == "auto":
        implementation = "gsplat" if gaussians.means.is_cuda else "cpu"
    sums = (
        _exact(gaussians, cameras, seen, min_weight)
        if implementation == "cpu"
        else _by_gradient(gaussians, cameras, seen, implementation)
    )
    return sums[:, :3], sums[:, 3]


def _exact(gaussians: PosedGaussians, cameras: CameraBatch, seen: Tensor, min_weight: float) -> Tensor:
    from avatars.rendering import cpu_blend, jit
    from avatars.rendering.cpu import Tiles, as_array

    parts = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.colours)
    tiles = Tiles(tuple(as_array(part) for part in parts), cameras, gaussians.sharp)
    gathered = np.zeros((int(tiles.first_pair[-1]) + 1, 4), np.float32)  # one spare row keeps the sums below in range
    lists = (tiles.start, tiles.splat, tiles.slot, tiles.rows)
    work = (tiles.splats, *lists, as_array(seen), float(min_weight), gathered)
    jit.run(cpu_blend.gather_seen, *work, pieces=tiles.pair_pieces)
    running = np.cumsum(gathered, axis=0, dtype=np.float64)
    before = np.concatenate([np.zeros((1, 4)), running])
    sums = before[tiles.first_pair[1:]] - before[tiles.first_pair[:-1]]
    total = sums.reshape(gaussians.frames, gaussians.count, 4).sum(axis=0)
    return torch.from_numpy(total.astype(np.float32)).to(gaussians.means.device)


def _by_gradient(
    gaussians: PosedGaussians, cameras: CameraBatch, seen: Tensor, implementation: Implementation
) -> Tensor:
    with torch.enable_grad():
        colours = torch.zeros(*gaussians.means.shape[:2], 4, device=seen.device, dtype=seen.dtype, requires_grad=True)
        image = rasterise(gaussians, cameras, colours, implementation=implementation)
        (gradient,) = torch.autograd.grad((image.features * seen).sum(), colours)
    return gradient.sum(dim=0)
