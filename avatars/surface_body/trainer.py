"""Training of signed-distance bodies, as the shared loop asks for it: volumes, then the mesh, then its Gaussians."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from avatars.captures.capture import Capture
from avatars.captures.units import check_views
from avatars.lighting.irradiance import environment_irradiance
from avatars.rendering.rasterise import Rasterised, rasterise
from avatars.surface_body.avatar import SurfaceAvatar
from avatars.surface_body.face_stage import FaceStage, HasMesh
from avatars.surface_body.mesh_stage import MeshStage
from avatars.surface_body.model import SurfaceModel
from avatars.surface_body.parity_stage import ParityStage
from avatars.surface_body.poses import PoseResidual
from avatars.surface_body.reach import check_reach
from avatars.surface_body.refined_poses import RefinedPoses
from avatars.surface_body.stages import Stage, stage_at
from avatars.surface_body.storage import field_description, field_tensors
from avatars.surface_body.volume_stage import VolumeStage
from avatars.training import ranks
from avatars.training.config import TrainConfig
from avatars.training.data import Batch, Pictures
from avatars.training.trainer import RatedParameter

POSES_FINAL = 0.1


def make_poses(config: TrainConfig, model: SurfaceModel, capture: Capture) -> PoseResidual | RefinedPoses:
    """What corrects the recording's poses."""
    networks = config.surface.parity.networks
    if config.surface.parity.wanted:
        return RefinedPoses(networks, capture, model.body, torch.Generator().manual_seed(config.seed))
    return PoseResidual(capture, model.body)


def make_volume_stage(config: TrainConfig, model: SurfaceModel, poses: PoseResidual | RefinedPoses) -> VolumeStage:
    """The volumetric stage that the configuration asks for."""
    if isinstance(poses, RefinedPoses):
        return ParityStage(config, model, poses)
    return VolumeStage(config, model, poses)


class SurfaceTrainer:
    """A `Trainer` of one person from one capture. Raises BadTemplate where the capture's template is no whole body,
    BadCapture for too few views or a person who is not where the template is."""

    def __init__(self, config: TrainConfig, capture: Capture, device: str) -> None:
        check_views(capture)
        self.config, self.capture, self.device = config, capture, torch.device(device)
        self.model = SurfaceModel(config.surface, capture.template, self.device, config.seed)
        self.model.weights.prepare(config.seed)
        self.poses = make_poses(config, self.model, capture)
        self.volume = make_volume_stage(config, self.model, self.poses)
        check_reach(capture, self.volume)
        shares, person = config.surface.stages, self.model.body.person
        self.stages: dict[int, Stage] = {0: self.volume}
        with_mesh: HasMesh = self.volume
        if shares.mesh > 0:
            self.stages[1] = with_mesh = MeshStage(
                config.surface.mesh,
                person,
                self.poses,
                self.volume,
                most_faces=config.surface.faces,
                begins=shares.volume,
                ends=shares.volume + shares.mesh,
                images=config.schedule.images,
                temporal=config.surface.poses.temporal,
                seed=config.seed,
                lpips_folder=config.losses.lpips_folder,
            )
        self.faces = FaceStage(
            config.surface.gaussians,
            person,
            self.poses,
            with_mesh,
            begins=shares.volume + shares.mesh,
            images=config.schedule.images,
        )
        if shares.volume + shares.mesh < 1:
            self.stages[2] = self.faces
        self.stage = 0
        self.avatar: SurfaceAvatar | None = None

    def parameters(self) -> tuple[RatedParameter, ...]:
        """All tensors of all stages, and the poses."""
        found = [entry for stage in self.stages.values() for entry in stage.parameters()]
        wanted, total = self.config.surface.poses, self.config.schedule.images
        parity = self.config.surface.parity
        final = parity.rates.final if parity.wanted else POSES_FINAL
        if wanted.refine:
            for name, value in self.poses.named_parameters():
                found.append(RatedParameter(f"poses.{name}", value, wanted.rate, wanted.rate * final, total))
        return tuple(found)

    def _moved_on(self, at: float) -> float:
        """Begin the stage that a position in images is in, if it has not; how far into it that is, 0..1."""
        number, share = stage_at(self.config.surface.stages, at / self.config.schedule.images)
        while self.stage < number:
            self.stage = min(later for later in self.stages if later > self.stage)
            self.stages[self.stage].begin()
            ranks.align(self)
        return share

    def losses(self, batch: Batch, at: float) -> dict[str, Tensor]:
        """Named terms of a batch, already weighted."""
        share = self._moved_on(at)
        return self.stages[self.stage].losses(batch, share)

    def prepared(self, pictures: Pictures, images: tuple[int, ...]) -> Pictures:
        """As they are."""
        return pictures

    def after_step(self, batch: Batch, at: float) -> None:
        """What the present stage does between steps."""
        _, share = stage_at(self.config.surface.stages, at / self.config.schedule.images)
        self.stages[self.stage].after_step(batch, share)

    def render(self, batch: Batch) -> Rasterised:
        """The person as the present stage has them; from `finish` on as the avatar is."""
        if self.avatar is not None:
            posed = self.avatar.pose(*self.poses.of(batch.frames, corrected=self.config.surface.poses.refine))
            posed = posed.seen_from(batch.cameras.positions())
            return rasterise(posed, batch.cameras, posed.colours)
        return self.stages[self.stage].render(batch)

    def state(self) -> Mapping[str, Tensor]:
        """Each stage's own, and which is under way."""
        found = {"stage": torch.tensor(self.stage)}
        for number, stage in self.stages.items():
            found |= {f"{number}.{name}": value for name, value in stage.state().items()}
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        self.stage = int(state["stage"])
        for number, stage in self.stages.items():
            own = {
                key.removeprefix(f"{number}."): value for key, value in state.items() if key.startswith(f"{number}.")
            }
            stage.restore(own)

    def finish(self) -> SurfaceAvatar:
        """The trained avatar: the mesh with Gaussians on its faces, as the last stage left them."""
        kept = self.config.surface.keep_field
        motion, light = np.asarray(self.capture.motion.rotations, np.float32), self.capture.environment
        self.avatar = self.faces.avatar(
            motion[self.capture.images[self.capture.split("train")[0]].frame],
            field=field_tensors(self.model) if kept else None,
            field_description=field_description(self.model) if kept else None,
            captured_irradiance=None if light is None else environment_irradiance(light).to(self.device),
        )
        return self.avatar

    def gaussians(self) -> int:
        """None while there is no mesh."""
        return self.faces.gaussians()
