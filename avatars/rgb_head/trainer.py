"""Training of RGBAvatar heads (CVPR 2025; method page 3 and 5), as the shared loop asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from avatars.captures.capture import Capture
from avatars.gaussians.binding import Anchors, anchors, stack_anchors
from avatars.lighting.irradiance import environment_irradiance
from avatars.rendering.rasterise import Rasterised
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.rgb_head.driving import HEAD_JOINTS, reheld, unheld
from avatars.rgb_head.fill import Beginning, filled
from avatars.rgb_head.first_look import look, look_pictures, shown
from avatars.rgb_head.initial import new_head
from avatars.rgb_head.model import RgbHead, Surface
from avatars.rgb_head.objective import HeadObjective
from avatars.training import ranks
from avatars.training.config import TrainConfig
from avatars.training.data import Batch, Pictures
from avatars.training.refine import Correction, TrackRefinement, is_refined, pixel_weights, track_terms
from avatars.training.trainer import RatedParameter

FAINT = 0.004
"""Gaussians below this opacity (1/255) are dropped from the finished avatar: the rasteriser skips them anyway."""
BYTES_PER_ANCHOR, KEPT_BYTES = 64, 512 << 20


class RgbHeadTrainer:
    """A `Trainer` of one head from one capture.

    With model.first_look_px what no image shows is left out, and the rest bound so finely that the target count comes
    out. Raises BadCapture, and BadTemplate when the capture's template is not at hand. record: as in `HeadObjective`.
    """

    def __init__(self, config: TrainConfig, capture: Capture, device: str, *, record: bool = True) -> None:
        self.config, self.device = config, torch.device(device)
        motion, frames = capture.motion, list(capture.training_frames())
        rest_pose = motion.rotations[frames].mean(0)
        for name in HEAD_JOINTS:
            if name in capture.joint_names:
                rest_pose[capture.joint_names.index(name)] = 0
        light = capture.environment

        def bound(gaussians: float) -> RgbHead:
            return new_head(
                capture.template,
                replace(config.model, target_gaussians=round(gaussians)),
                seed=config.seed,
                rotations=motion.rotations[frames],
                translations=motion.translations[frames],
                expressions=motion.expressions[frames],
                rest_pose=rest_pose,
                captured_irradiance=environment_irradiance(light) if light is not None else None,
                vertex_offset=capture.vertex_offset,
            ).moved_to(device)

        self.model = bound(config.model.target_gaussians)
        with torch.no_grad():
            drive = [
                torch.from_numpy(np.array(values)).to(self.device)
                for values in (motion.rotations, motion.translations, motion.expressions)
            ]
            self.theta = self.model.theta(*drive)
            self.vertices = torch.cat(
                [self.model.head.posed_vertices(*(part[i : i + 1] for part in drive)) for i in range(len(motion))]
            )
        self.beginning: Beginning | None = None
        self.pictures: Pictures | None = None
        if config.model.first_look_px:
            pictures = look_pictures(capture, config.model.first_look_px, self.device)
            (share,) = ranks.first_says(
                [float(shown(self.model, look(self.model, self.vertices, pictures)).float().mean())]
            )
            self.model = bound(config.model.target_gaussians / max(share, 0.05))
            weights = look(self.model, self.vertices, pictures)
            found = ranks.of_first({"shown": shown(self.model, weights)})["shown"].to(self.device)
            self.beginning, self.pictures = Beginning(self.model, torch.nonzero(found)[:, 0], weights), pictures
            self.model = self.model.kept(found)
        self.surfaces: dict[int, Anchors] = {}
        self.refinement = (
            TrackRefinement(config.refine, capture, self.device) if is_refined(config.refine, capture) else None
        )
        if self.refinement is not None:
            self.model.driving_range = unheld(self.model.driving_range)
        self.objective = HeadObjective(config, self.model, record=record)

    def surface(self, frames: Tensor) -> Surface:
        """The surface in frames [B]. On the CPU each frame's anchors are kept while they fit, as no mesh is trained."""
        if self.device.type != "cpu":
            return self.model.surface(self.vertices, frames)
        found: list[Anchors] = []
        for frame in frames.tolist():
            one = self.surfaces.get(frame)
            if one is None:
                one = anchors(self.model.binding, self.vertices[frame : frame + 1], self.model.frame)
                if (len(self.surfaces) + 1) * len(self.model) * BYTES_PER_ANCHOR <= KEPT_BYTES:
                    self.surfaces[frame] = one
            found.append(one)
        return found[0] if len(found) == 1 else stack_anchors(found)

    def gaussians(self) -> int:
        """How many Gaussians are being trained."""
        return len(self.model)

    def parameters(self) -> tuple[RatedParameter, ...]:
        """All tensors to train, with their rates."""
        if self.refinement is None:
            return self.objective.parameters()
        plan = self.config.schedule
        return (*self.objective.parameters(), *self.refinement.parameters_for(plan.images, plan.batch))

    def seen(self, batch: Batch) -> Batch:
        """The batch through its cameras as they have been refined."""
        return batch if self.refinement is None else replace(batch, cameras=self.refinement.cameras(batch.cameras))

    def corrected(self, batch: Batch, at: float) -> tuple[Tensor, Correction | None]:
        """θ [B, D] of a batch and what is known of its track's errors; poses on the way are kept in the tables."""
        track, frames = self.refinement, batch.frames
        if track is None:
            return self.theta[frames], None
        wanted = self.config.refine
        weights = pixel_weights(batch.alpha(), track.trust[frames], wanted.edge_px, wanted.edge_weight)
        if at < wanted.start * self.config.schedule.images:
            return self.theta[frames], Correction(track, weights, None)
        pose = track.of(frames)
        theta, vertices = self.model.theta(*pose), self.model.head.posed_vertices(*pose)
        self._keep(frames, theta, vertices)
        binding = self.model.binding
        points = (vertices[:, binding.triangles[binding.face]] * binding.barycentrics[:, :, None]).sum(2)
        return theta, Correction(track, weights, points)

    def _keep(self, frames: Tensor, theta: Tensor, vertices: Tensor) -> None:
        self.theta[frames], self.vertices[frames] = theta.detach(), vertices.detach()
        if self.surfaces:
            for frame in frames.tolist():
                self.surfaces.pop(frame, None)

    def retable(self) -> None:
        """Pose every frame anew with what has been refined so far."""
        if self.refinement is None:
            return
        with torch.no_grad():
            for frame in torch.arange(len(self.theta), device=self.device).split(8):
                pose = self.refinement.of(frame)
                self._keep(frame, self.model.theta(*pose), self.model.head.posed_vertices(*pose))

    def losses(self, batch: Batch, at: float) -> dict[str, Tensor]:
        """Named terms of a batch, already weighted."""
        batch = self.seen(batch)
        theta, correction = self.corrected(batch, at)
        terms = self.objective.losses(theta, self.surface(batch.frames), batch, at, correction)
        return terms | track_terms(correction, batch)

    def prepared(self, pictures: Pictures, images: tuple[int, ...]) -> Pictures:
        """Heads fill their pictures: as they are."""
        return pictures

    def after_step(self, batch: Batch, at: float) -> None:
        """First colours for Gaussians seen for the first time."""
        self.objective.first_colours(self.theta[batch.frames], self.surface(batch.frames), self.seen(batch), at)
        if self.refinement is not None:
            self.refinement.centre()

    def render(self, batch: Batch) -> Rasterised:
        """The model in the batch's poses and cameras as the avatar will look, without background or gradients."""
        return self.objective.render(self.theta[batch.frames], self.surface(batch.frames), self.seen(batch))

    def state(self) -> Mapping[str, Tensor]:
        """Which Gaussians were seen, and for how many steps none was new."""
        return {"seen": self.model.seen.to(torch.uint8), "quiet_steps": self.objective.quiet_steps.reshape(1)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        self.model.seen.copy_(state["seen"].bool())
        self.objective.quiet_steps = state["quiet_steps"].reshape(()).to(self.device)
        self.retable()

    def hold_range(self) -> None:
        """Clip θ to what it has become in training, where the track was refined and nothing was clipped till then."""
        track, model = self.refinement, self.model
        if track is None:
            return
        places = track.of(track.trained)[1].detach()
        model.driving_range = reheld(model.driving_range, self.theta[track.trained], model.layout, places)

    def finish(self) -> RgbHeadAvatar:
        """The avatar without Gaussians that no image has shown or that faded; its unseen back guessed if wanted.

        From then on `render` shows it as it will be stored.
        """
        self.retable()
        self.hold_range()
        model = self.model
        if self.beginning is not None and self.pictures is not None and self.config.model.fill_unseen:
            model = filled(model, self.theta, self.vertices, self.pictures, self.beginning)
        visible = model.seen & (torch.sigmoid(model.opacities.detach()) > FAINT)
        self.model = model.kept(visible)
        self.objective = HeadObjective(self.config, self.model)
        self.surfaces.clear()
        return RgbHeadAvatar(self.model)
