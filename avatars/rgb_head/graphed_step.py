"""The part of a training step before the rasteriser as CUDA graphs, one each way: forty launches for two.

What cannot be recorded stays outside: the rasteriser reads a count back in every call. Not for several threads, since
no other thread may use the device while a graph is being recorded.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from avatars.gaussians.posed import PosedGaussians
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
        self.recorded: dict[tuple[int, bool], nn.Module] = {}
        self.refused = False

    def __call__(self, theta: Tensor, surface: FaceRows, *, blended: bool) -> tuple[PosedGaussians, Tensor | None]:
        """Posed Gaussians and ψ (None unless blended), differentiable by the model's parameters."""
        kind = (len(theta), blended)
        if kind not in self.recorded:
            self.recorded[kind] = self._record(theta, surface.rows, blended=blended)
        *posed, last = self.recorded[kind](theta, surface.rows)
        if blended:
            return PosedGaussians(*posed), last
        return PosedGaussians(*posed, last), None

    def _record(self, theta: Tensor, rows: Tensor, *, blended: bool) -> nn.Module:
        """A recorded placing, or a plain one where the device refuses to record, which is said once.

        Recording fails while an earlier step's loss is still alive: its autograd nodes belong to the ordinary stream.
        """
        module = _Placing(self.model, blended=blended)
        if self.refused:
            return module
        sample = (theta.detach().clone(), rows.detach().clone())
        # Recorded nodes live on in another stream, of which torch would warn; here nothing is accumulated in them.
        quiet = getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", None)
        if quiet is not None:
            quiet(False)
        try:
            # Without blendshapes the network and the deltas take no part, hence unused inputs.
            found: nn.Module = torch.cuda.make_graphed_callables(module, sample, allow_unused_input=True)
        except RuntimeError as error:
            self.refused = True
            log.warning("training steps cannot be recorded here and run unrecorded: %s", str(error).splitlines()[0])
            return _Placing(self.model, blended=blended)
        return found
