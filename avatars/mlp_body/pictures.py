"""Pictures of a body as training wants them: cut to the person, and without the unsure edge of the mask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from avatars.captures.capture import Capture
from avatars.mlp_body.settings import MlpBodyConfig
from avatars.training.data import Pictures

MASKED = 128
"""A pixel of at least this alpha belongs to the person."""
BANDS_PX = {"avatarrex": 5, "thuman4": 3, "actorshq": 4}
"""Layout -> radius of the band along its masks' edges, as published (method page A.6); other layouts have none."""
MULTIPLE_PX = 16
"""Sides of cut pictures are multiples of the rasterisers' tiles."""


def body_pictures(pictures: Pictures, capture: Capture, images: tuple[int, ...], config: MlpBodyConfig) -> Pictures:
    """The same pictures with their cameras' numbers, cut and with a band as `config` asks.

    Pictures that are read from disk as they are used stay whole and have no band: cutting would read all of them first.
    """
    lenses = torch.tensor([capture.images[index].camera for index in images], device=pictures.device)
    found = replace(pictures, lenses=lenses)
    if not len(found.rgba):
        return found
    if config.crop:
        found = cut_to_masks(found, config.crop_margin_px)
    radius_px = config.losses.boundary_px
    if radius_px < 0:
        radius_px = BANDS_PX.get(capture.layout, 0)
    if radius_px > 0:
        alpha = found.rgba[..., 3].cpu().numpy()
        band = np.stack([boundary_band(one >= MASKED, radius_px) for one in alpha])
        found = replace(found, ignored=torch.from_numpy(band).to(found.rgba.device))
    return found


def boundary_band(mask: NDArray[np.bool_], radius_px: int) -> NDArray[np.bool_]:
    """Pixels within radius_px of the mask's edge: its dilation by a disk without its erosion (method page A.6)."""
    if not mask.any() or mask.all():
        return np.zeros_like(mask)
    dilated = distance_transform_edt(~mask) <= radius_px
    eroded = distance_transform_edt(mask) > radius_px
    found: NDArray[np.bool_] = dilated & ~eroded
    return found


def mask_boxes(rgba: Tensor) -> Tensor:
    """Left, top, right, bottom [M, 4] px (ends excluded) of what is covered in pictures [M, H, W, 4] uint8.

    A picture that shows nothing has an empty box in its middle.
    """
    count, height, width = rgba.shape[:3]
    boxes = torch.empty(count, 4, dtype=torch.int64)
    for row, picture in enumerate(rgba):
        covered = picture[..., 3] > 0
        columns, lines = torch.nonzero(covered.any(0))[:, 0], torch.nonzero(covered.any(1))[:, 0]
        if len(columns):
            boxes[row] = torch.stack((columns[0], lines[0], columns[-1] + 1, lines[-1] + 1)).cpu()
        else:
            boxes[row] = torch.tensor((width // 2, height // 2, width // 2, height // 2))
    return boxes


def cut_to_masks(pictures: Pictures, margin_px: int) -> Pictures:
    """Windows of one size around the person in each picture, with the cameras' principal points moved along.

    The window is as large as the largest person's box with its margin, rounded up to whole tiles.
    """
    height, width = pictures.rgba.shape[1:3]
    boxes = mask_boxes(pictures.rgba)
    spans = (boxes[:, 2:] - boxes[:, :2]).amax(0) + 2 * margin_px
    wide, high = (
        min(int(-(-int(span) // MULTIPLE_PX) * MULTIPLE_PX), full)
        for span, full in zip(spans, (width, height), strict=True)
    )
    if (wide, high) == (width, height):
        return pictures
    middle = (boxes[:, :2] + boxes[:, 2:]) // 2
    left = (middle[:, 0] - wide // 2).clamp(0, width - wide)
    top = (middle[:, 1] - high // 2).clamp(0, height - high)
    cut = torch.stack(
        [
            picture[y : y + high, x : x + wide]
            for picture, x, y in zip(pictures.rgba, left.tolist(), top.tolist(), strict=True)
        ]
    )
    if pictures.rgba.is_pinned():
        cut = cut.pin_memory()
    K = pictures.cameras.K.clone()
    K[:, 0, 2] -= left.to(K)
    K[:, 1, 2] -= top.to(K)
    cameras = replace(pictures.cameras, K=K, width_px=wide, height_px=high)
    return replace(pictures, rgba=cut, cameras=cameras)
