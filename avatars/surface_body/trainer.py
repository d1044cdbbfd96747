"""Training of signed-distance bodies, as the shared loop asks for it: volumes, then the mesh, then its Gaussians."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from avatars.avatar import Avatar
from avatars.captures.capture import Capture
from avatars.rendering.rasterise import Rasterised
from avatars.surface_body.model import SurfaceModel
from avatars.surface_body.poses import PoseResidual
from avatars.surface_body.stages import stage_at
from avatars.surface_body.volume_stage import VolumeStage
from avatars.training.config import TrainConfig
from avatars.training.data import Batch, Pictures
from avatars.training.trainer import RatedParameter


class SurfaceTrainer:
    """A `Trainer` of one person from one capture. Raises BadTemplate where the capture's template is no whole body."""

    def __init__(self, config: TrainConfig, capture: Capture, device: str) -> None:
        self.config, self.capture, self.device = config, capture, torch.device(device)
        self.model = SurfaceModel(config.surface, capture.template, self.device, config.seed)
        self.poses = PoseResidual(capture, self.model.body)
        self.stages = (VolumeStage(config, self.model, self.poses),)
        self.stage = 0

    def parameters(self) -> tuple[RatedParameter, ...]:
        """All tensors of all stages, and the poses."""
        found = [entry for stage in self.stages for entry in stage.parameters()]
        wanted, total = self.config.surface.poses, self.config.schedule.images
        if wanted.refine:
            for name, value in self.poses.named_parameters():
                found.append(RatedParameter(f"poses.{name}", value, wanted.rate, wanted.rate * 0.1, total))
        return tuple(found)

    def _moved_on(self, at: float) -> float:
        """Begin the stage that a position in images is in, if it has not; how far into it that is, 0..1."""
        number, share = stage_at(self.config.surface.stages, at / self.config.schedule.images)
        number = min(number, len(self.stages) - 1)
        while self.stage < number:
            self.stage += 1
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
        """The person as the present stage has them."""
        return self.stages[self.stage].render(batch)

    def state(self) -> Mapping[str, Tensor]:
        """Each stage's own, and which is under way."""
        found = {"stage": torch.tensor(self.stage)}
        for number, stage in enumerate(self.stages):
            found |= {f"{number}.{name}": value for name, value in stage.state().items()}
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        self.stage = int(state["stage"])
        for number, stage in enumerate(self.stages):
            own = {key.removeprefix(f"{number}."): value for key, value in state.items() if key.startswith(f"{number}.")}
            stage.restore(own)

    def finish(self) -> Avatar:
        """The trained avatar."""
        raise NotImplementedError

    def gaussians(self) -> int:
        """None while there is no mesh."""
        return 0
