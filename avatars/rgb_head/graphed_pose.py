"""One frame of a head posed by replaying a recorded CUDA graph: a hundred small kernels for the price of one launch."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.recorded import Recorded
from avatars.rgb_head.cuda_pose import CudaPose
from avatars.rgb_head.cuda_pose import usable as knows
from avatars.rgb_head.model import RgbHead

log = logging.getLogger("effigy.rendering")


class GraphedPose:
    """`RgbHead.pose` of one frame on a CUDA device, recorded at the first call.

    The graph reads the model's parameters where they lie, so they may change in place, but not move. What it returns is
    a copy: the next call writes over the graph's own tensors. For one thread.
    """

    def __init__(self, model: RgbHead, *, normals: bool) -> None:
        self.model, self.normals = model, normals
        self.fused = CudaPose(model) if knows(model) else None
        self.recorded = Recorded(self._posed, "posing", log)

    def __call__(self, rotations: Tensor, translations: Tensor, expressions: Tensor) -> PosedGaussians:
        """World Gaussians for rotations [1, J, 3] rad, translations [1, 3] m and expressions [1, E]."""
        outputs = self.recorded(rotations, translations, expressions)
        found = [torch.empty_like(output) for output in outputs]
        torch._foreach_copy_(found, list(outputs))
        return PosedGaussians(*found)

    def _posed(self, *given: Tensor) -> tuple[Tensor, ...]:
        if self.fused is None:
            posed = self.model.pose(*given, normals=self.normals)
        else:
            posed = self.model.placed(*self.fused(*given), normals=self.normals)
        outputs = (posed.means, posed.quats, posed.scales, posed.opacities, posed.colours, posed.normals)
        return tuple(output for output in outputs if output is not None)
