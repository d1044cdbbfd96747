"""The relightable head as the rest of Effigy sees it: the `Avatar` protocol over a `RelitHead`, and its stored form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.lighting.harmonics import COUNT
from avatars.lighting.irradiance import environment_irradiance
from avatars.lighting.prefilter import FilteredLight, filtered
from avatars.lighting.surface_probes import STORED, SurfaceProbes
from avatars.relit_head.model import MATERIALS, RelitHead
from avatars.rgb_head.proxy import head_proxy, head_rig
from avatars.rgb_head.storage import has_half_deltas, head_description, head_from_parts, head_tensors, take_tensor
from avatars.templates.opening import TemplateReference
from shared.errors import BadAvatar
from shared.types import Environment, ProxyMesh, Rig


class RelitHeadAvatar:
    """An `avatars.avatar.Avatar` that any light can fall on. radiance: [H, 2 H, 3] of its capture's map, world axes."""

    method = RelitHead.method

    def __init__(self, relit: RelitHead, radiance: Tensor, *, half_deltas: bool = False) -> None:
        self.relit = relit.requires_grad_(False)
        self.half_deltas, self.radiance = half_deltas, radiance
        self.rest_pose: NDArray[np.float32] = relit.head.rest_pose
        self.captured_light: FilteredLight = filtered(radiance)
        environment = Environment(radiance.detach().cpu().numpy())
        self.captured_irradiance: Tensor | None = environment_irradiance(environment)

    def rig(self) -> Rig:
        """The skeleton and expressions it is driven by."""
        return head_rig(self.relit.head)

    def proxy(self) -> ProxyMesh:
        """A light skinned mesh standing for it in Blender, in its albedo."""
        return head_proxy(self.relit.head)

    def pose(
        self, rotations: Tensor, translations: Tensor, expressions: Tensor, *, normals: bool = True
    ) -> PosedGaussians:
        """World Gaussians for rotations [B, J, 3] rad, translations [B, 3] m and expressions [B, E].

        Their colours are what their diffuse part shows in the light of the capture.
        """
        del normals  # shading cannot do without
        with torch.no_grad():
            return self.relit.pose(rotations, translations, expressions, light=self.captured_light)

    def pose_material(self, rotations: Tensor, translations: Tensor, expressions: Tensor) -> PosedGaussians:
        """As `pose`, but the colours are the bare albedo: for pictures that are lit from the materials."""
        with torch.no_grad():
            return self.relit.pose(rotations, translations, expressions)

    def template(self) -> TemplateReference:
        """Which template it hangs on, and whose shape of it."""
        return self.relit.head.head.reference()

    def tensors(self) -> Mapping[str, Tensor]:
        """Everything that must be stored of it, by name: an RGB head's, then materials, occlusion and light."""
        found = dict(head_tensors(self.relit.head, half_deltas=self.half_deltas))
        own: dict[str, Tensor] = {name: getattr(self.relit, name) for name in MATERIALS} | {"radiance": self.radiance}
        if self.relit.probes is not None:
            own |= {f"occlusion.{name}": getattr(self.relit.probes, name) for name in STORED}
        return found | {name: value.detach().cpu().contiguous().clone() for name, value in own.items()}

    def description(self) -> Mapping[str, Any]:
        """The rest of what must be stored, as JSON values."""
        probes = self.relit.probes
        directions = None if probes is None else len(probes.directions)
        return {**head_description(self.relit.head), "materials": True, "occlusion_directions": directions}


def load_relit_head(
    reference: TemplateReference, description: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str
) -> RelitHeadAvatar:
    """An avatar from its stored parts. Raises BadAvatar or BadTemplate."""
    head = head_from_parts(reference, description, tensors, "cpu")
    count = len(head)
    directions = description.get("occlusion_directions")
    if directions is not None and (not isinstance(directions, int) or isinstance(directions, bool) or directions < 0):
        raise BadAvatar("avatar.json does not describe a relightable head", found=f"occlusion {directions!r}")
    relit = RelitHead(head)
    with torch.no_grad():
        for name in MATERIALS:
            parameter = getattr(relit, name)
            parameter.copy_(take_tensor(tensors, name, torch.float32, tuple(parameter.shape)))
    if directions is not None:
        size = head.layout.size()
        shapes: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
            "mean": (torch.float16, (count, COUNT)),
            "changes": (torch.float16, (directions, count, COUNT)),
            "centre": (torch.float32, (size,)),
            "directions": (torch.float32, (directions, size)),
            "low": (torch.float32, (directions,)),
            "high": (torch.float32, (directions,)),
        }
        relit.probes = SurfaceProbes(*(take_tensor(tensors, f"occlusion.{name}", *shapes[name]) for name in STORED))
    radiance = take_tensor(tensors, "radiance", torch.float32, (None, None, 3))
    if not radiance.numel():
        raise BadAvatar("the light of the avatar's capture is empty")
    return RelitHeadAvatar(relit.moved_to(device), radiance.to(device), half_deltas=has_half_deltas(tensors))
