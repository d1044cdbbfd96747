"""A trained field within an avatar: its tensors by name and what it is made of, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from avatars.surface_body.model import SurfaceModel
from avatars.surface_body.settings import SurfaceConfig, check_surface
from avatars.templates.opening import TemplateReference
from avatars.training.typed import from_mapping
from shared.errors import BadAvatar, BadConfig

TRAINING_ONLY = ("losses", "rates", "poses", "stages", "mesh", "gaussians", "paint_steps")
"""Settings that say how a field was learned, not what it is: an avatar outlives changes to them."""


def field_tensors(model: SurfaceModel) -> dict[str, Tensor]:
    """All that was learned, on the CPU; large tables in half precision."""
    found = {}
    for name, value in model.named_parameters():
        large = name.endswith("table") or ".planes" in name
        found[name] = (value.detach().half() if large else value.detach().float()).cpu().contiguous().clone()
    return found


def field_description(model: SurfaceModel) -> dict[str, Any]:
    """What the model is made of, as JSON has it."""
    return {"surface": _of_the_field(asdict(model.config))}


def _of_the_field(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in TRAINING_ONLY}


def open_field(
    reference: TemplateReference, description: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str = "cpu"
) -> SurfaceModel:
    """Inverse of `field_tensors` and `field_description`. Raises BadAvatar where they do not fit each other."""
    try:
        config = from_mapping(SurfaceConfig, _of_the_field(description["surface"]), "surface")
        check_surface(config)
        model = SurfaceModel(config, reference, torch.device(device))
        model.restore({name: value.float().to(device) for name, value in tensors.items()})
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, BadConfig) as error:
        raise BadAvatar(
            "the avatar's distance field is not as described",
            found=str(error).splitlines()[0],
            do="Train it again; the mesh within the avatar is whole",
        ) from error
    return model
