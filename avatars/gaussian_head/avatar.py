"""A GaussianAvatars head as the rest of Effigy sees it: the `Avatar` protocol, stored and loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.gaussian_head.model import GaussianHead, bound_to_faces
from avatars.gaussians.posed import PosedGaussians
from avatars.gaussians.spherical_harmonics import coefficients_of
from avatars.rgb_head.head_template import HeadTemplate
from avatars.rgb_head.proxy import bound_proxy, template_rig
from avatars.rgb_head.storage import take_tensor
from avatars.templates.opening import TemplateReference
from avatars.templates.template import Template, template_triangles
from shared.errors import BadAvatar, EffigyError
from shared.types import ProxyMesh, Rig

RAW = ("positions", "rotations", "scales", "opacities", "sh")


class GaussianHeadAvatar:
    """An `avatars.avatar.Avatar`. The light it was captured in is not known, so it cannot be relit faithfully."""

    method = "gaussian_head"

    def __init__(self, model: GaussianHead) -> None:
        self.model = model
        self.rest_pose: NDArray[np.float32] = model.rest_pose
        self.captured_irradiance: Tensor | None = None

    def rig(self) -> Rig:
        """The skeleton and expressions it is driven by."""
        return template_rig(self.model.head)

    def proxy(self) -> ProxyMesh:
        """A light skinned mesh standing for it in Blender."""
        model = self.model
        return bound_proxy(model.head, model.binding, model.colours().clamp(0, 1), torch.sigmoid(model.opacities))

    def pose(
        self, rotations: Tensor, translations: Tensor, expressions: Tensor, *, normals: bool = True
    ) -> PosedGaussians:
        """World Gaussians for rotations [B, J, 3] rad, translations [B, 3] m and expressions [B, E]."""
        with torch.no_grad():
            return self.model.pose(rotations, translations, expressions, normals=normals)

    def template(self) -> TemplateReference:
        """Which template it hangs on, and whose shape of it."""
        return self.model.head.reference()

    def tensors(self) -> Mapping[str, Tensor]:
        """Everything that must be stored of it, by name."""
        found = {name: getattr(self.model, name) for name in RAW}
        found["face"] = torch.from_numpy(self.model.faces())
        found["rest_pose"] = torch.from_numpy(self.rest_pose)
        if self.model.head.vertex_offset is not None:
            found["vertex_offset"] = self.model.head.vertex_offset
        return {name: value.detach().cpu().contiguous().clone() for name, value in found.items()}

    def description(self) -> Mapping[str, Any]:
        """The rest of what must be stored, as JSON values."""
        return {"gaussians": len(self.model), "sh_coefficients": int(self.model.sh.shape[1]), "frame": "edge"}


def make_gaussian_head(
    reference: TemplateReference,
    tensors: Mapping[str, Tensor],
    vertex_offset: Tensor | None,
    rest_pose: NDArray[np.float32],
) -> GaussianHead:
    """A head from raw tensors (see GaussianHead) and `face` [N] int64. vertex_offset [V, 3] m. Raises BadTemplate."""
    arrays = reference.open()
    triangles, _, _ = template_triangles(arrays)
    return GaussianHead(
        head=HeadTemplate.make(Template(arrays), reference.preset, reference.shape, vertex_offset),
        binding=bound_to_faces(arrays, tensors["face"].numpy()),
        skin_triangles=torch.from_numpy(triangles.astype(np.int64)),
        **{name: tensors[name] for name in RAW},
        rest_pose=rest_pose,
    )


def load_gaussian_head(
    reference: TemplateReference, description: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str
) -> GaussianHeadAvatar:
    """An avatar from its stored parts. Raises BadAvatar or BadTemplate."""
    arrays = reference.open()
    try:
        count, coefficients = int(description["gaussians"]), int(description["sh_coefficients"])
        fits = description["frame"] == "edge" and count >= 0 and coefficients in map(coefficients_of, range(4))
    except (KeyError, TypeError, ValueError) as error:
        raise BadAvatar("avatar.json does not describe a Gaussian head", found=str(error)) from error
    if not fits:
        raise BadAvatar("avatar.json does not describe a Gaussian head", found=f"{coefficients} coefficients")
    widths = {"positions": (3,), "rotations": (4,), "scales": (3,), "opacities": (), "sh": (coefficients, 3)}
    raw = {name: take_tensor(tensors, name, torch.float32, (count, *last)) for name, last in widths.items()}
    raw["face"] = take_tensor(tensors, "face", torch.int64, (count,))
    rest_pose = take_tensor(tensors, "rest_pose", torch.float32, (len(arrays.joint_names), 3)).numpy()
    offset = None
    if "vertex_offset" in tensors:
        offset = take_tensor(tensors, "vertex_offset", torch.float32, (len(arrays.vertices), 3))
    try:
        return GaussianHeadAvatar(make_gaussian_head(reference, raw, offset, rest_pose).to(device))
    except BadAvatar:
        raise
    except EffigyError as error:
        raise BadAvatar(
            f"the avatar's weights do not fit: {error.what}", found=error.found, expected=error.expected
        ) from error
