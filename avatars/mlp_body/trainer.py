"""Training of MMLPHuman bodies (CVPR 2025; method page A), as the shared loop asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from avatars.captures.capture import Capture
from avatars.lighting.irradiance import environment_irradiance
from avatars.mlp_body.avatar import MlpBodyAvatar
from avatars.mlp_body.cuda_express import usable
from avatars.mlp_body.express import Places
from avatars.mlp_body.graphed import GraphedStep
from avatars.mlp_body.initial import new_body
from avatars.mlp_body.memory import check_memory
from avatars.mlp_body.model import Drive
from avatars.mlp_body.objective import BodyObjective, draw
from avatars.mlp_body.pictures import body_pictures
from avatars.rendering.rasterise import Rasterised
from avatars.training.config import TrainConfig
from avatars.training.data import Batch, Pictures
from avatars.training.refine import TrackRefinement, is_refined
from avatars.training.trainer import RatedParameter

KEPT_BYTES, BYTES_PER_PLACE = 1 << 30, 76
"""Posed bodies of frames are kept up to this much on the CPU, where posing them costs a third of a step."""


class MlpBodyTrainer:
    """A `Trainer` of one body from one capture.

    Raises BadCapture, BadTemplate when the capture's template is not at hand, and EnvironmentFailed where the device's
    memory is too small for the configuration.
    """

    def __init__(self, config: TrainConfig, capture: Capture, device: str) -> None:
        self.config, self.capture, self.device = config, capture, torch.device(device)
        check_memory(config, self.device)
        motion, frames = capture.motion, list(capture.training_frames())
        light = capture.environment
        self.model = new_body(
            capture.template,
            config.body,
            seed=config.seed,
            rotations=motion.rotations[frames],
            expressions=motion.expressions[frames],
            rest_pose=motion.rotations[frames[0]],
            captured_irradiance=environment_irradiance(light) if light is not None else None,
            clothed=capture.clothed_template,
        ).moved_to(device)
        self.rotations, self.translations, self.expressions = (
            torch.from_numpy(np.array(values)).to(self.device)
            for values in (motion.rotations, motion.translations, motion.expressions)
        )
        with torch.no_grad():
            # Poses that no training image shows are novel ones: held inside the others, as the avatar will hold them.
            own = self.model.theta(self.rotations, self.expressions)
            known = torch.zeros(len(own), 1, dtype=torch.bool, device=self.device)
            known[frames] = True
            self.theta = torch.where(known, own, self.model.clamped(own))
            # Without refinement the skeleton of each frame stays what it is.
            self.skinning = self.model.canonical.skeleton.skinning(self.rotations, self.translations, self.expressions)
        self.turn_shift = self.place_shift = None
        if config.body.refine_pose_from >= 0:
            self.turn_shift = nn.Parameter(torch.zeros_like(self.rotations))
            self.place_shift = nn.Parameter(torch.zeros_like(self.translations))
        self.refinement: TrackRefinement | None = None
        if is_refined(config.refine, capture):  # cameras stay: a body is filmed by many, or its size is not known
            self.refinement = TrackRefinement(replace(config.refine, focal=0.0), capture, self.device)
        self.exposure: nn.Parameter | None = None
        if config.body.exposure:
            straight = torch.eye(3, 4, device=self.device).expand(len(capture.cameras), -1, -1)
            self.exposure = nn.Parameter(straight.clone())
        used = sorted({capture.images[index].camera for index in capture.split("train")})
        self.lenses = torch.tensor(used, dtype=torch.int64, device=self.device)
        self.kept: dict[int, Places] = {}
        self.objective = BodyObjective(config, self.model, self.exposure)
        self.graphed = GraphedStep(self.model) if usable(self.model.neutral) else None

    def gaussians(self) -> int:
        """How many Gaussians are being trained."""
        return len(self.model)

    def parameters(self) -> tuple[RatedParameter, ...]:
        """All tensors to train, with their rates."""
        found = self.objective.parameters()
        rate, total = self.config.body.rates.pose, self.config.schedule.images
        for name, parameter in (("turn_shift", self.turn_shift), ("place_shift", self.place_shift)):
            if parameter is not None:
                found += (RatedParameter(name, parameter, rate, rate * self.config.body.rates.final, total),)
        if self.refinement is not None:
            found += self.refinement.parameters_for(total, self.config.schedule.batch)
        return found

    def _skinning(self, frames: Tensor, *, refined: bool) -> Tensor:
        """Joints' matrices [U, J, 3, 4] of frames [U]."""
        if refined and self.refinement is not None:
            return self.model.canonical.skeleton.skinning(*self.refinement.of(frames))
        if not refined or self.turn_shift is None or self.place_shift is None:
            return self.skinning[frames]
        turned = self.rotations[frames] + self.turn_shift[frames]
        moved = self.translations[frames] + self.place_shift[frames]
        return self.model.canonical.skeleton.skinning(turned, moved, self.expressions[frames])

    def _drive(self, frames: Tensor, *, refined: bool) -> Drive:
        """The poses of frames [U]."""
        if self.device.type == "cpu" and self.turn_shift is None and self.refinement is None:
            return Drive(self.theta[frames], self._kept(frames))
        skinning = self._skinning(frames, refined=refined)
        return Drive(self.theta[frames], self.model.placed_by(skinning, self.expressions[frames]))

    def _kept(self, frames: Tensor) -> Places:
        """Posed bodies on the CPU; each frame is posed once while they fit."""
        found = []
        for frame in frames.tolist():
            one = self.kept.get(frame)
            if one is None:
                this = slice(frame, frame + 1)
                with torch.no_grad():
                    one = self.model.placed_by(self.skinning[this], self.expressions[this])
                if (len(self.kept) + 1) * len(self.model) * BYTES_PER_PLACE <= KEPT_BYTES:
                    self.kept[frame] = one
            found.append(one)
        if len(found) == 1:
            return found[0]
        return Places(*(torch.cat([getattr(one, name) for one in found]) for name in ("rest", "transforms", "turns")))

    def losses(self, batch: Batch, at: float) -> dict[str, Tensor]:
        """Named terms of a batch, already weighted. `schedule.views` pictures of one frame follow each other."""
        firsts, rows = self._poses(batch)
        refined = 0 <= self.config.body.refine_pose_from <= at
        if self.refinement is not None:
            refined = at >= self.config.refine.start * self.config.schedule.images
        frames = batch.frames[firsts]
        if self.graphed is not None:
            drive = (self.theta[frames], self._skinning(frames, refined=refined), self.expressions[frames])
            active, view_dependent = self.objective.stage(at)
            expressed, controls = self.graphed(*drive, active=active, view_dependent=view_dependent)
        else:
            expressed, controls = self.objective.expressed(self._drive(frames, refined=refined), at)
        terms = self.objective.losses(expressed, controls, rows, batch, at)
        if refined and self.config.body.losses.pose > 0 and self.turn_shift is not None:
            terms["pose"] = self.config.body.losses.pose * self.turn_shift[frames].square().mean()
        if refined and self.refinement is not None:
            terms["track"] = self.refinement.penalty(frames)
        return terms

    def _poses(self, batch: Batch) -> tuple[slice | Tensor, Tensor]:
        """The first picture of each of a batch's U poses, and which of them each of its pictures [B] shows."""
        views, count = self.config.schedule.views, len(batch.frames)
        before, whole = (0, count) if batch.part is None else (batch.part.first, batch.part.whole)
        if whole % views:
            views = 1
        rows = (torch.arange(before, before + count, device=self.device) // views) - before // views
        if before % views == 0:
            return slice(None, None, views), rows
        starts = [0, *range(views - before % views, count, views)]  # another process has the first of this pose
        return torch.tensor(starts, device=self.device), rows

    def prepared(self, pictures: Pictures, images: tuple[int, ...]) -> Pictures:
        """Training pictures cut to the person and without the mask's edge, as the configuration asks."""
        return body_pictures(pictures, self.capture, images, self.config.body)

    def after_step(self, batch: Batch, at: float) -> None:
        """Gaussians are neither added nor dropped; cameras' colour maps stay straight on average.

        Else all maps and all the person's colours could drift against each other, and the avatar would look wrong.
        """
        if self.refinement is not None:
            self.refinement.centre()
        if self.exposure is not None:
            with torch.no_grad():
                mean = self.exposure[self.lenses].mean(0)
                self.exposure[self.lenses] += torch.eye(3, 4, device=self.device) - mean

    def render(self, batch: Batch) -> Rasterised:
        """The model in the batch's poses and cameras as the avatar will look, without background or gradients."""
        with torch.no_grad():
            drive = self._drive(batch.frames, refined=True)
            expressed, _ = self.model(drive, active=True, view_dependent=self.model.view_dependent)
            return draw(expressed, torch.arange(len(batch.frames), device=self.device), batch)

    def retable(self) -> None:
        """Nothing: poses are made anew each time where they are refined."""

    def state(self) -> Mapping[str, Tensor]:
        """Nothing: all that changes is in the parameters."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to restore."""

    def finish(self) -> MlpBodyAvatar:
        """The avatar. From then on `render` shows it as it will be stored."""
        if self.config.body.half:
            with torch.no_grad():
                for parameter in self.model.parameters():
                    parameter.copy_(parameter.half().float())
        return MlpBodyAvatar(self.model, half=self.config.body.half)
