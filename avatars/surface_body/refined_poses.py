"""Poses of a recording, corrected by a network that sees them: all joints but the root (method page 3.4)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from avatars.captures.capture import Capture
from avatars.surface_body.body import StarBody
from avatars.surface_body.parity_networks import PoseRefiner, turned_by
from avatars.surface_body.parity_settings import ParityNetworks


class RefinedPoses(nn.Module):
    """What `PoseResidual` is, as published: it corrects any pose, also those not trained on."""

    def __init__(self, settings: ParityNetworks, capture: Capture, body: StarBody, generator: torch.Generator) -> None:
        super().__init__()
        motion = capture.motion
        self.rotations, self.translations, self.expressions = (
            torch.from_numpy(np.array(values)).float().to(body.device)
            for values in (motion.rotations, motion.translations, motion.expressions)
        )
        joints = self.rotations.shape[1]
        self.network = PoseRefiner(joints, settings.pose_width, settings.pose_layers, generator).to(body.device)

    def of(self, frames: Tensor, *, corrected: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Rotations [B, J, 3] rad, translations [B, 3] m and expressions [B, E] of frames [B]; differentiable."""
        rotations = self.rotations[frames]
        if corrected:
            turned = turned_by(rotations[:, 1:], self.network(rotations))
            rotations = torch.cat((rotations[:, :1], turned), 1)
        return rotations, self.translations[frames], self.expressions[frames]

    def penalty(self, frames: Tensor, prior: float, temporal: float) -> Tensor:
        """Nothing: published weights of it are 0."""
        return self.rotations.new_zeros(())
