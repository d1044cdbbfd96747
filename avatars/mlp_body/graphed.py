"""A body's forward pass, and a training step's part before the rasteriser, as recorded CUDA graphs.

A step's posing is about sixty small launches around two large kernels; replayed they cost what the large ones do. What
cannot be recorded stays outside: the rasteriser reads a count back in every call. For one thread.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from avatars.gaussians.posed import PosedGaussians
from avatars.mlp_body.band_colours import BandColours
from avatars.mlp_body.cuda_posing import HalfBody, PosedParts
from avatars.mlp_body.express import Expressed
from avatars.mlp_body.model import Drive, MlpBody

log = logging.getLogger("effigy.training")
WARM_UP_CALLS = 3


class GraphedPose:
    """A packed body's `posed`, recorded at the first call.

    What it returns is a copy: the next call writes over the graph's own memory. Where the device refuses to record,
    which is said once, every call is a plain one.
    """

    def __init__(self, body: HalfBody, *, normals: bool, clamped: bool) -> None:
        self.body, self.normals, self.clamped = body, normals, clamped
        self.graph: torch.cuda.CUDAGraph | None = None
        self.refused = False
        self.inputs: tuple[Tensor, ...] = ()
        self.found: PosedParts | None = None

    def __call__(self, rotations: Tensor, translations: Tensor, expressions: Tensor) -> PosedGaussians:
        """World Gaussians for rotations [1, J, 3] rad, translations [1, 3] m and expressions [1, E]."""
        given = (rotations, translations, expressions)
        if self.graph is None and not self.refused:
            self._record(given)
        if self.graph is None or self.found is None:
            return posed_parts(self._posed(tuple(value.float().contiguous() for value in given)))
        torch._foreach_copy_(list(self.inputs), list(given))
        self.graph.replay()
        return posed_parts(self.found.copied())

    def _posed(self, given: tuple[Tensor, ...]) -> PosedParts:
        rotations, translations, expressions = given
        return self.body.posed(rotations, translations, expressions, clamped=self.clamped, normals=self.normals)

    def _record(self, given: tuple[Tensor, ...]) -> None:
        self.inputs = tuple(value.detach().float().contiguous().clone() for value in given)
        here, aside = torch.cuda.current_stream(given[0].device), torch.cuda.Stream(given[0].device)
        aside.wait_stream(here)
        with torch.cuda.stream(aside):  # compiles kernels, which cannot be recorded
            for _ in range(WARM_UP_CALLS):
                self._posed(self.inputs)
        here.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.found = self._posed(self.inputs)
        except RuntimeError as error:
            self.refused = True
            log.warning("posing cannot be recorded here and runs unrecorded: %s", str(error).splitlines()[0])
            return
        self.graph = graph


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
    """Recorded forward and backward passes of a body, one pair for each number of poses and stage of the schedule.

    The model's parameters must keep their memory. Gradients land in tensors that the next step writes over.
    """

    def __init__(self, model: MlpBody) -> None:
        self.model = model
        self.recorded: dict[tuple[int, bool, bool, bool], nn.Module] = {}
        self.refused = False

    def __call__(
        self, theta: Tensor, skinning: Tensor, expressions: Tensor, *, active: bool, view_dependent: bool
    ) -> tuple[Expressed, Tensor]:
        """Gaussians of poses [U] and the control points' offsets; differentiable by parameters and by skinning."""
        kind = (len(theta), active, view_dependent, skinning.requires_grad)
        if kind not in self.recorded:
            self.recorded[kind] = self._record((theta, skinning, expressions), active, view_dependent)
        *parts, controls, tint = (*self.recorded[kind](theta, skinning, expressions), None)[:7]
        return Expressed(*parts, tint), controls

    def _record(self, given: tuple[Tensor, ...], active: bool, view_dependent: bool) -> nn.Module:
        """A recorded pass, or a plain one where the device refuses to record, which is said once."""
        module = _Expressing(self.model, active=active, view_dependent=view_dependent)
        if self.refused:
            return module
        sample = tuple(value.detach().clone().requires_grad_(value.requires_grad) for value in given)
        quiet = getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", None)
        if quiet is not None:  # recorded nodes live on in another stream; here nothing is accumulated in them
            quiet(False)
        try:
            found: nn.Module = torch.cuda.make_graphed_callables(module, sample, allow_unused_input=True)
        except RuntimeError as error:
            self.refused = True
            log.warning("training steps cannot be recorded here and run unrecorded: %s", str(error).splitlines()[0])
            return _Expressing(self.model, active=active, view_dependent=view_dependent)
        return found
