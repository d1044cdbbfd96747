"""The trained body as the rest of Effigy sees it: the `Avatar` protocol over an `MlpBody`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.mlp_body.cuda_express import usable
from avatars.mlp_body.cuda_posing import HalfBody
from avatars.mlp_body.graphed import GraphedPose
from avatars.mlp_body.model import MlpBody
from avatars.mlp_body.proxy import body_proxy, body_rig
from avatars.mlp_body.storage import body_description, body_from_parts, body_tensors, has_half
from avatars.templates.opening import TemplateReference
from shared.types import ProxyMesh, Rig


class MlpBodyAvatar:
    """An `avatars.avatar.Avatar`.

    half: its bases and networks are stored as float16. clamped: whether the networks' view of a pose is held inside the
    training poses; skinning always follows the pose itself. On CUDA single frames are posed by a packed copy whose
    networks and bases are in half precision, made at the first one: the model must not change afterwards.
    """

    method = MlpBody.method

    def __init__(self, model: MlpBody, *, half: bool = False, clamped: bool = True) -> None:
        self.model = model.requires_grad_(False)
        self.half, self.clamped = half, clamped
        self.rest_pose: NDArray[np.float32] = model.rest_pose
        self.captured_irradiance: Tensor | None = model.captured_irradiance
        self._packed: HalfBody | None = None
        self._graphed: dict[tuple[bool, bool], GraphedPose] = {}

    def rig(self) -> Rig:
        """The skeleton and expressions it is driven by."""
        return body_rig(self.model)

    def proxy(self) -> ProxyMesh:
        """A light skinned mesh standing for it in Blender."""
        return body_proxy(self.model)

    def pose(
        self, rotations: Tensor, translations: Tensor, expressions: Tensor, *, normals: bool = True
    ) -> PosedGaussians:
        """World Gaussians for rotations [B, J, 3] rad, translations [B, 3] m and expressions [B, E]."""
        with torch.no_grad():
            if len(rotations) == 1 and usable(self.model.neutral):
                kind = (normals, self.clamped)
                if self._packed is None:
                    self._packed = HalfBody(self.model)
                if kind not in self._graphed:
                    self._graphed[kind] = GraphedPose(self._packed, normals=normals, clamped=self.clamped)
                return self._graphed[kind](rotations, translations, expressions)
            return self.model.pose(rotations, translations, expressions, clamped=self.clamped, normals=normals)

    def template(self) -> TemplateReference:
        """Which template it hangs on, and whose shape of it."""
        return self.model.canonical.reference

    def tensors(self) -> Mapping[str, Tensor]:
        """Everything that must be stored of it, by name."""
        return body_tensors(self.model, half=self.half)

    def description(self) -> Mapping[str, Any]:
        """The rest of what must be stored, as JSON values."""
        return body_description(self.model)


def load_mlp_body(
    reference: TemplateReference, description: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str
) -> MlpBodyAvatar:
    """An avatar from its stored parts. Raises BadAvatar or BadTemplate."""
    model = body_from_parts(reference, description, tensors, device)
    return MlpBodyAvatar(model, half=has_half(tensors))
