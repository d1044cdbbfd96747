"""The part of a training step before the rasteriser as CUDA graphs, one each way: forty launches for two.

What cannot be recorded stays outside: the rasteriser reads a count back in every call. Not for several threads, since
no other thread may use the device while a graph is being recorded.
"""

from __future__ import annotations

import logging
from functools import partial

from torch import Tensor, nn

from avatars.gaussians.posed import PosedGaussians
from avatars.recorded import RecordedSteps
from avatars.rgb_head.cuda_place import FaceRows
from avatars.rgb_head.model import RgbHead

log = logging.getLogger("effigy.training")


class _Placing(nn.Module):
    """θ [B, D] and rows of posed triangles [B, F, 24] -> five tensors of posed Gaussians, and ψ [B, K] if blended."""

    def __init__(self, model: RgbHead, *, blended: bool) -> None:
        super().__init__()
        self.model, self.blended = model, blended

    def forward(self, theta: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
        """The Gaussians as the rasteriser takes them."""
        weights = self.model.weights(theta) if self.blended else None
        posed = self.model.place(FaceRows(rows), weights, hide_unseen=False)
        found = (posed.means, posed.quats, posed.scales, posed.opacities, posed.colours)
        return found if weights is None else (*found, weights)


class GraphedStep:
    """Recorded placings of a head, one for each batch size and for before and after the blendshapes join.

    The model's parameters must keep their memory: they may change in place only. Gradients land in tensors that the
    next step writes over.
    """

    def __init__(self, model: RgbHead) -> None:
        self.model = model
        self.steps = RecordedSteps("training steps", log)

    @property
    def refused(self) -> bool:
        """Whether the device does not record."""
        return self.steps.refused

    def __call__(self, theta: Tensor, surface: FaceRows, *, blended: bool) -> tuple[PosedGaussians, Tensor | None]:
        """Posed Gaussians and ψ (None unless blended), differentiable by the model's parameters."""
        make = partial(_Placing, self.model, blended=blended)
        *posed, last = self.steps((len(theta), blended), make, (theta.detach(), surface.rows.detach()))
        if blended:
            return PosedGaussians(*posed), last
        return PosedGaussians(*posed, last), None
