"""Training of RGBAvatar heads (CVPR 2025; method page 3 and 5), as the shared loop asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from avatars.captures.capture import Capture
from avatars.gaussians.binding import Anchors, stack_anchors
from avatars.lighting.irradiance import environment_irradiance
from avatars.rendering.rasterise import Rasterised, rasterise
from avatars.rendering.seen_colours import seen_colours
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.rgb_head.driving import HEAD_JOINTS
from avatars.rgb_head.fill import Beginning, filled
from avatars.rgb_head.first_look import is_layer, look, look_pictures, shown
from avatars.rgb_head.initial import new_head
from avatars.rgb_head.model import SH0, RgbHead
from avatars.training.config import TrainConfig
from avatars.training.data import Batch, Pictures
from avatars.training.image_loss import image_terms
from avatars.training.trainer import RatedParameter

SEEN_WEIGHT = 0.1
COLOUR_PATIENCE = 200
"""Steps without a newly seen Gaussian after which no more are looked for (method page 5)."""
FAINT = 0.004
"""Gaussians below this opacity (1/255) are dropped from the finished avatar: the rasteriser skips them anyway."""
BYTES_PER_ANCHOR, KEPT_BYTES = 64, 512 << 20


class RgbHeadTrainer:
    """A `Trainer` of one head from one capture.

    With model.first_look_px what no image shows is left out, and the rest bound so finely that the target count comes
    out. Raises BadCapture, and BadTemplate when the capture's template is not at hand.
    """

    def __init__(self, config: TrainConfig, capture: Capture, device: str) -> None:
        self.config, self.device = config, torch.device(device)
        motion, frames = capture.motion, list(capture.training_frames())
        rest_pose = motion.rotations[frames].mean(0)
        for name in HEAD_JOINTS:
            if name in capture.joint_names:
                rest_pose[capture.joint_names.index(name)] = 0
        light = capture.environment
        self.quiet_steps = 0

        def bound(gaussians: float) -> RgbHead:
            return new_head(
                capture.template,
                replace(config.model, target_gaussians=round(gaussians)),
                seed=config.seed,
                rotations=motion.rotations[frames],
                expressions=motion.expressions[frames],
                rest_pose=rest_pose,
                captured_irradiance=environment_irradiance(light) if light is not None else None,
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
            share = float(shown(self.model, look(self.model, self.vertices, pictures)).float().mean())
            self.model = bound(config.model.target_gaussians / max(share, 0.05))
            weights = look(self.model, self.vertices, pictures)
            found = shown(self.model, weights)
            self.beginning, self.pictures = Beginning(self.model, torch.nonzero(found)[:, 0], weights), pictures
            self.model = self.model.kept(found)
        self.surfaces: dict[int, Anchors] = {}
        self.start, self.reach_m = self._reach()

    def _reach(self) -> tuple[Tensor, Tensor]:
        """Where Gaussians started [N, 3], and how far [N] m they may go from there; layers of hair go farther."""
        binding, wanted = self.model.binding, self.config.losses
        table = [wanted.hair_limit_m if is_layer(name) else wanted.offset_limit_m for name in binding.group_names]
        return self.model.positions.detach().clone(), torch.tensor(table, device=self.device)[binding.group]

    def _surface(self, frames: Tensor) -> Anchors:
        """Anchors of frames [B]; each frame's are kept while they fit in memory, since the mesh is not trained."""
        found = []
        for frame in frames.tolist():
            one = self.surfaces.get(frame)
            if one is None:
                one = self.model.surface(self.vertices[frame : frame + 1])
                if (len(self.surfaces) + 1) * len(self.model) * BYTES_PER_ANCHOR <= KEPT_BYTES:
                    self.surfaces[frame] = one
            found.append(one)
        return found[0] if len(found) == 1 else stack_anchors(found)

    def gaussians(self) -> int:
        """How many Gaussians are being trained."""
        return len(self.model)

    def parameters(self) -> tuple[RatedParameter, ...]:
        """Attributes, deltas and network with the paper's rates per attribute; deltas follow their attribute's."""
        rates, total = self.config.rates, self.config.schedule.images
        model = self.model

        def rated(name: str, rate: float, final: float, until: int) -> RatedParameter:
            return RatedParameter(name, getattr(model, name), rate, final, until)

        last = rates.others_final
        position = (rates.position, rates.position_final, rates.position_until)
        found = [
            rated("positions", *position),
            rated(
                "position_deltas",
                rates.position * rates.delta_position,
                rates.position_final * rates.delta_position,
                position[2],
            ),
        ]
        for name, rate in (
            ("rotations", rates.rotation),
            ("scales", rates.scale),
            ("opacities", rates.opacity),
            ("colours", rates.colour),
            ("rotation_deltas", rates.rotation * rates.delta_rotation),
            ("colour_deltas", rates.colour * rates.delta_colour),
        ):
            found.append(rated(name, rate, rate * last, total))
        for name, parameter in model.network.named_parameters():
            found.append(RatedParameter(f"network.{name}", parameter, rates.network, rates.network * last, total))
        return tuple(found)

    def _weights(self, batch: Batch, at: float) -> Tensor | None:
        if at < self.config.schedule.deltas_from:
            return None
        return self.model.weights(self.theta[batch.frames])

    def losses(self, batch: Batch, at: float) -> dict[str, Tensor]:
        """L1, structural similarity, coverage, and the terms that keep Gaussians where unseen poses need them."""
        wanted = self.config.losses
        weights = self._weights(batch, at)
        posed = self.model.place(self._surface(batch.frames), weights, hide_unseen=False)
        drawn = rasterise(posed, batch.cameras, posed.colours, background=batch.backgrounds)
        terms = image_terms(drawn.features, drawn.alpha, batch.target(), batch.rgba[..., 3], wanted, at)
        model = self.model
        if wanted.offset > 0:
            away = (model.positions - self.start).norm(dim=-1) / self.reach_m - 1
            terms["offset"] = wanted.offset * away.clamp_min(0).mean()
        if wanted.size > 0:
            terms["size"] = wanted.size * (model.scales.exp() / wanted.size_limit_m - 1).clamp_min(0).mean()
        if wanted.delta > 0 and weights is not None:
            moved = torch.addmm(
                torch.zeros_like(model.positions).view(1, -1), weights, model.position_deltas.flatten(1)
            )
            terms["delta"] = wanted.delta * moved.square().mean() * 1e6  # in square millimetres
        return terms

    def after_step(self, batch: Batch, at: float) -> None:
        """Give Gaussians seen for the first time the colour of what they show (method page 5)."""
        if not self.config.schedule.colour_from_images or self.quiet_steps >= COLOUR_PATIENCE or self.model.seen.all():
            return
        model = self.model
        with torch.no_grad():
            posed = model.place(self._surface(batch.frames), self._weights(batch, at), hide_unseen=False)
            colours, alpha = batch.straight()
            total, weight = seen_colours(posed, batch.cameras, colours, (alpha > 0.5).float(), min_weight=SEEN_WEIGHT)
            new = (weight > SEEN_WEIGHT) & ~model.seen
            mean = total / weight.clamp_min(1e-6)[:, None]
            model.colours.copy_(torch.where(new[:, None], (mean - 0.5) / SH0, model.colours))
            model.seen |= new
        self.quiet_steps = 0 if bool(new.any()) else self.quiet_steps + 1

    def render(self, batch: Batch) -> Rasterised:
        """The model in the batch's poses and cameras as the avatar will look, without background or gradients."""
        with torch.no_grad():
            weights = self.model.weights(self.theta[batch.frames])
            posed = self.model.place(self._surface(batch.frames), weights, hide_unseen=True)
            return rasterise(posed, batch.cameras, posed.colours)

    def state(self) -> Mapping[str, Tensor]:
        """Which Gaussians were seen, and for how many steps none was new."""
        return {"seen": self.model.seen.to(torch.uint8), "quiet_steps": torch.tensor([self.quiet_steps])}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        self.model.seen.copy_(state["seen"].bool())
        self.quiet_steps = int(state["quiet_steps"])

    def finish(self) -> RgbHeadAvatar:
        """The avatar without Gaussians that no image has shown or that faded; its unseen back guessed if wanted.

        From then on `render` shows it as it will be stored.
        """
        model = self.model
        if self.beginning is not None and self.pictures is not None and self.config.model.fill_unseen:
            model = filled(model, self.theta, self.vertices, self.pictures, self.beginning)
        visible = model.seen & (torch.sigmoid(model.opacities.detach()) > FAINT)
        self.model = model.kept(visible)
        self.surfaces.clear()
        return RgbHeadAvatar(self.model)
