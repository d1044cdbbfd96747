"""One frame of a head posed by replaying a recorded CUDA graph: a hundred small kernels for the price of one launch."""

from __future__ import annotations

import torch
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.rgb_head.cuda_pose import CudaPose
from avatars.rgb_head.cuda_pose import usable as knows
from avatars.rgb_head.model import RgbHead

WARM_UP_CALLS = 3


class GraphedPose:
    """`RgbHead.pose` of one frame on a CUDA device, recorded at the first call.

    The graph reads the model's parameters where they lie, so they may change in place, but not move. What it returns is
    a copy: the next call writes over the graph's own tensors. For one thread.
    """

    def __init__(self, model: RgbHead, *, normals: bool) -> None:
        self.model, self.normals = model, normals
        self.fused = CudaPose(model) if knows(model) else None
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

    def _posed(self) -> PosedGaussians:
        if self.fused is None:
            return self.model.pose(*self.inputs, normals=self.normals)
        vertices, weights = self.fused(*self.inputs)
        return self.model.placed(vertices, weights, normals=self.normals)

    def _record(self, given: tuple[Tensor, ...]) -> None:
        self.inputs = tuple(value.detach().clone() for value in given)
        here, aside = torch.cuda.current_stream(given[0].device), torch.cuda.Stream(given[0].device)
        aside.wait_stream(here)
        with torch.cuda.stream(aside):  # compiles kernels and fills caches, which cannot be recorded
            for _ in range(WARM_UP_CALLS):
                self._posed()
        here.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            posed = self._posed()
        outputs = (posed.means, posed.quats, posed.scales, posed.opacities, posed.colours, posed.normals)
        self.outputs = tuple(output for output in outputs if output is not None)
        self.graph = graph
