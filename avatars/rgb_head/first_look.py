"""Which Gaussians of a new head any training image can show at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from avatars.captures.capture import Capture
from avatars.rendering.seen_colours import seen_colours
from avatars.rgb_head.model import RgbHead
from avatars.training.data import Pictures, load_pictures

OPAQUE = 0.95
MIN_WEIGHT = 0.1
MOST_IMAGES = 128


def look_pictures(capture: Capture, longest_px: int, device: torch.device) -> Pictures:
    """Up to 128 training images, evenly spread, small. Raises BadCapture."""
    images = np.array(capture.split("train"))
    rows = np.unique(np.linspace(0, len(images) - 1, min(len(images), MOST_IMAGES)).round().astype(int))
    return load_pictures(capture, images[rows].tolist(), longest_px, device)


def shown(model: RgbHead, weights: Tensor) -> Tensor:
    """[N] bool: false for what stays hidden in every picture, such as skin under clothes and the back of the eyes.

    weights: of `look`. Layers of hair count as shown.
    """
    return layers_of(model) | (weights > MIN_WEIGHT)


def layers_of(model: RgbHead) -> Tensor:
    """[N] bool: which Gaussians belong to layers above the surface."""
    lifted = torch.tensor([is_layer(name) for name in model.binding.group_names], device=model.positions.device)
    return lifted[model.binding.group]


def look(model: RgbHead, vertices: Tensor, pictures: Pictures) -> Tensor:
    """[N] sum of each Gaussian's blending weights where the pictures show the person; 0 for layers.

    vertices [T, V, 3] m of all frames. The model is looked at nearly opaque and as it starts, without its layers, which
    would hide what is beneath them.
    """
    above = layers_of(model)
    opacity = torch.where(above, 0.0, OPAQUE)
    total = torch.zeros(len(model), device=vertices.device)
    with torch.no_grad():
        for row in range(len(pictures)):
            batch = pictures.batch(torch.tensor([row]), torch.zeros(1, 3))
            posed = model.place(model.surface(vertices[batch.frames]), None, hide_unseen=False)
            posed = replace(posed, opacities=opacity[None])
            colours, alpha = batch.straight()
            total += seen_colours(posed, batch.cameras, colours, alpha, min_weight=MIN_WEIGHT)[1]
    return total


def is_layer(patch: str) -> bool:
    """Whether a patch is a layer above the surface."""
    return patch.partition("/")[2].startswith("hair")
