"""Poses of a recording and what is learned about their error: a turn of each larger joint, a shift of the whole."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from avatars.captures.capture import Capture
from avatars.surface_body.body import StarBody


class PoseResidual(nn.Module):
    """turns: [F, P, 3] rad added to the rotations of P joints; shifts: [F, 3] m. Only frames trained on are corrected;
    others get no residual. frame_of_image: of each image of the capture. neighbours: [F, 2] frames before and after
    among those trained on, itself at the ends."""

    def __init__(self, capture: Capture, body: StarBody) -> None:
        super().__init__()
        motion = capture.motion
        self.rotations, self.translations, self.expressions = (
            torch.from_numpy(np.array(values)).float().to(body.device)
            for values in (motion.rotations, motion.translations, motion.expressions)
        )
        joints = sorted({0, *body.person.parts()[0]})
        self.turning = torch.tensor(joints, device=body.device)
        frames = len(self.rotations)
        self.turns = nn.Parameter(torch.zeros(frames, len(joints), 3, device=body.device))
        self.shifts = nn.Parameter(torch.zeros(frames, 3, device=body.device))
        self.frame_of_image = tuple(image.frame for image in capture.images)
        shown = sorted({capture.images[index].frame for index in capture.split("train")})
        neighbours = torch.arange(frames)[:, None].repeat(1, 2)
        for before, frame in pairwise(shown):
            if frame - before == 1:  # others are too far apart to be held together
                neighbours[frame, 0], neighbours[before, 1] = before, frame
        self.neighbours = neighbours.to(body.device)

    def of(self, frames: Tensor, *, corrected: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Rotations [B, J, 3] rad, translations [B, 3] m and expressions [B, E] of frames [B]; differentiable."""
        rotations, translations = self.rotations[frames], self.translations[frames]
        if corrected:
            rotations = rotations.index_add(1, self.turning, self.turns[frames])
            translations = translations + self.shifts[frames]
        return rotations, translations, self.expressions[frames]

    def penalty(self, frames: Tensor, prior: float, temporal: float) -> Tensor:
        """prior times the mean square of the residuals and temporal times that of their second differences (rad, m)."""
        before, after = self.neighbours[frames].unbind(1)
        whole = ((before != frames) & (after != frames)).float()
        total = self.turns.new_zeros(())
        for values in (self.turns.flatten(1), self.shifts):
            bend = values[before] + values[after] - 2 * values[frames]
            total = total + prior * values[frames].square().mean()
            total = total + temporal * (bend.square().mean(1) * whole).mean()
        return total
