"""Gaussians and meshes to images. `rasterise` is the only door to the three Gaussian rasterisers."""

from avatars.rendering.cameras import CameraBatch
from avatars.rendering.rasterise import Rasterised, rasterise

__all__ = ["CameraBatch", "Rasterised", "rasterise"]
