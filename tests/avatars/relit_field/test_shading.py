"""Light, visibility and shading of a sphere whose answers are known, in place of a person."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatars.relit_field.fields import Geometry, Materials
from avatars.relit_field.light import KnownLight, LobeLight, PictureLight, environment_of
from avatars.relit_field.march import Traced
from avatars.relit_field.networks import evenly_spread
from avatars.relit_field.rays import Rays, Samples
from avatars.relit_field.settings import LightSettings
from avatars.relit_field.shading import facing, incoming_radiance, shade, sphere_directions, visibility
from shared.types import Environment

SETTINGS = LightSettings(rows=24, columns=48, coarse_steps=64, fine_steps=8, far_m=3.0)


class Spheres:
    """Stands in for fields and body: spheres of radius 0.3 m at given centres that do not move."""

    def __init__(self, *centres: tuple[float, float, float]) -> None:
        self.centres = torch.tensor(centres)
        self.half_m = 2.0
        self.settings = SimpleNamespace(near_template_m=1.0)

    def distance(self, places: Tensor, levels: int | None = None) -> tuple[Tensor, Tensor]:
        found = (torch.cdist(places, self.centres) - 0.3).amin(1)
        return found, found[:, None]

    def geometry(self, places: Tensor, levels: int | None = None) -> Geometry:
        distance, features = self.distance(places)
        nearest = self.centres[torch.cdist(places, self.centres).argmin(1)]
        return Geometry(distance, features, normalize(places - nearest, dim=-1))

    def beta_m(self) -> Tensor:
        return torch.tensor(0.004)

    def radiance(self, places: Tensor, *_: Any) -> Tensor:
        return torch.full_like(places, 0.25)

    def canonical(self, pose: Any, places: Tensor, fields: Any, levels: int | None) -> tuple[Tensor, Tensor]:
        return places, torch.ones(len(places), dtype=torch.bool)

    def turned(self, pose: Any, places: Tensor, vectors: Tensor) -> Tensor:
        return vectors

    def filled(self, fields: Any, places: Tensor) -> Tensor:
        return torch.ones(len(places), dtype=torch.bool)

    def near(self, places: Tensor, reach_m: float) -> Tensor:
        return torch.ones(len(places), dtype=torch.bool)


def person_of(spheres: Spheres) -> tuple[Any, Any]:
    person = SimpleNamespace(body=spheres, fields=spheres, occupancy=spheres)
    return person, SimpleNamespace(guide=spheres)


def surface_rays(normals: Tensor, offset: float = 0.0) -> Traced:
    """One opaque sample a ray where it meets the sphere at the origin head on."""
    count = len(normals)
    rays = Rays(normals * 2, -normals, torch.zeros(count), torch.full((count,), 4.0))
    samples = Samples(torch.arange(count), torch.full((count,), 1.7 + offset), torch.full((count,), 0.01))
    places = rays.at(samples.ray, samples.t_m)
    geometry = Geometry(torch.zeros(count), torch.zeros(count, 1), normals)
    return Traced(rays, samples, places, geometry, normals, torch.ones(count), torch.ones(count))


def materials(count: int, albedo: float = 0.6, roughness: float = 1.0, metallic: float = 0.0) -> Materials:
    one = torch.ones(count, 1)
    return Materials(albedo * one.expand(-1, 3).clone(), roughness * one, metallic * one)


def white(radiance: float = 1.0) -> KnownLight:
    return KnownLight(Environment(torch.full((8, 16, 3), radiance).numpy()))


def test_directions_are_even() -> None:
    found = sphere_directions(3, 16, 32, torch.Generator().manual_seed(0), torch.device("cpu"))
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3, 512), atol=1e-5, rtol=0)
    assert found.mean(1).abs().max() < 0.02
    second = (found[..., :, None] * found[..., None, :]).mean(1)
    torch.testing.assert_close(second, torch.eye(3).expand(3, 3, 3) / 3, atol=0.02, rtol=0)


def test_a_convex_body_sees_the_whole_sky() -> None:
    """A diffuse surface under white light reflects its albedo (and a dielectric's four hundredths or so)."""
    person, pose = person_of(Spheres((0.0, 0.0, 0.0)))
    normals = evenly_spread(6)
    found = shade(
        person, pose, surface_rays(normals), materials(6), white(), SETTINGS, torch.Generator().manual_seed(0), None
    )
    torch.testing.assert_close(found.visibility, torch.ones(6), atol=1e-3, rtol=0)
    assert bool(found.met.all())
    assert (found.radiance - 0.62).abs().max() < 0.04


def test_a_blocker_shadows_and_bounces() -> None:
    """A second sphere above: what it hides of the sky comes back as its own radiance, or as nothing."""
    person, pose = person_of(Spheres((0.0, 0.0, 0.0), (0.0, 0.0, 0.7)))
    dark = replace(SETTINGS, bounce=False)
    for normal in ((0.0, 0.0, 1.0), (0.8, 0.0, 0.6)):
        traced = surface_rays(torch.tensor((normal,)))
        with_bounce, without = (
            shade(person, pose, traced, materials(1), white(), s, torch.Generator().manual_seed(0), None)
            for s in (SETTINGS, dark)
        )
        assert float(without.radiance.max()) < float(with_bounce.radiance.max()) < 0.66
        # The share of the sky over the surface that is open, by counting directions exactly.
        origin, centre = 0.3 * torch.tensor(normal), torch.tensor((0.0, 0.0, 0.7))
        directions = sphere_directions(1, 64, 128, torch.Generator().manual_seed(3), torch.device("cpu"))[0]
        over = directions @ torch.tensor(normal) > 1e-4
        along = directions @ (centre - origin)
        blocked = (along > 0) & (((centre - origin).square().sum() - along.square()) < 0.09)
        exact = 1 - float(blocked[over].float().mean())
        assert exact < 0.95
        assert abs(float(with_bounce.visibility) - exact) < 0.03


def test_visibility_finds_the_place() -> None:
    person, pose = person_of(Spheres((0.0, 0.0, 0.0)))
    origins = torch.tensor(((-1.5, 0.0, 0.0), (-1.5, 1.0, 0.0), (0.0, 0.0, 0.29)))
    directions = torch.tensor(((1.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)))
    passed, where, canonical = visibility(person, pose, origins, directions, SETTINGS, None)
    torch.testing.assert_close(passed, torch.tensor((0.0, 1.0, 1.0)), atol=1e-3, rtol=0)
    assert abs(float(where[0]) - 1.2) < 0.03
    assert abs(float(canonical[0].norm()) - 0.3) < 0.03
    incoming, _ = incoming_radiance(person, pose, origins, directions, white(2.0), SETTINGS, None)
    torch.testing.assert_close(incoming, torch.tensor(((0.25,) * 3, (2.0,) * 3, (2.0,) * 3)), atol=5e-3, rtol=0)


def test_gradients_reach_materials_and_light_alone() -> None:
    person, pose = person_of(Spheres((0.0, 0.0, 0.0)))
    made = materials(4, roughness=0.5)
    for tensor in (made.albedo, made.roughness, made.metallic):
        tensor.requires_grad_()
    light = LobeLight(LightSettings(lobes=6), torch.Generator().manual_seed(0))
    traced = surface_rays(evenly_spread(4))
    found = shade(person, pose, traced, made, light, SETTINGS, torch.Generator().manual_seed(0), None)
    wanted = (made.albedo, made.roughness, made.metallic, light.amplitude, light.axes, light.sharpness)
    slopes = torch.autograd.grad(found.radiance.sum(), wanted)
    assert all(torch.isfinite(slope).all() and slope.abs().max() > 0 for slope in slopes)
    assert (slopes[0] > 0).all()  # brighter albedo, brighter picture


def test_nothing_met_is_black_and_finite() -> None:
    person, pose = person_of(Spheres((0.0, 0.0, 0.0)))
    traced = surface_rays(evenly_spread(2))
    empty = Traced(
        traced.rays, traced.samples, traced.canonical, traced.geometry, traced.normals, torch.zeros(2), torch.zeros(2)
    )
    found = shade(person, pose, empty, materials(2), white(), SETTINGS, torch.Generator(), None)
    assert not found.met.any()
    assert not found.radiance.any()


def test_normals_are_bent_towards_the_eye_only_where_needed() -> None:
    to_eye = torch.tensor(((0.0, 0.0, 1.0),)).expand(2, -1)
    found = facing(torch.tensor(((1.0, 0.0, 0.0), (0.0, 0.6, 0.8))), to_eye)
    assert float(found[0] @ to_eye[0]) > 0
    torch.testing.assert_close(found[1], torch.tensor((0.0, 0.6, 0.8)))


def test_lights_start_as_published_and_become_environments() -> None:
    settings = LightSettings(lobes=64, height=16)
    lobes, picture = (kind(settings, torch.Generator().manual_seed(0)) for kind in (LobeLight, PictureLight))
    assert float(lobes.sharpness.detach().min()) >= 10
    for light in (lobes, picture):
        made = environment_of(light, 64)
        assert made.radiance.shape == (64, 128, 3)
        directions = evenly_spread(20000)
        energy = light.radiance(directions).mean(0) * 4 * math.pi
        torch.testing.assert_close(energy.detach(), torch.full((3,), 0.8 * 2 * math.pi), rtol=0.03, atol=0)
        again = KnownLight(made).radiance(directions)
        assert float((again - light.radiance(directions)).abs().mean()) < 0.02
