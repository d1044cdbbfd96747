"""The one table of avatar methods: name -> how its avatars are read back. Nothing registers itself on import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from avatars.avatar import Avatar
from avatars.captures.capture import Capture
from avatars.gaussian_head.avatar import load_gaussian_head
from avatars.mlp_body.avatar import load_mlp_body
from avatars.mlp_body.trainer import MlpBodyTrainer
from avatars.relit_body.avatar import load_relit_body
from avatars.relit_body.trainer import RelitBodyTrainer
from avatars.relit_field.results import no_avatar, write_teacher
from avatars.relit_field.trainer import TeacherTrainer
from avatars.rgb_head.avatar import load_rgb_head
from avatars.rgb_head.trainer import RgbHeadTrainer
from avatars.templates.opening import TemplateReference
from avatars.training.config import TrainConfig
from avatars.training.report import write_results
from avatars.training.trainer import Trainer
from shared.errors import BadAvatar, nearest

if TYPE_CHECKING:
    from avatars.training.loop import Run

Loader = Callable[[TemplateReference, Mapping[str, Any], Mapping[str, Tensor], str], Avatar]
MakeTrainer = Callable[[TrainConfig, Capture, str], Trainer]
Results = Callable[["Run", Mapping[str, Any], Path, Path, str], dict[str, Any]]


@dataclass(frozen=True)
class Method:
    """One way to make an avatar. load: (template, description, tensors, device) -> Avatar; trainer: (config, capture,
    device) -> Trainer, None where such avatars come from elsewhere and are only imported. results: what a finished run
    leaves behind."""

    name: str
    title: str
    load: Loader
    trainer: MakeTrainer | None
    results: Results = write_results


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("rgb_head", "RGB head (RGBAvatar): talking head, Gaussians", load_rgb_head, RgbHeadTrainer),
        Method("mlp_body", "Body (MMLPHuman): full body, details follow the pose", load_mlp_body, MlpBodyTrainer),
        Method(
            "relit_body", "Relightable person (DNF-Avatar): surfels with materials", load_relit_body, RelitBodyTrainer
        ),
        Method(
            "relit_teacher",
            "Implicit teacher of a relightable person (DNF-Avatar)",
            no_avatar,
            TeacherTrainer,
            write_teacher,
        ),
        Method("gaussian_head", "Gaussian head (GaussianAvatars): imported", load_gaussian_head, None),
    )
}


def find_method(name: str) -> Method:
    """The method of that name. Raises BadAvatar naming the nearest."""
    if name not in METHODS:
        raise BadAvatar(f"unknown avatar method {name!r}{nearest(name, METHODS)}", expected=", ".join(METHODS))
    return METHODS[name]


def find_trainer(name: str) -> MakeTrainer:
    """The class that trains avatars of method `name`. Raises BadAvatar naming the nearest, or that there is none."""
    trainer = find_method(name).trainer
    if trainer is None:
        known = [method.name for method in METHODS.values() if method.trainer is not None]
        raise BadAvatar(f"avatars of method {name!r} are imported, not trained", expected=", ".join(known))
    return trainer
