"""Training of implicit teachers, as the shared loop asks for it. A step is one picture; rays are drawn from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from avatars.avatar import Avatar
from avatars.captures.capture import Capture
from avatars.relit_field.body import PosedBody
from avatars.relit_field.corrected_poses import CorrectedPoses
from avatars.relit_field.fused import fusing
from avatars.relit_field.inverse_skinning import PART_JOINTS
from avatars.relit_field.model import TeacherModel
from avatars.relit_field.objective import losses
from avatars.relit_field.picture import picture
from avatars.relit_field.rays import choose_pixels, pixel_rays
from avatars.relit_field.settings import TeacherConfig
from avatars.rendering.rasterise import Rasterised
from avatars.training import ranks
from avatars.training.config import TrainConfig
from avatars.training.data import Batch, Pictures
from avatars.training.sampler import seeds
from avatars.training.trainer import RatedParameter
from shared.errors import BadAvatar

BETAS = (0.9, 0.99)
MOST_POSES = 1024
"""Of half a megabyte each, at the published size."""


class TeacherTrainer:
    """A `Trainer` of one teacher from one capture. Raises BadTemplate where the capture's template is no whole body.

    splits_rays: where there are fewer pictures than processes, each takes a part of every picture's rays.
    """

    splits_rays = True

    def __init__(self, config: TrainConfig, capture: Capture, device: str) -> None:
        self.config, self.capture, self.device = config, capture, torch.device(device)
        self.model = TeacherModel(config.teacher, capture.template, self.device, config.seed)
        self.rotations, self.translations = (
            torch.from_numpy(np.array(values)).to(self.device)
            for values in (capture.motion.rotations, capture.motion.translations)
        )
        self.generator = torch.Generator(self.device).manual_seed(config.seed + 1)
        self.drawing = torch.Generator(self.device)
        self.poses: dict[int, PosedBody] = {}
        self.at, self.since_refresh = 0.0, 0
        names = self.model.person.body.template.arrays.joint_names
        self.turned_joints = tuple(name for name in PART_JOINTS if name in names)
        turning = [names.index(name) for name in self.turned_joints]
        self.turning = torch.tensor(turning, device=self.device)
        self.turns = torch.nn.Parameter(torch.zeros(len(self.rotations), len(turning), 3, device=self.device))
        self.shifts = torch.nn.Parameter(torch.zeros(len(self.rotations), 3, device=self.device))

    def parameters(self) -> tuple[RatedParameter, ...]:
        """All tensors to train, by name."""
        rates = self.config.teacher.rates
        fields = tuple(
            RatedParameter(
                name,
                parameter,
                rates.rate,
                rates.rate,
                1,
                betas=BETAS,
                warm_up_images=rates.warm_up,
                warm_up_share=rates.warm_up_share,
                drops=rates.drops,
                drop=rates.drop,
            )
            for name, parameter in self.model.parameters().items()
        )
        if not self.config.teacher.poses.correct:
            return fields
        rate = self.config.teacher.poses.rate
        moved = (("poses.turns", self.turns), ("poses.shifts", self.shifts))
        return fields + tuple(RatedParameter(name, value, rate, rate, 1, betas=BETAS) for name, value in moved)

    def posed(self, frame: int) -> PosedBody:
        """The body in a frame of the capture, corrected where that is learned."""
        body = self.model.person.body
        kept = self.poses.get(frame)
        if kept is None:
            kept = replace(body.posed(self.rotations[frame], self.translations[frame]), volume=None)
            if len(self.poses) < MOST_POSES:
                self.poses[frame] = kept
        if not self.corrects():
            return body.blended(kept)
        rotations = self.rotations[frame].index_add(0, self.turning, self.turns[frame])
        # Always the guide of the recorded pose: a run that goes on must not see other boxes.
        return body.posed(rotations, self.translations[frame] + self.shifts[frame], kept.guide)

    def corrects(self) -> bool:
        """Whether poses are corrected at this point of the schedule."""
        return self.config.teacher.poses.correct and self.at >= self.config.teacher.poses.starts_at

    def corrections(self) -> CorrectedPoses | None:
        """What was found of the recording's poses; None where that is not learned."""
        if not self.config.teacher.poses.correct:
            return None
        turns, shifts = (value.detach().cpu().numpy() for value in (self.turns, self.shifts))
        return CorrectedPoses(self.capture.numbers_digest(), self.turned_joints, turns.copy(), shifts.copy())

    def losses(self, batch: Batch, at: float) -> dict[str, Tensor]:
        """Named terms of a batch, already weighted: the means over its pictures."""
        self.at = at
        found: dict[str, Tensor] = {}
        count = len(batch.frames)
        targets, alphas = batch.target(), batch.alpha()
        part = batch.part or ranks.Part(0, count, count)
        wanted, every = self.config.teacher, part.of(torch.tensor(seeds(part.whole, self.generator))).tolist()
        if part.split:
            wanted = _some_rays(wanted, ranks.count())
            every = [seed + ranks.rank() for seed in every]
        for number, frame in enumerate(batch.frames.tolist()):
            pose = self.posed(frame)
            self.drawing.manual_seed(every[number])
            pixels = choose_pixels(alphas[number], wanted.march, self.drawing)
            rays = pixel_rays(batch.cameras.one(number), pixels.flip(1) + 0.5, pose.low, pose.high)
            with fusing(wanted.fused):
                terms = losses(
                    self.model.person,
                    self.model.light,
                    pose,
                    rays,
                    targets[number][pixels[:, 0], pixels[:, 1]],
                    alphas[number][pixels[:, 0], pixels[:, 1]],
                    batch.backgrounds[number],
                    wanted,
                    at,
                    self.drawing,
                )
            if self.corrects():
                far = self.turns[frame].square().mean() + self.shifts[frame].square().mean()
                terms["poses"] = self.config.teacher.poses.weight * far
            for name, value in terms.items():
                found[name] = found.get(name, 0) + value / count
        return found

    def prepared(self, pictures: Pictures, images: tuple[int, ...]) -> Pictures:
        """As they are: rays are drawn from whole pictures."""
        return pictures

    def after_step(self, batch: Batch, at: float) -> None:
        """Look where there is anything, every so many steps; once anew."""
        march = self.config.teacher.march
        self.since_refresh += 1
        step = len(batch.frames) if batch.part is None else batch.part.whole
        anew = at < march.occupancy_anew <= at + step
        if self.since_refresh >= march.occupancy_every or anew:
            self.since_refresh = 0
            person = self.model.person
            person.occupancy.refresh(person.fields, person.step_m(), self.levels(at), self.generator, anew=anew)

    def levels(self, at: float) -> int:
        """How many levels of the grids are open."""
        return self.model.person.fields.shape_grid.open_levels(at)

    def render(self, batch: Batch) -> Rasterised:
        """The radiance field in the batch's poses and cameras, premultiplied, without background or gradients."""
        images = [
            picture(
                self.model.person,
                self.posed(frame),
                batch.cameras.one(number),
                self.config.teacher,
                light=None,
                levels=self.levels(self.at),
                maps=False,
            )
            for number, frame in enumerate(batch.frames.tolist())
        ]
        alpha = torch.cat([image.alpha for image in images])
        colours = torch.cat([image.radiance for image in images])
        return Rasterised(colours * alpha[..., None], alpha, torch.cat([image.depth_m for image in images]))

    def state(self) -> Mapping[str, Tensor]:
        """Random numbers, occupancy and how long ago it was looked at."""
        return {
            "generator": self.generator.get_state(),
            "occupancy": self.model.person.occupancy.opacity,
            "position": torch.tensor((self.at, float(self.since_refresh)), dtype=torch.float64),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        try:
            self.generator.set_state(state["generator"].clone())
        except RuntimeError:  # stored on another kind of device
            self.generator.manual_seed(self.config.seed + 2)
        self.model.person.occupancy.opacity = state["occupancy"].to(self.device).clone()
        at, since = state["position"].tolist()
        self.at, self.since_refresh = at, int(since)

    def finish(self) -> Avatar:
        """Raises BadAvatar: a teacher is distilled into an avatar; `results.write_teacher` stores it."""
        raise BadAvatar(
            "a teacher is no avatar yet",
            do="Distil it: effigy train --preset relit_body --set relit.teacher=NAME.teacher",
        )

    def gaussians(self) -> int:
        """None: it is a field."""
        return 0


def _some_rays(config: TeacherConfig, processes: int) -> TeacherConfig:
    """The part of a step's rays that one of several processes draws."""
    march = replace(config.march, rays=-(-config.march.rays // processes))
    return replace(config, march=march, light=replace(config.light, rays=-(-config.light.rays // processes)))
