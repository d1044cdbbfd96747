"""Physically based shading of traced rays: one light direction a scattering place, seen or blocked, with one bounce.

Scattering places are drawn along each ray by its weights. Directions are drawn where light comes from and where the
surface sends it (`sky`), or stratified over the sphere as published (method page C.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatars.lighting.brdf import brdf
from avatars.relit_field.body import PosedBody
from avatars.relit_field.compositing import drawn
from avatars.relit_field.fields import Materials, laplace_density
from avatars.relit_field.fused import fused
from avatars.relit_field.light import KnownLight, Light
from avatars.relit_field.march import Person, Traced
from avatars.relit_field.posed_distance import PosedDistance
from avatars.relit_field.rays import uniform
from avatars.relit_field.settings import LightSettings
from avatars.relit_field.sky import Directions, importance, sky_of

SUN_SAMPLES = 4
"""So many directions within each sun or lamp beside a map."""
AWAY_STEPS = 0.5
"""Secondary rays begin so many of their steps off the surface."""


@dataclass(frozen=True, eq=False)
class Shaded:
    """radiance: [R, 3] linear, of the person where a ray meets it; visibility: [R] the part of the sky over the surface
    that is open; met: [R] bool, rays that met anything."""

    radiance: Tensor
    visibility: Tensor
    met: Tensor


def sphere_directions(rays: int, rows: int, columns: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """[R, rows * columns, 3] unit directions, one in each of equal parts of the sphere; density 1 / (4 pi)."""
    shift = uniform((rays, rows, columns, 2), generator, device)
    z = 1 - 2 * (torch.arange(rows, device=device)[:, None] + shift[..., 0]) / rows
    turn = 2 * math.pi * (torch.arange(columns, device=device) + shift[..., 1]) / columns
    radius = (1 - z * z).clamp_min(0).sqrt()
    return torch.stack((radius * turn.cos(), radius * turn.sin(), z), -1).flatten(1, 2)


def even(rays: int, settings: LightSettings, generator: torch.Generator, device: torch.device) -> Directions:
    """Directions as published: stratified over the sphere, in no order along a ray."""
    count = settings.rows * settings.columns
    directions = sphere_directions(rays, settings.rows, settings.columns, generator, device)
    order = torch.argsort(uniform((rays, count), generator, device), dim=1)
    where = (order + uniform((rays, count), generator, device)) / count
    return Directions(directions, where.new_full((rays, count), 4 * math.pi / count), where)


def shade(
    person: Person,
    pose: PosedBody,
    traced: Traced,
    materials: Materials,
    light: Light,
    settings: LightSettings,
    generator: torch.Generator,
    levels: int | None,
    lattice: PosedDistance | None = None,
) -> Shaded:
    """Outgoing radiance of all rays of `traced`; differentiable in the materials of its samples, normals and light.

    lattice: distances of the pose, which say what is in a light's way; without them the fields are asked.
    """
    rays, device = len(traced.rays), traced.weights.device
    if settings.sampling == "even":
        chosen = even(rays, settings, generator, device)
    else:
        chosen = importance(*_surfaces(traced, materials), sky_of(light), settings.rows * settings.columns, generator)
    index, met = drawn(traced.weights, traced.samples.ray, rays, chosen.where)
    if not bool(met.any()):
        nothing = traced.weights.new_zeros(rays)
        return Shaded(nothing[:, None].expand(-1, 3), nothing, met)
    facing_light = (traced.normals.detach()[index] * chosen.to_light).sum(-1) > 1e-4
    ray, column = torch.nonzero(facing_light & met[:, None], as_tuple=True)
    place, to_light = index[ray, column], chosen.to_light[ray, column]
    origins = traced.rays.at(ray, traced.samples.t_m[place])
    incoming, open_sky = incoming_radiance(person, pose, origins, to_light, light, settings, levels, lattice)
    lit = _reflected(traced, materials, ray, place, to_light) * incoming * chosen.weight[ray, column][:, None]
    radiance = lit.new_zeros(rays, 3).index_add(0, ray, lit)
    solid = chosen.weight[ray, column]
    over = lit.new_zeros(rays).index_add(0, ray, solid)
    seen = lit.new_zeros(rays).index_add(0, ray, open_sky * solid)
    if isinstance(light, KnownLight) and light.beside is not None:
        radiance = radiance + _suns(person, pose, traced, materials, light, settings, generator, levels, lattice)
    return Shaded(radiance, seen / over.clamp_min(1e-9), met)


def _surfaces(traced: Traced, materials: Materials) -> tuple[Tensor, Tensor, Tensor]:
    """Mean normal [R, 3] that faces the eye, direction to the eye [R, 3] and mean roughness [R] of each ray."""
    with torch.no_grad():
        mean = traced.over(torch.cat((traced.normals, materials.roughness), -1))
        to_eye = -traced.rays.directions
        normals = normalize(mean[:, :3], dim=-1, eps=1e-6)
        normals = torch.where(mean[:, :3].square().sum(-1, keepdim=True) > 1e-12, normals, to_eye)
        return facing(normals, to_eye), to_eye, mean[:, 3] / traced.opacity.clamp_min(1e-3)


def _reflected(traced: Traced, materials: Materials, ray: Tensor, place: Tensor, to_light: Tensor) -> Tensor:
    """BRDF times cosine [N, 3] at samples [N] of rays [N] for light from [N, 3]."""
    to_eye = -traced.rays.directions[ray]
    columns = (traced.normals, materials.albedo, materials.roughness, materials.metallic)
    normal, *stuff = torch.cat(columns, -1).index_select(0, place).split((3, 3, 1, 1), -1)
    found: Tensor = sent_back(normal, to_eye, to_light, *stuff)
    return found


@fused
def sent_back(
    normal: Tensor, to_eye: Tensor, to_light: Tensor, albedo: Tensor, roughness: Tensor, metallic: Tensor
) -> Tensor:
    """BRDF times cosine [N, 3] of surfaces [N]; a normal that looks away from the eye is bent for the BRDF alone."""
    diffuse, specular = brdf(facing(normal, to_eye), to_eye, to_light, albedo, roughness, metallic)
    return (diffuse + specular) * (normal * to_light).sum(-1, keepdim=True)


def _suns(
    person: Person,
    pose: PosedBody,
    traced: Traced,
    materials: Materials,
    light: KnownLight,
    settings: LightSettings,
    generator: torch.Generator,
    levels: int | None,
    lattice: PosedDistance | None,
) -> Tensor:
    """Radiance [R, 3] of the suns and lamps beside a map, each asked about at SUN_SAMPLES places within its disc."""
    assert light.beside is not None
    rays, device = len(traced.rays), traced.weights.device
    points = uniform((rays, SUN_SAMPLES, 3), generator, device)
    index, met = drawn(traced.weights, traced.samples.ray, rays, points[..., 0])
    ray, sample = torch.nonzero(met[:, None].expand(-1, SUN_SAMPLES), as_tuple=True)
    place, points = index[ray, sample], points[ray, sample]
    origins = traced.rays.at(ray, traced.samples.t_m[place])
    lobes = light.beside.to(device).at(origins)
    axes = lobes.directions.expand(len(ray), -1, 3)
    z = 1 - points[:, None, 1] * (1 - lobes.half_angle_rad.cos().expand(len(ray), -1))
    turn, radius = 2 * math.pi * points[:, None, 2], (1 - z * z).clamp_min(0).sqrt()
    helper = torch.zeros_like(axes).scatter_(-1, axes.abs().argmin(-1, keepdim=True), 1.0)
    side = normalize(torch.linalg.cross(axes, helper), dim=-1)
    up = torch.linalg.cross(axes, side)
    to_light = z[..., None] * axes + radius[..., None] * (turn.cos()[..., None] * side + turn.sin()[..., None] * up)
    each = to_light.shape[1]
    ray, place = ray.repeat_interleave(each), place.repeat_interleave(each)
    origins, to_light = origins.repeat_interleave(each, 0), to_light.flatten(0, 1)
    risen = torch.nonzero((traced.normals.detach()[place] * to_light).sum(-1) > 1e-4)[:, 0]
    ray, place, to_light = ray[risen], place[risen], to_light[risen]
    passed, _ = _passed(person, pose, origins[risen], to_light, settings, levels, lattice)
    power = lobes.irradiance.expand(-1 if lobes.irradiance.dim() == 3 else len(axes), each, 3)
    lit = _reflected(traced, materials, ray, place, to_light) * power.flatten(0, 1)[risen] * passed[:, None]
    return lit.new_zeros(rays, 3).index_add(0, ray, lit / SUN_SAMPLES)


def facing(normals: Tensor, to_eye: Tensor) -> Tensor:
    """Normals [N, 3] that look away from the eye bent just so far that they do not."""
    along = (normals * to_eye).sum(-1, keepdim=True)
    return normalize(torch.where(along < 1e-3, normals + (1e-3 - along) * to_eye, normals), dim=-1)


def incoming_radiance(
    person: Person,
    pose: PosedBody,
    origins: Tensor,
    directions: Tensor,
    light: Light,
    settings: LightSettings,
    levels: int | None,
    lattice: PosedDistance | None = None,
) -> tuple[Tensor, Tensor]:
    """Radiance [N, 3] that reaches places [N, 3] from directions [N, 3], and how much of the light passes [N] in 0..1.

    The light where it is seen, the radiance field where the person is in the way (not differentiated).
    """
    passed, canonical = _passed(person, pose, origins, directions, settings, levels, lattice)
    incoming = light.radiance(directions) * passed[:, None]
    blocked = torch.nonzero(passed < 0.999)[:, 0]
    if settings.bounce and len(blocked):
        with torch.no_grad():
            places, along = canonical(blocked), directions[blocked]
            geometry = person.fields.geometry(places, levels)
            normals = normalize(person.body.turned(pose, places, geometry.gradient), dim=-1, eps=1e-6)
            reflected = person.fields.radiance(places, geometry.features, normals, along, levels)
        incoming = incoming.index_add(0, blocked, reflected * (1 - passed[blocked, None]))
    return incoming, passed


def _passed(
    person: Person,
    pose: PosedBody,
    origins: Tensor,
    directions: Tensor,
    settings: LightSettings,
    levels: int | None,
    lattice: PosedDistance | None,
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """How much light passes [N], and what gives the canonical places [K, 3] that rays [K] first enter at."""
    if lattice is None:
        passed, _, canonical = visibility(person, pose, origins, directions, settings, levels)
        return passed, lambda rows: canonical[rows]
    step = settings.far_m / settings.coarse_steps
    found = lattice.blocked(origins, directions, AWAY_STEPS * step, settings.far_m, 2 * step)

    def canonical_of(rows: Tensor) -> Tensor:
        places = origins[rows] + found.where_m[rows, None] * directions[rows]
        return person.body.canonical(pose, places, person.fields, levels)[0]

    return found.passed, canonical_of


def visibility(
    person: Person, pose: PosedBody, origins: Tensor, directions: Tensor, settings: LightSettings, levels: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """How much light passes [N], where a ray first enters the person [N] m (far_m where it does not), canonical [N, 3].

    Coarse steps look for the first change of the distance's sign from outside to inside; around it, fine steps sum up
    the density. A ray that begins inside must leave first, so a place does not shadow itself. Without gradients.
    """
    with torch.no_grad():
        step = settings.far_m / settings.coarse_steps
        count = len(origins)
        t = (torch.arange(settings.coarse_steps, device=origins.device) + AWAY_STEPS) * step
        distance = _distances(person, pose, origins, directions, t.expand(count, -1), levels)[0]
        enters = (distance[:, :-1] > 0) & (distance[:, 1:] <= 0)
        first = torch.argmax(enters.int(), dim=1)
        hit = torch.nonzero(enters.any(1))[:, 0]
        passed = torch.ones(count, device=origins.device)
        where = torch.full((count,), settings.far_m, device=origins.device)
        canonical = torch.zeros(count, 3, device=origins.device)
        if not len(hit):
            return passed, where, canonical
        row = torch.arange(len(hit), device=origins.device)
        before, after = distance[hit][row, first[hit]], distance[hit][row, first[hit] + 1]
        # Where there is nothing the distance is a constant, not a slope: then only its sign says something.
        share = (before / (before - after).clamp_min(1e-9)).clamp(0, 1)
        fine = (torch.arange(settings.fine_steps, device=origins.device) + 0.5) / settings.fine_steps
        width = 2 * step / settings.fine_steps
        start = t[first[hit]] + share * step - 0.5 * step
        t_fine = start[:, None] + 2 * step * fine
        near, places = _distances(person, pose, origins[hit], directions[hit], t_fine, levels)
        density = laplace_density(near, person.fields.beta_m())
        passed[hit] = torch.exp(-(density * width).sum(1))
        entered = torch.argmax((near <= 0).int(), dim=1)
        where[hit] = t_fine[row, entered]
        canonical[hit] = places[row, entered]
        return passed, where, canonical


def _distances(
    person: Person, pose: PosedBody, origins: Tensor, directions: Tensor, t_m: Tensor, levels: int | None
) -> tuple[Tensor, Tensor]:
    """Signed distance [N, S] at t_m [N, S] along rays, far outside where nothing can be; canonical places [N, S, 3]."""
    count, steps = t_m.shape
    places = (origins[:, None] + t_m[..., None] * directions[:, None]).flatten(0, 1)
    far = person.fields.half_m
    distance = places.new_full((len(places),), far)
    canonical = torch.zeros_like(places)
    near = torch.nonzero(pose.guide.near(places, person.body.settings.near_template_m))[:, 0]
    found, ok = person.body.canonical(pose, places[near], person.fields, levels)
    ok = ok & person.occupancy.filled(person.fields, found)
    near, found = near[ok], found[ok]
    distance[near] = person.fields.distance(found, levels)[0]
    canonical[near] = found
    return distance.view(count, steps), canonical.view(count, steps, 3)
