"""The smallest volumetric bodies for tests."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch

from avatars.surface_body.model import SurfaceModel
from avatars.training.config import TrainConfig, load_config
from tests.tiny_body import body_reference


@lru_cache(maxsize=1)
def tiny_config() -> TrainConfig:
    """The preset surface_tiny, a little smaller yet."""
    config = load_config("surface_tiny")
    sampling = replace(config.surface.sampling, rays=256)
    return replace(config, surface=replace(config.surface, sampling=sampling))


@lru_cache(maxsize=1)
def tiny_model() -> SurfaceModel:
    """An untrained one; nobody may change it."""
    return SurfaceModel(tiny_config().surface, body_reference(), torch.device("cpu"))
