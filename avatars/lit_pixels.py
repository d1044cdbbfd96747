"""Relightable people in a picture: what travels with their Gaussians, and shading the pixels they cover (deferred).

Blending materials and normals and shading once a pixel keeps highlights sharp; blending shaded Gaussians would blur
them over every Gaussian a pixel sees.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatars.gaussians.posed import PosedGaussians, PosedMaterial
from avatars.lighting import cuda_shade, cuda_surface
from avatars.lighting.prefilter import FilteredLight
from avatars.lighting.probes import PosedProbes
from avatars.lighting.shading import Material, Shaded, Visibility, reflected, shade
from avatars.rendering.cameras import CameraBatch

TURNED_AWAY = -0.3
"""A normal is turned towards the eye where it points away by more than this cosine; a hard 0 would flicker at rims."""
FIXED = 7
"""Channels: albedo 3, roughness, metallic, ambient visibility, visibility along the reflection; then one a lamp."""


def lamps_of(light: FilteredLight | None) -> int:
    """How many lights stand beside the map."""
    return 0 if light is None or light.lobes is None else len(light.lobes)


def seen_normals(normals: Tensor, to_eye: Tensor) -> Tensor:
    """Normals [..., 3] turned towards the eye where they clearly point away from it."""
    cosine = (normals * to_eye).sum(-1, keepdim=True)
    return torch.where(cosine < TURNED_AWAY, -normals, normals)


def visibility(
    gaussians: PosedGaussians, normals: Tensor, to_eye: Tensor, lamp_directions: Tensor | None
) -> Visibility:
    """What reaches each Gaussian [B, N, ...] of the sky, of what it mirrors, of each lamp [L, 3] or [B, N, L, 3]."""
    lamps, material = 0 if lamp_directions is None else lamp_directions.shape[-2], gaussians.material
    one = gaussians.means.new_ones(*gaussians.means.shape[:2], 1)
    if material is None or material.probes is None:
        return Visibility(one, one, one.expand(-1, -1, lamps) if lamps else None)
    towards = [reflected(normals, to_eye)[:, :, None]]
    if lamp_directions is not None and lamps:
        towards.append(lamp_directions.to(normals).expand(*normals.shape[:2], -1, -1))
    ambient, along = material.probes.visible(gaussians.means, normals, torch.cat(towards, dim=2))
    return Visibility(ambient, along[..., :1], along[..., 1:] if lamps else None)


def eye_directions(gaussians: PosedGaussians, positions: Tensor) -> Tensor:
    """Unit directions [B, N, 3] from Gaussians to cameras at positions [B, 3] m."""
    return normalize(positions.to(gaussians.means)[:, None] - gaussians.means, dim=-1)


def lamp_directions(light: FilteredLight | None, points: Tensor) -> Tensor | None:
    """Directions [L, 3] towards the lights beside the map, or [B, N, L, 3] from points [B, N, 3] m where some are near.

    None without any.
    """
    return None if light is None or light.lobes is None or not lamps_of(light) else light.lobes.at(points).directions


def surface_rows(
    gaussians: PosedGaussians, positions: Tensor, lamps: Tensor | None, *, width: int = 0, plain: bool = False
) -> Tensor:
    """[B, N, width] of people with materials: FIXED channels, one for each of lamps, seen normals 3, zeros.

    positions: [B, 3] m of the eyes; lamps: [L, 3] directions towards them, or [B, N, L, 3] where they are near. No
    gradients. On CUDA it is one kernel unless `plain`, lamps are near, or what hides the sky are no `Probes`.
    """
    material, normals = gaussians.material, gaussians.normals
    assert material is not None
    assert normals is not None
    known = material.probes is None or isinstance(material.probes, PosedProbes)
    if not plain and known and (lamps is None or lamps.ndim == 2) and cuda_surface.usable(gaussians.means):
        parts = (material.albedo, material.roughness, material.metallic)
        return cuda_surface.surface_rows(
            gaussians.means, normals, parts, positions, material.probes, lamps, turned_away=TURNED_AWAY, width=width
        )
    to_eye = eye_directions(gaussians, positions)
    normals = seen_normals(normals, to_eye)
    seen = visibility(gaussians, normals, to_eye, lamps)
    found = [material.albedo, material.roughness, material.metallic, seen.diffuse, seen.specular]
    rows = torch.cat([*found, *([] if seen.lobes is None else [seen.lobes]), normals], dim=-1)
    return torch.nn.functional.pad(rows, (0, max(0, width - rows.shape[-1])))


def surface_features(
    gaussians: PosedGaussians, positions: Tensor, light: FilteredLight | None
) -> tuple[Tensor, Tensor]:
    """Channels [B, N, FIXED + lamps] to blend (zeros for a person without materials) and normals [B, N, 3]."""
    means, width = gaussians.means, FIXED + lamps_of(light)
    if gaussians.material is None:
        normals = torch.zeros_like(means) if gaussians.normals is None else gaussians.normals
        return means.new_zeros(*means.shape[:2], width), normals
    rows = surface_rows(gaussians, positions, lamp_directions(light, means))
    return rows[..., :width], rows[..., width : width + 3]


def pixel_rays(cameras: CameraBatch) -> Tensor:
    """Unit world directions [B, H, W, 3] along which pixels look."""
    rows, columns = torch.meshgrid(
        torch.arange(cameras.height_px, device=cameras.K.device),
        torch.arange(cameras.width_px, device=cameras.K.device),
        indexing="ij",
    )
    K = cameras.K[:, :, :, None, None]
    x, y = (columns + 0.5 - K[:, 0, 2]) / K[:, 0, 0], (rows + 0.5 - K[:, 1, 2]) / K[:, 1, 1]
    if cameras.orthographic:
        x, y = torch.zeros_like(x), torch.zeros_like(y)
    away = normalize(torch.stack([x, y, torch.ones_like(x)], dim=-1), dim=-1)
    return away @ cameras.camera_from_world[:, None, :3, :3]


def pixel_points(cameras: CameraBatch, depth_m: Tensor) -> Tensor:
    """World points [B, H, W, 3] m that pixels show at depth [B, H, W] m along the camera's z."""
    away, ahead = pixel_rays(cameras), cameras.camera_from_world[:, None, None, 2]
    if not cameras.orthographic:
        return cameras.positions()[:, None, None] + away * (depth_m / (away * ahead[..., :3]).sum(-1))[..., None]
    rows, columns = torch.meshgrid(
        *(torch.arange(count, device=depth_m.device) + 0.5 for count in depth_m.shape[1:]), indexing="ij"
    )
    K = cameras.K[:, :, :, None, None]
    x, y = (columns - K[:, 0, 2]) / K[:, 0, 0], (rows - K[:, 1, 2]) / K[:, 1, 1]
    seen = torch.stack([x.expand_as(depth_m), y.expand_as(depth_m), depth_m], dim=-1)
    return (seen - cameras.camera_from_world[:, None, None, :3, 3]) @ cameras.camera_from_world[:, None, :3, :3]


