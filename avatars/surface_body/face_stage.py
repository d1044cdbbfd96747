"""Stage C: Gaussians on the faces of the trained mesh, which no longer changes (method page 12.6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.relit_body.person import Person
from avatars.rendering.rasterise import Rasterised, rasterise
from avatars.surface_body.avatar import SurfaceAvatar
from avatars.surface_body.face_settings import FaceSettings
from avatars.surface_body.faces import PARAMETERS, FaceGaussians, first_gaussians, on_faces, spare_rows
from avatars.surface_body.mesh_state import MeshState
from avatars.surface_body.posing import PosedMesh, posed_gaussians, posed_surface
from avatars.training.data import Batch
from avatars.training.losses import dssim_loss, l1_loss
from avatars.training.trainer import RatedParameter

LATEST = 0.95
"""Share of the schedule after which a stage that begins is too short for rates of its own."""
Pose = tuple[Tensor, Tensor, Tensor]


class Poses(Protocol):
    """Poses of a recording as they are known now."""

    def of(self, frames: Tensor) -> Pose:
        """Rotations [B, J, 3] rad, translations [B, 3] m and expressions [B, E] of frames [B]."""


class HasMesh(Protocol):
    """The stage before."""

    def mesh_state(self) -> MeshState:
        """The mesh as it is now, without gradients; always the same once that stage is over."""


class FaceStage:
    """A stage of the trainer. Its tensors have room for settings.count Gaussians from the start; how many are in use,
    and on which faces, is decided when it begins.

    begins: share of the schedule of `images` at which it begins, for the rates.
    """

    def __init__(
        self,
        settings: FaceSettings,
        person: Person,
        poses: Poses,
        previous: HasMesh,
        *,
        begins: float,
        images: int,
    ) -> None:
        self.settings, self.person, self.poses, self.previous = settings, person, poses, previous
        self.begins, self.images = min(max(begins, 0.0), LATEST), images
        device = person.joints.device
        count = settings.count
        rows = {name: value.to(device) for name, value in spare_rows(count).items()}
        self.model = FaceGaussians(rows, torch.zeros(count, dtype=torch.int64, device=device))
        self.used = 0
        self.mesh: MeshState | None = None
        self.posed_mesh: PosedMesh | None = None

    def parameters(self) -> tuple[RatedParameter, ...]:
        """All tensors, with rates in images of the whole run."""
        final, before = self.settings.final, self.begins / (1 - self.begins)
        found = []
        for name, rate in self.settings.rates().items():
            start = rate * final**-before  # so that it is `rate` where the stage begins
            found.append(RatedParameter(f"faces.{name}", getattr(self.model, name), start, rate * final, self.images))
        return tuple(found)

    @property
    def begun(self) -> bool:
        """Whether there are Gaussians yet."""
        return self.used > 0

    def begin(self) -> None:
        """Put Gaussians on the mesh of the stage before, in its colours."""
        mesh = self.previous.mesh_state()
        made, self.used = first_gaussians(mesh.vertices, mesh.faces, mesh.look, self.settings.opacity, len(self.model))
        with torch.no_grad():
            for name in PARAMETERS:
                getattr(self.model, name).copy_(getattr(made, name))
            self.model.face.copy_(made.face)
        self._take(mesh)

    def _take(self, mesh: MeshState) -> None:
        self.mesh = mesh
        self.posed_mesh = PosedMesh(self.person, mesh, self.model.face[: self.used])

    def posed(self, pose: Pose) -> PosedGaussians:
        """Those in use, in poses as `Poses.of` gives them; differentiable by what is trained."""
        assert self.posed_mesh is not None, "the stage has begun"
        values = {name: getattr(self.model, name)[: self.used] for name in PARAMETERS}
        with torch.no_grad():
            surface = posed_surface(self.posed_mesh, *pose, normals=False)
        places = on_faces(values["offsets"], values["turns"], values["scales"], self.posed_mesh.canonical_corners)
        posed = posed_gaussians(surface, places, values["opacities"], values["colours"], values["tints"])
        return replace(posed, sharp=self.settings.sharp)

    def losses(self, batch: Batch, share: float) -> dict[str, Tensor]:
        """Named terms, already weighted."""
        wanted = self.settings
        with torch.no_grad():
            pose = self.poses.of(batch.frames)
        posed = self.posed(pose).seen_from(batch.cameras.positions())
        image = rasterise(posed, batch.cameras, posed.colours, background=batch.backgrounds, depth=False)
        shown, target, alpha, cover = image.features, batch.target(), image.alpha, batch.alpha()
        if batch.ignored is not None:
            shown = torch.where(batch.ignored[..., None], target, shown)
            alpha = torch.where(batch.ignored, cover, alpha)
        terms = {
            "picture": wanted.picture * (1 - wanted.dssim) * l1_loss(shown, target),
            "mask": wanted.mask * (alpha - cover).abs().mean(),
            "size": wanted.size * (posed.scales.amax(-1) - wanted.size_limit_m).clamp(min=0).mean(),
            "tint": wanted.tint * self.model.tints[: self.used].square().mean(),
        }
        if wanted.dssim:
            terms["dssim"] = wanted.picture * wanted.dssim * dssim_loss(shown, target)
        return terms

    def after_step(self, batch: Batch, share: float) -> None:
        """Nothing."""

    def render(self, batch: Batch) -> Rasterised:
        """The person in the batch's poses and cameras, premultiplied, without background or gradients."""
        with torch.no_grad():
            posed = self.posed(self.poses.of(batch.frames)).seen_from(batch.cameras.positions())
            return rasterise(posed, batch.cameras, posed.colours)

    def state(self) -> Mapping[str, Tensor]:
        """How many are in use, and on which faces."""
        return {"used": torch.tensor(self.used), "face": self.model.face}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`; parameters and the stage before must have been restored."""
        self.used = int(state["used"])
        self.model.face.copy_(state["face"])
        if self.begun:
            self._take(self.previous.mesh_state())

    def gaussians(self) -> int:
        """How many are in use."""
        return self.used

    def avatar(
        self,
        rest_pose: NDArray[np.float32],
        *,
        field: Mapping[str, Tensor] | None = None,
        field_description: Mapping[str, Any] | None = None,
        captured_irradiance: Tensor | None = None,
    ) -> SurfaceAvatar:
        """The finished person, without faint Gaussians; where the stage never began, with those it would begin with."""
        if not self.begun:
            self.begin()
        assert self.mesh is not None
        strong = torch.sigmoid(self.model.opacities.detach()) >= self.settings.faint
        strong[self.used :] = False
        model = self.model.kept(strong.nonzero()[:, 0])
        return SurfaceAvatar(
            self.person,
            self.mesh,
            model,
            rest_pose,
            field=field,
            field_description=field_description,
            captured_irradiance=captured_irradiance,
            sharp=self.settings.sharp,
        )
