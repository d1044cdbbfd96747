"""Whole pictures of a teacher: radiance or physically based shading, with all maps, a band of rays at a time."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatars.lighting.colour import srgb_from_linear
from avatars.relit_body.teacher import TeacherImages
from avatars.relit_field.body import PosedBody
from avatars.relit_field.fields import Materials
from avatars.relit_field.light import Light
from avatars.relit_field.march import Person, Traced
from avatars.relit_field.objective import met_radiance, rays_of
from avatars.relit_field.posed_distance import posed_distance
from avatars.relit_field.rays import Rays, pixel_rays
from avatars.relit_field.settings import TeacherConfig
from avatars.relit_field.shading import shade
from avatars.rendering.cameras import CameraBatch

RAYS_AT_ONCE = {"cpu": 4096, "cuda": 1 << 17}
SHADED_AT_ONCE = {"cpu": 1 << 17, "cuda": 1 << 22}
"""Secondary rays under way at a time."""
LEAST_SAMPLES = 64
"""Light directions a pixel where training is content with fewer."""
FAINT = 0.02
"""Rays with less opacity than this are empty."""


def picture(
    person: Person,
    pose: PosedBody,
    camera: CameraBatch,
    config: TeacherConfig,
    *,
    light: Light | None,
    levels: int | None = None,
    seed: int = 0,
    samples: int = 0,
    maps: bool = True,
    lattice: bool = True,
) -> TeacherImages:
    """One picture [1, H, W, ...] through one camera, without gradients; the same for the same seed.

    light: shade with it, None for the radiance field. samples: light directions a pixel in place of the configured
    ones, 0 for those (at least LEAST_SAMPLES). maps: without them materials are 0, which saves time. lattice: False
    asks the fields along whole rays, as training does, which takes many times as long; a lattice of the pose leaves
    out where nothing shows.
    """
    width, height = camera.width_px, camera.height_px
    device = camera.K.device
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack((x, y), -1).reshape(-1, 2).to(device)
    rays = pixel_rays(camera, pixels, pose.low, pose.high)
    distances = posed_distance(person, pose, levels, config.light.cell_m) if lattice else None
    if distances is not None:
        rays = Rays(
            rays.origins, rays.directions, *distances.spans(rays.origins, rays.directions, rays.near_m, rays.far_m)
        )
    hit = torch.nonzero(rays.far_m > rays.near_m)[:, 0]
    found = torch.zeros(len(pixels), 13, device=device)
    generator = torch.Generator(device).manual_seed(seed)
    settings = config.light
    samples = samples or max(LEAST_SAMPLES, settings.rows * settings.columns)
    if samples != settings.rows * settings.columns:
        rows = max(1, round((samples / 2) ** 0.5))
        settings = replace(settings, rows=rows, columns=max(1, samples // rows))
    at_once, shaded_at_once = (
        RAYS_AT_ONCE[device.type],
        SHADED_AT_ONCE[device.type] // (settings.rows * settings.columns),
    )
    if distances is None:  # each secondary ray is then many places in the fields
        shaded_at_once //= 8
        at_once = min(at_once, max(1, shaded_at_once))
    forward = camera.camera_from_world[0, 2, :3]
    with torch.no_grad():
        for begun in range(0, len(hit), at_once):
            some = hit[begun : begun + at_once]
            traced = person.trace(pose, rays.some(some), levels, fine=True, generator=None)
            materials = (
                person.fields.materials(traced.canonical, traced.geometry.features, levels) if maps or light else None
            )
            alpha = traced.opacity.clamp(0, 1)
            if light is None:
                colours = _field_colour(person, traced, levels)
            else:
                assert materials is not None
                colours = torch.zeros(len(some), 3, device=device)
                for chosen in torch.nonzero(alpha > FAINT)[:, 0].split(max(1, shaded_at_once)):
                    part, samples_of = rays_of(traced, chosen)
                    stuff = Materials(*(value[samples_of] for value in vars(materials).values()))
                    lit = shade(person, pose, part, stuff, light, settings, generator, levels, distances)
                    colours[chosen] = met_radiance(lit)
            solid = alpha[:, None].clamp_min(FAINT)
            depth = traced.over(traced.samples.t_m[:, None]) / solid * (rays.directions[some] @ forward)[:, None]
            parts = [srgb_from_linear(colours.clamp(0, 1)), alpha[:, None], _normals(traced), depth]
            if materials is not None:
                parts += [traced.over(v) / solid for v in (materials.albedo, materials.roughness, materials.metallic)]
            row = torch.cat(parts, -1)
            row = torch.where(alpha[:, None] > FAINT, row, torch.zeros_like(row))
            found[some, : row.shape[1]] = row
    image = found.view(1, height, width, 13)
    return TeacherImages(
        radiance=image[..., :3],
        alpha=image[..., 3],
        normals=image[..., 4:7],
        albedo=image[..., 8:11],
        roughness=image[..., 11],
        metallic=image[..., 12],
        depth_m=image[..., 7],
    )


def _field_colour(person: Person, traced: Traced, levels: int | None) -> Tensor:
    """Straight linear radiance [R, 3] of the radiance field."""
    along = traced.seen_along()
    radiance = person.fields.radiance(traced.canonical, traced.geometry.features, traced.normals, along, levels)
    return traced.over(radiance) / traced.opacity[:, None].clamp_min(FAINT)


def _normals(traced: Traced) -> Tensor:
    """Unit normals [R, 3], flipped to the eye where they look away from it."""
    normals = normalize(traced.over(traced.normals), dim=-1, eps=1e-6)
    away = (normals * traced.rays.directions).sum(-1, keepdim=True) > 0
    return torch.where(away, -normals, normals)