def facing(normals: Tensor, away: Tensor) -> Tensor:
    """Normals [..., 3] without what points along the rays `away` [..., 3] from the camera, which cannot be seen.

    Such normals come from inner surfaces (the shell of an ear, a mouth) that show through; they get shorter by it.
    """
    return normals - away * (normals * away).sum(dim=-1, keepdim=True).clamp(min=0)


def lit_pictures(
    features: Tensor,
    alpha: Tensor,
    cameras: CameraBatch,
    light: FilteredLight,
    *,
    surface: int,
    normal: int,
    turn: Tensor | None = None,
    depth_m: Tensor | None = None,
) -> Tensor:
    """Diffuse and specular linear radiance times cover [B, H, W, 6] of blended features [B, H, W, C], alpha [B, H, W].

    surface, normal: the channels at which the surface (FIXED and one a lamp) and the normal begin. turn: [3, 3], world
    directions @ turn are those the light is given in. depth_m: [B, H, W] along the camera's z; needed where lamps are
    near. No gradients. On CUDA it is one kernel, unless lights are near or wide.
    """
    if cuda_surface.usable(features) and (light.lobes is None or light.lobes.far_and_narrow):
        return cuda_shade.shade_rows(features, alpha, cameras, light, surface=surface, normal=normal, turn=turn)
    covered = alpha > 0
    cover = alpha[covered][:, None]
    straight = features[covered] / cover.clamp(min=1e-6)
    away = pixel_rays(cameras)[covered]
    normals = facing(straight[:, normal : normal + 3], away)
    if turn is not None:
        normals, away = normals @ turn, away @ turn
    points = None if depth_m is None or not lamps_of(light) else pixel_points(cameras, depth_m)[covered]
    shaded = shade_pixels(straight[:, surface : surface + FIXED + lamps_of(light)], normals, -away, light, points)
    found = alpha.new_zeros(*alpha.shape, 6)
    found[covered] = torch.cat([shaded.diffuse, shaded.specular], dim=-1) * cover
    return found


def shade_pixels(
    surface: Tensor, normals: Tensor, to_eye: Tensor, light: FilteredLight, points: Tensor | None = None
) -> Shaded:
    """Linear radiance of pixels [P] from blended, un-premultiplied channels [P, FIXED + lamps] and normals [P, 3].

    points: [P, 3] m what they show, world axes; needed where lamps are near.
    """
    material = Material(surface[:, :3].clamp(0, 1), surface[:, 3:4].clamp(0, 1), surface[:, 4:5].clamp(0, 1))
    lamps = surface[:, FIXED:].clamp(0, 1) if surface.shape[1] > FIXED else None
    seen = Visibility(surface[:, 5:6].clamp(0, 1), surface[:, 6:7].clamp(0, 1), lamps)
    return shade(material, normalize(normals, dim=-1), to_eye, light, seen, points)


def shade_gaussians(gaussians: PosedGaussians, positions: Tensor, light: FilteredLight) -> Shaded:
    """Linear radiance of each Gaussian [B, N, 3] towards cameras at positions [B, 3] m (forward shading)."""
    material = gaussians.material
    assert material is not None
    assert gaussians.normals is not None
    to_eye = eye_directions(gaussians, positions)
    normals = seen_normals(gaussians.normals, to_eye)
    with torch.no_grad():
        rows = surface_rows(gaussians, positions, lamp_directions(light, gaussians.means))
    lamps = rows[..., FIXED : FIXED + lamps_of(light)] if lamps_of(light) else None
    seen = Visibility(rows[..., 5:6], rows[..., 6:7], lamps)
    return shade(of_gaussians(material), normals, to_eye, light, seen, gaussians.means)


def of_gaussians(material: PosedMaterial) -> Material:
    """The same as shading takes it."""
    return Material(material.albedo, material.roughness, material.metallic)
