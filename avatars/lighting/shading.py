"""Materials, normals and a filtered light to linear radiance: the one shading function, for surfels and for pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avatars.lighting.brdf import GRAZING, normal_reflectance, split_sum
from avatars.lighting.prefilter import FilteredLight


@dataclass(frozen=True, eq=False)
class Material:
    """albedo: [..., 3] linear, 0..1; roughness, metallic: [..., 1] in 0..1."""

    albedo: Tensor
    roughness: Tensor
    metallic: Tensor


@dataclass(frozen=True, eq=False)
class Visibility:
    """How much of the light arrives, 0..1. diffuse: [..., 1] cosine-weighted share of the sky; specular: [..., 1] share
    around the reflected direction; lobes: [..., N] of each light beside the map, None for all of them.
    """

    diffuse: Tensor
    specular: Tensor
    lobes: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Shaded:
    """Linear radiance towards the eye, [..., 3] each; their sum is the picture."""

    diffuse: Tensor
    specular: Tensor

    @property
    def total(self) -> Tensor:
        """Both together."""
        return self.diffuse + self.specular


def reflected(normals: Tensor, to_eye: Tensor) -> Tensor:
    """Directions [..., 3] that a mirror with these unit normals shows to the eye; grazing where it faces away."""
    cosine = (normals * to_eye).sum(-1, keepdim=True).clamp(min=0)
    return 2 * cosine * normals - to_eye


def shade(
    material: Material,
    normals: Tensor,
    to_eye: Tensor,
    light: FilteredLight,
    visible: Visibility | None = None,
    points: Tensor | None = None,
) -> Shaded:
    """Split-sum shading under `light`. normals, to_eye: [..., 3] unit, world axes. points: [..., 3] m, where this is;
    needed where lamps are near.
    """
    n_dot_v = (normals * to_eye).sum(-1, keepdim=True).clamp(GRAZING, 1)
    f0 = normal_reflectance(material.albedo, material.metallic)
    scale, bias = split_sum(n_dot_v[..., 0], material.roughness[..., 0])
    gathered = light.specular_at(reflected(normals, to_eye), material.roughness[..., 0])
    irradiance = light.diffuse_at(normals)
    if visible is not None:
        gathered, irradiance = gathered * visible.specular, irradiance * visible.diffuse
    specular = gathered * (f0 * scale[..., None] + bias[..., None])
    if light.lobes is not None and len(light.lobes):
        lit = None if visible is None else visible.lobes
        lobes = light.lobes.at(points)
        irradiance = irradiance + lobes.diffuse_at(normals, lit)
        specular = specular + lobes.specular_at(
            normals, to_eye, material.albedo, material.roughness, material.metallic, lit
        )
    return Shaded(material.albedo * (1 - material.metallic) * irradiance, specular)


def exposed(linear: Tensor, exposure_ev: float) -> Tensor:
    """Linear values [...] brightened by so many stops."""
    return linear * torch.as_tensor(2.0**exposure_ev, dtype=linear.dtype, device=linear.device)
