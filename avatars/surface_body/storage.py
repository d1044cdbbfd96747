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


def field_tensors(model: SurfaceModel) -> dict[str, Tensor]:
    """All that was learned, on the CPU; large tables in half precision."""
    found = {}
    for name, value in model.named_parameters():
        large = name.endswith("table") or ".planes" in name
        found[name] = (value.detach().half() if large else value.detach().float()).cpu().contiguous().clone()
    return found


def field_description(model: SurfaceModel) -> dict[str, Any]:
    """What the model is made of, as JSON has it."""
    return {"surface": asdict(model.config)}


def open_field(
    reference: TemplateReference, description: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str = "cpu"
) -> SurfaceModel:
    """Inverse of `field_tensors` and `field_description`. Raises BadAvatar where they do not fit each other."""
    try:
        config = from_mapping(SurfaceConfig, description["surface"], "surface")
        check_surface(config)
        model = SurfaceModel(config, reference, torch.device(device))
        model.restore({name: value.float().to(device) for name, value in tensors.items()})
    except (KeyError, TypeError, ValueError, RuntimeError, BadConfig) as error:
        raise BadAvatar(
            "the avatar's distance field is not as described",
            found=str(error).splitlines()[0],
            do="Train it again; the mesh within the avatar is whole",
        ) from error
    return model
