"""Relightable people in a picture: what travels with their Gaussians, and shading the pixels they cover (deferred).

Blending materials and normals and shading once a pixel keeps highlights sharp; blending shaded Gaussians would blur
them over every Gaussian a pixel sees.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatars.gaussians.posed import PosedGaussians, PosedMaterial
from avatars.lighting.prefilter import FilteredLight
from avatars.lighting.shading import Material, Shaded, Visibility, reflected, shade

TURNED_AWAY = -0.3
"""A normal is turned towards the eye where it points away by more than this cosine; a hard 0 would flicker at rims."""
FIXED = 7
"""Channels: albedo 3, roughness, metallic, ambient visibility, visibility along the reflection; then one a lamp."""


def lamps_of(light: FilteredLight | None) -> int:
    """How many lights stand beside the map."""
    return 0 if light is None or light.lobes is None else len(light.lobes.directions)


def seen_normals(normals: Tensor, to_eye: Tensor) -> Tensor:
    """Normals [..., 3] turned towards the eye where they clearly point away from it."""
    cosine = (normals * to_eye).sum(-1, keepdim=True)
    return torch.where(cosine < TURNED_AWAY, -normals, normals)


def visibility(gaussians: PosedGaussians, normals: Tensor, to_eye: Tensor, light: FilteredLight | None) -> Visibility:
    """What reaches each Gaussian [B, N, ...] of the sky, of what it mirrors, and of each lamp."""
    lamps, material = lamps_of(light), gaussians.material
    one = gaussians.means.new_ones(*gaussians.means.shape[:2], 1)
    if material is None or material.probes is None:
        return Visibility(one, one, one.expand(-1, -1, lamps) if lamps else None)
    towards = [reflected(normals, to_eye)[:, :, None]]
    if light is not None and light.lobes is not None and lamps:
        towards.append(light.lobes.directions.to(normals).expand(*normals.shape[:2], -1, -1))
    ambient, along = material.probes.visible(gaussians.means, normals, torch.cat(towards, dim=2))
    return Visibility(ambient, along[..., :1], along[..., 1:] if lamps else None)


def eye_directions(gaussians: PosedGaussians, positions: Tensor) -> Tensor:
    """Unit directions [B, N, 3] from Gaussians to cameras at positions [B, 3] m."""
    return normalize(positions.to(gaussians.means)[:, None] - gaussians.means, dim=-1)


def surface_features(
    gaussians: PosedGaussians, positions: Tensor, light: FilteredLight | None
) -> tuple[Tensor, Tensor]:
    """Channels [B, N, FIXED + lamps] to blend (zeros for a person without materials) and normals [B, N, 3]."""
    means, width = gaussians.means, FIXED + lamps_of(light)
    normals = torch.zeros_like(means) if gaussians.normals is None else gaussians.normals
    material = gaussians.material
    if material is None:
        return means.new_zeros(*means.shape[:2], width), normals
    to_eye = eye_directions(gaussians, positions)
    normals = seen_normals(normals, to_eye)
    seen = visibility(gaussians, normals, to_eye, light)
    parts = [material.albedo, material.roughness, material.metallic, seen.diffuse, seen.specular]
    return torch.cat(parts if seen.lobes is None else [*parts, seen.lobes], dim=-1), normals


def shade_pixels(surface: Tensor, normals: Tensor, to_eye: Tensor, light: FilteredLight) -> Shaded:
    """Linear radiance of pixels [P] from blended, un-premultiplied channels [P, FIXED + lamps] and normals [P, 3]."""
    material = Material(surface[:, :3].clamp(0, 1), surface[:, 3:4].clamp(0, 1), surface[:, 4:5].clamp(0, 1))
    lamps = surface[:, FIXED:].clamp(0, 1) if surface.shape[1] > FIXED else None
    seen = Visibility(surface[:, 5:6].clamp(0, 1), surface[:, 6:7].clamp(0, 1), lamps)
    return shade(material, normalize(normals, dim=-1), to_eye, light, seen)


def shade_gaussians(gaussians: PosedGaussians, positions: Tensor, light: FilteredLight) -> Shaded:
    """Linear radiance of each Gaussian [B, N, 3] towards cameras at positions [B, 3] m (forward shading)."""
    material = gaussians.material
    assert material is not None
    assert gaussians.normals is not None
    to_eye = eye_directions(gaussians, positions)
    normals = seen_normals(gaussians.normals, to_eye)
    with torch.no_grad():
        seen = visibility(gaussians, normals, to_eye, light)
    return shade(of_gaussians(material), normals, to_eye, light, seen)


def of_gaussians(material: PosedMaterial) -> Material:
    """The same as shading takes it."""
    return Material(material.albedo, material.roughness, material.metallic)
