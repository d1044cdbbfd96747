"""The one table of avatar methods: name -> how its avatars are read back. Nothing registers itself on import.

A method's own modules are imported when they are asked for: whoever renders a head waits neither for the trainers nor
for the other methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from shared.errors import BadAvatar, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from avatars.avatar import Avatar
    from avatars.captures.capture import Capture
    from avatars.templates.opening import TemplateReference
    from avatars.training.config import TrainConfig
    from avatars.training.loop import Run
    from avatars.training.trainer import Trainer

    Loader = Callable[[TemplateReference, Mapping[str, Any], Mapping[str, Tensor], str], Avatar]
    MakeTrainer = Callable[[TrainConfig, Capture, str], Trainer]
    Results = Callable[[Run, Mapping[str, Any], Path, Path, str], dict[str, Any]]


@dataclass(frozen=True)
class Method:
    """One way to make an avatar. What it is made of is named as `module:attribute`.

    loader: (template, description, tensors, device) -> Avatar; trainer: (config, capture, device) -> Trainer, empty
    where such avatars come from elsewhere and are only imported. writer: what a finished run leaves behind.
    """

    name: str
    title: str
    loader: str
    trainer: str
    writer: str = "avatars.training.report:write_results"

    @property
    def load(self) -> Loader:
        """Makes an avatar of its stored parts."""
        return resolve_name(self.loader)  # type: ignore[no-any-return]

    @property
    def results(self) -> Results:
        """Writes what a finished run leaves behind."""
        return resolve_name(self.writer)  # type: ignore[no-any-return]


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method(
            "rgb_head",
            "RGB head (RGBAvatar): talking head, Gaussians",
            "avatars.rgb_head.avatar:load_rgb_head",
            "avatars.rgb_head.trainer:RgbHeadTrainer",
        ),
        Method(
            "mlp_body",
            "Body (MMLPHuman): full body, details follow the pose",
            "avatars.mlp_body.avatar:load_mlp_body",
            "avatars.mlp_body.trainer:MlpBodyTrainer",
        ),
        Method(
            "relit_body",
            "Relightable person (DNF-Avatar): surfels with materials",
            "avatars.relit_body.avatar:load_relit_body",
            "avatars.relit_body.trainer:RelitBodyTrainer",
        ),
        Method(
            "relit_head",
            "Relightable head: talking head with materials, for any light",
            "avatars.relit_head.avatar:load_relit_head",
            "avatars.relit_head.trainer:RelitHeadTrainer",
        ),
        Method(
            "relit_teacher",
            "Implicit teacher of a relightable person (DNF-Avatar)",
            "avatars.relit_field.results:no_avatar",
            "avatars.relit_field.trainer:TeacherTrainer",
            "avatars.relit_field.results:write_teacher",
        ),
        Method(
            "surface_body",
            "Surface body (HF-Avatar): a mesh of its own, for Blender",
            "avatars.surface_body.avatar:load_surface_body",
            "avatars.surface_body.trainer:SurfaceTrainer",
        ),
        Method(
            "text_edit",
            "Edit of any avatar by a prompt (GaussianAvatar-Editor)",
            "avatars.text_edit.results:no_avatar",
            "avatars.text_edit.trainer:EditTrainer",
            "avatars.text_edit.results:write_edit",
        ),
        Method(
            "gaussian_head",
            "Gaussian head (GaussianAvatars): imported",
            "avatars.gaussian_head.avatar:load_gaussian_head",
            "",
        ),
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
    if not trainer:
        known = [method.name for method in METHODS.values() if method.trainer]
        raise BadAvatar(f"avatars of method {name!r} are imported, not trained", expected=", ".join(known))
    return resolve_name(trainer)  # type: ignore[no-any-return]
