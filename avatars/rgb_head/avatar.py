"""The trained head as the rest of Effigy sees it: the `Avatar` protocol over an `RgbHead`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.rgb_head.cuda_place import usable
from avatars.rgb_head.graphed_pose import GraphedPose
from avatars.rgb_head.model import RgbHead
from avatars.rgb_head.proxy import head_proxy, head_rig
from avatars.rgb_head.storage import has_half_deltas, head_description, head_from_parts, head_tensors
from avatars.templates.opening import TemplateReference
from shared.types import ProxyMesh, Rig


class RgbHeadAvatar:
    """An `avatars.avatar.Avatar`.

    half_deltas: its blendshapes are stored as float16. record: on CUDA, single frames replay a recorded graph; not
    where another thread uses the device at the same time, as beside a learner.
    """

    method = RgbHead.method

    def __init__(self, model: RgbHead, *, half_deltas: bool = False, record: bool = True) -> None:
        self.model = model.requires_grad_(False)
        self.half_deltas, self.record = half_deltas, record
        self.rest_pose: NDArray[np.float32] = model.rest_pose
        self.captured_irradiance: Tensor | None = model.captured_irradiance
        self._graphed: dict[bool, GraphedPose] = {}

    def rig(self) -> Rig:
        """The skeleton and expressions it is driven by."""
        return head_rig(self.model)

    def proxy(self) -> ProxyMesh:
        """A light skinned mesh standing for it in Blender."""
        return head_proxy(self.model)

    def pose(
        self, rotations: Tensor, translations: Tensor, expressions: Tensor, *, normals: bool = True
    ) -> PosedGaussians:
        """World Gaussians for rotations [B, J, 3] rad, translations [B, 3] m and expressions [B, E]."""
        with torch.no_grad():
            if self.record and len(rotations) == 1 and usable(rotations.device, self.model.frame):
                if normals not in self._graphed:
                    self._graphed[normals] = GraphedPose(self.model, normals=normals)
                return self._graphed[normals](rotations, translations, expressions)
            return self.model.pose(rotations, translations, expressions, normals=normals)

    def template(self) -> TemplateReference:
        """Which template it hangs on, and whose shape of it."""
        return self.model.head.reference()

    def tensors(self) -> Mapping[str, Tensor]:
        """Everything that must be stored of it, by name."""
        return head_tensors(self.model, half_deltas=self.half_deltas)

    def description(self) -> Mapping[str, Any]:
        """The rest of what must be stored, as JSON values."""
        return head_description(self.model)


def load_rgb_head(
    reference: TemplateReference, description: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str
) -> RgbHeadAvatar:
    """An avatar from its stored parts. Raises BadAvatar or BadTemplate."""
    head = head_from_parts(reference, description, tensors, device)
    return RgbHeadAvatar(head, half_deltas=has_half_deltas(tensors))
