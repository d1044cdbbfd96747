"""One frame of a head posed by replaying a recorded CUDA graph: a hundred small kernels for the price of one launch."""

from __future__ import annotations

import torch
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.rgb_head.model import RgbHead

WARM_UP_CALLS = 3


class GraphedPose:
    """`RgbHead.pose` of one frame on a CUDA device, recorded at the first call.

    The graph reads the model's parameters where they lie, so they may change in place, but not move. What it returns is
    a copy: the next call writes over the graph's own tensors. For one thread.
    """

    def __init__(self, model: RgbHead) -> None:
        self.model = model
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: tuple[Tensor, ...] = ()
        self.outputs: tuple[Tensor, ...] = ()

    def __call__(self, rotations: Tensor, translations: Tensor, expressions: Tensor) -> PosedGaussians:
        """World Gaussians for rotations [1, J, 3] rad, translations [1, 3] m and expressions [1, E]."""
        given = (rotations, translations, expressions)
        if self.graph is None:
            self._record(given)
        assert self.graph is not None
        torch._foreach_copy_(list(self.inputs), list(given))
        self.graph.replay()
        found = [torch.empty_like(output) for output in self.outputs]
        torch._foreach_copy_(found, list(self.outputs))
        return PosedGaussians(*found)

    def _record(self, given: tuple[Tensor, ...]) -> None:
        self.inputs = tuple(value.detach().clone() for value in given)
        aside = torch.cuda.Stream(given[0].device)
        aside.wait_stream(torch.cuda.current_stream(given[0].device))
        with torch.cuda.stream(aside):  # compiles kernels and fills caches, which cannot be recorded
            for _ in range(WARM_UP_CALLS):
                self.model.pose(*self.inputs)
        torch.cuda.current_stream(given[0].device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            posed = self.model.pose(*self.inputs)
        assert posed.normals is not None
        self.outputs = (posed.means, posed.quats, posed.scales, posed.opacities, posed.colours, posed.normals)
        self.graph = graph
