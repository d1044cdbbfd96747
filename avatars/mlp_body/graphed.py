"""A body's forward pass, and a training step's part before the rasteriser, as recorded CUDA graphs.

A step's posing is about sixty small launches around two large kernels; replayed they cost what the large ones do. What
cannot be recorded stays outside: the rasteriser reads a count back in every call. For one thread.
"""

from __future__ import annotations

import logging
from functools import partial

from torch import Tensor, nn

from avatars.gaussians.posed import PosedGaussians
from avatars.mlp_body.band_colours import BandColours
from avatars.mlp_body.cuda_posing import HalfBody, PosedParts
from avatars.mlp_body.express import Expressed
from avatars.mlp_body.model import Drive, MlpBody
from avatars.recorded import Recorded, RecordedSteps

log = logging.getLogger("effigy.training")


class GraphedPose:
    """A packed body's `posed`, recorded at the first call. What it returns is a copy."""

    def __init__(self, body: HalfBody, *, normals: bool, clamped: bool) -> None:
        self.recorded = Recorded(partial(body.posed, clamped=clamped, normals=normals), "posing", log)

    def __call__(self, rotations: Tensor, translations: Tensor, expressions: Tensor) -> PosedGaussians:
        """World Gaussians for rotations [1, J, 3] rad, translations [1, 3] m and expressions [1, E]."""
        return posed_parts(self.recorded(rotations, translations, expressions).copied())


def posed_parts(parts: PosedParts) -> PosedGaussians:
    """As every renderer takes them."""
    view = None if parts.base is None or parts.tint is None else BandColours(parts.base, parts.tint)
    return PosedGaussians(parts.means, parts.quats, parts.scales, parts.opacities, parts.colours, parts.normals, view)


class _Expressing(nn.Module):
    """Driving poses, joints' matrices and expressions -> Gaussians and control offsets, all tensors."""

    def __init__(self, model: MlpBody, *, active: bool, view_dependent: bool) -> None:
        super().__init__()
        self.model, self.active, self.view_dependent = model, active, view_dependent

    def forward(self, theta: Tensor, skinning: Tensor, expressions: Tensor) -> tuple[Tensor, ...]:
        """means, quats, scales, opacities, base, controls, and tint where colour depends on the view."""
        drive = Drive(theta, self.model.placed_by(skinning, expressions))
        found, controls = self.model(drive, active=self.active, view_dependent=self.view_dependent)
        parts = (found.means, found.quats, found.scales, found.opacities, found.base, controls)
        return parts if found.tint is None else (*parts, found.tint)


class GraphedStep:
    """Recorded forward and backward passes of a body, one pair for each number of poses and stage of the schedule."""

    def __init__(self, model: MlpBody) -> None:
        self.model = model
        self.steps = RecordedSteps("training steps", log)

    @property
    def refused(self) -> bool:
        """Whether the device does not record."""
        return self.steps.refused

    def __call__(
        self, theta: Tensor, skinning: Tensor, expressions: Tensor, *, active: bool, view_dependent: bool
    ) -> tuple[Expressed, Tensor]:
        """Gaussians of poses [U] and the control points' offsets; differentiable by parameters and by skinning."""
        kind = (len(theta), active, view_dependent, skinning.requires_grad)
        make = partial(_Expressing, self.model, active=active, view_dependent=view_dependent)
        found = self.steps(kind, make, (theta, skinning, expressions))
        *parts, controls, tint = (*found, None)[:7]
        return Expressed(*parts, tint), controls
