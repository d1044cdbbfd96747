"""The relightable person as the rest of Effigy sees it: the `Avatar` protocol over surfels, and its stored form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.lighting.harmonics import COUNT
from avatars.lighting.irradiance import environment_irradiance
from avatars.lighting.prefilter import FilteredLight, filtered
from avatars.lighting.probes import Probes
from avatars.relit_body.person import Person, Skin
from avatars.relit_body.surfels import PARAMETERS, Surfels
from avatars.rgb_head.storage import take_tensor
from avatars.templates.opening import TemplateReference
from avatars.templates.rig import rig_of
from shared.errors import BadAvatar
from shared.types import Environment, ProxyMesh, Rig

WEIGHTS_PER_VERTEX = 8


class RelitAvatar:
    """An `avatars.avatar.Avatar` that any light can fall on. radiance: [H, W, 3] of the capture's map, world axes."""

    method = "relit_body"

    def __init__(self, surfels: Surfels, probes: Probes | None, radiance: Tensor) -> None:
        self.surfels = surfels.requires_grad_(False)
        self.probes, self.radiance = probes, radiance
        self.rest_pose: NDArray[np.float32] = np.zeros((len(surfels.person.arrays.joint_names), 3), np.float32)
        self.captured_light: FilteredLight = filtered(radiance)
        environment = Environment(radiance.detach().cpu().numpy())
        self.captured_irradiance: Tensor | None = environment_irradiance(environment)

    def to(self, device: torch.device | str) -> RelitAvatar:
        """The same on another device; this one's surfels go along."""
        probes = None if self.probes is None else self.probes.to(device)
        return RelitAvatar(self.surfels.moved_to(device), probes, self.radiance.to(device))

    def rig(self) -> Rig:
        """The skeleton and expressions it is driven by."""
        person = self.surfels.person
        return rig_of(person.arrays, person.joints, person.reference.shape)

    def proxy(self) -> ProxyMesh:
        """The template's visible faces at rest, coloured by the albedo of the surfels near each vertex."""
        person = self.surfels.person
        arrays, faces = person.arrays, person.faces
        used, inverse = np.unique(faces, return_inverse=True)
        row = np.full(len(arrays.vertices), -1, np.int64)
        row[used] = np.arange(len(used))
        width = min(WEIGHTS_PER_VERTEX, arrays.weights.shape[1])
        joints = np.argsort(-arrays.weights[used], axis=1, kind="stable")[:, :width]
        weights = np.take_along_axis(arrays.weights[used], joints, 1)
        touched = row[arrays.expression_vertices] >= 0
        places, albedo = self.surfels.positions.cpu().numpy(), self.surfels.materials()[0].cpu().numpy()
        near = cKDTree(places).query(person.vertices.numpy()[used], k=1)[1]
        triangles = inverse.reshape(faces.shape).astype(np.int32)
        return ProxyMesh(
            vertices=person.rest_vertices.numpy()[used],
            faces=np.concatenate((triangles, triangles[:, 2:]), 1),
            group=np.zeros(len(faces), np.int32),
            group_names=("skin",),
            joints=joints.astype(np.int32),
            weights=weights / weights.sum(1, keepdims=True),
            colour=albedo[near].astype(np.float32),
            expression_vertices=row[arrays.expression_vertices][touched],
            expression_offsets=arrays.expression_dirs[:, touched],
        )

    def pose(
        self, rotations: Tensor, translations: Tensor, expressions: Tensor, *, normals: bool = True
    ) -> PosedGaussians:
        """World surfels for rotations [B, J, 3] rad, translations [B, 3] m and expressions [B, E]."""
        with torch.no_grad():
            return self.surfels.pose(
                rotations, translations, expressions, probes=self.probes, light=self.captured_light
            )

    def pose_material(self, rotations: Tensor, translations: Tensor, expressions: Tensor) -> PosedGaussians:
        """As `pose`, but the colours are the bare albedo: for pictures that are lit from the materials."""
        with torch.no_grad():
            return self.surfels.pose(rotations, translations, expressions, probes=self.probes)

    def template(self) -> TemplateReference:
        """Which template it hangs on, and whose shape of it."""
        return self.surfels.person.reference

    def tensors(self) -> Mapping[str, Tensor]:
        """Everything that must be stored of it, by name."""
        model = self.surfels
        found: dict[str, Tensor] = {name: getattr(model, name) for name in PARAMETERS}
        found |= {"skin.joints": model.skin.joints.to(torch.int32), "skin.weights": model.skin.weights}
        found["skin.expression_dirs"] = model.skin.expression_dirs.half()
        found["radiance"] = self.radiance
        if self.probes is not None:
            found |= {f"probes.{name}": getattr(self.probes, name) for name in ("low_m", "high_m", "coefficients")}
        return {name: value.detach().cpu().contiguous().clone() for name, value in found.items()}

    def description(self) -> Mapping[str, Any]:
        """The rest of what must be stored, as JSON values."""
        parts = [] if self.probes is None else list(self.probes.joints)
        return {"gaussians": len(self.surfels), **self.surfels.person.as_json(), "probe_joints": parts}


def load_relit_body(
    reference: TemplateReference, description: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str
) -> RelitAvatar:
    """An avatar from its stored parts. Raises BadAvatar or BadTemplate."""
    try:
        count = int(description["gaussians"])
        canonical = torch.tensor(description["canonical_rotations"], dtype=torch.float32)
        parts = tuple(int(joint) for joint in description["probe_joints"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadAvatar("avatar.json does not describe a relightable person", found=str(error)) from error
    person = Person(reference, canonical)
    arrays = person.arrays
    shapes: dict[str, tuple[int | None, ...]] = {
        "positions": (count, 3),
        "quats": (count, 4),
        "scales": (count, 2),
        "opacities": (count,),
        "albedo": (count, 3),
        "roughness": (count,),
        "metallic": (count,),
    }
    values = {name: take_tensor(tensors, name, torch.float32, shape) for name, shape in shapes.items()}
    joints = take_tensor(tensors, "skin.joints", torch.int32, (count, None)).long()
    weights = take_tensor(tensors, "skin.weights", torch.float32, tuple(joints.shape))
    expressions = take_tensor(
        tensors, "skin.expression_dirs", torch.float16, (len(arrays.expression_names), count, 3)
    ).float()
    for name, index in (("skin.joints", joints), ("probe joints", torch.tensor(parts or (0,)))):
        if index.numel() and (index.min() < 0 or index.max() >= len(arrays.joint_names)):
            raise BadAvatar(f"the avatar's {name} point outside the template")
    radiance = take_tensor(tensors, "radiance", torch.float32, (None, None, 3))
    probes = None
    if parts:
        table = take_tensor(tensors, "probes.coefficients", torch.float16, (len(parts), None, None, None, COUNT))
        if len(set(table.shape[1:4])) != 1 or table.shape[1] < 2:
            raise BadAvatar("the avatar's occlusion probes are no cube", found=str(list(table.shape)))
        corners = [
            take_tensor(tensors, f"probes.{name}", torch.float32, (len(parts), 3)) for name in ("low_m", "high_m")
        ]
        probes = Probes(parts, *corners, table).to(device)
    surfels = Surfels(person, Skin(joints, weights, expressions), values).moved_to(device)
    return RelitAvatar(surfels, probes, radiance.to(device))
