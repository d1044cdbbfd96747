"""Gaussians and meshes to images. `rasterise` is the only door to the three Gaussian rasterisers."""

from avatars.rendering.cameras import CameraBatch
from avatars.rendering.mesh import rasterise_mesh
from avatars.rendering.rasterise import Rasterised, rasterise
from avatars.rendering.seen_colours import seen_colours

__all__ = ["CameraBatch", "Rasterised", "rasterise", "rasterise_mesh", "seen_colours"]
