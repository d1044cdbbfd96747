"""Importance samples: densities that integrate to one, and pictures of the same brightness with less noise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch.nn.functional import normalize

from avatars.relit_field.light import KnownLight, LobeLight
from avatars.relit_field.networks import evenly_spread
from avatars.relit_field.settings import LightSettings
from avatars.relit_field.shading import shade
from avatars.relit_field.sky import importance, sky_of
from shared.types import Environment
from tests.avatars.relit_field.test_shading import SETTINGS, Spheres, materials, person_of, surface_rays

CONVEX = replace(SETTINGS, coarse_steps=4, far_m=0.4)
"""For a body that cannot shadow itself."""


def sunny(rotation_rad: float = 0.0) -> Environment:
    """A grey sky with one texel a thousand times as bright."""
    radiance = np.full((32, 64, 3), 0.2, np.float32)
    radiance[8, 40] = 200.0
    return Environment(radiance, rotation_rad=rotation_rad)


def test_directions_follow_the_light() -> None:
    for light in (KnownLight(sunny(0.7)), LobeLight(LightSettings(lobes=5), torch.Generator().manual_seed(0))):
        sky = sky_of(light)
        everywhere = evenly_spread(40000)
        assert abs(float(sky.at(everywhere).mean()) * 4 * math.pi - 1) < 0.05
        points = torch.rand(20000, 2, generator=torch.Generator().manual_seed(0))
        drawn = sky.drawn(points)
        torch.testing.assert_close(drawn.norm(dim=-1), torch.ones(20000), atol=1e-4, rtol=0)
        # The integral of the light, by samples and by counting evenly.
        with torch.no_grad():
            ours = (light.radiance(drawn) / sky.at(drawn)[:, None]).mean(0)
            exact = light.radiance(everywhere).mean(0) * 4 * math.pi
        torch.testing.assert_close(ours, exact, rtol=0.05, atol=0)
    dark = sky_of(KnownLight(Environment(np.zeros((8, 16, 3), np.float32))))
    assert abs(float(dark.density.mean()) * 4 * math.pi - 1) < 1e-4  # no light: anywhere


def test_a_given_light_is_looked_through_once() -> None:
    light = KnownLight(sunny())
    assert sky_of(light) is sky_of(light)


def test_weights_are_integrals() -> None:
    """One, cosine and a sharp highlight over the hemisphere, for smooth and rough, straight and slanted surfaces."""
    sky = sky_of(KnownLight(sunny()))
    normals = evenly_spread(64)
    for slant in (0.1, 0.7):
        side = normalize(torch.linalg.cross(normals, torch.tensor((0.3, 0.9, 0.1)).expand(64, -1)), dim=-1)
        to_eye = normalize(normals + slant * 2 * side, dim=-1)
        for roughness in (0.1, 0.9):
            found = importance(
                normals, to_eye, torch.full((64,), roughness), sky, 256, torch.Generator().manual_seed(1)
            )
            cosine = (found.to_light * normals[:, None]).sum(-1).clamp_min(0)
            total = (cosine * found.weight).sum(1)
            assert abs(float(total.mean()) - math.pi) < 0.1
            assert bool((found.weight > 0).all())
            assert 0 <= float(found.where.min()) <= float(found.where.max()) < 1
    assert importance(normals[:0], normals[:0], torch.zeros(0), sky, 8, torch.Generator()).to_light.shape == (0, 8, 3)


def test_a_sun_in_the_map_gives_the_same_picture_with_less_grain() -> None:
    person, pose = person_of(Spheres((0.0, 0.0, 0.0)))
    normals = evenly_spread(40)
    light = KnownLight(sunny(0.4))
    for roughness in (1.0, 0.3):
        stuff = materials(40, roughness=roughness)

        def drawn(settings: LightSettings, seed: int, stuff=stuff):  # type: ignore[no-untyped-def]
            generator = torch.Generator().manual_seed(seed)
            return shade(person, pose, surface_rays(normals), stuff, light, settings, generator, None).radiance

        exact = torch.stack(
            [drawn(replace(CONVEX, sampling="even", rows=64, columns=128), seed) for seed in range(4)]
        ).mean(0)
        few = replace(CONVEX, rows=8, columns=16)
        ours = torch.stack([drawn(few, seed) for seed in range(8)])
        even = torch.stack([drawn(replace(few, sampling="even"), seed) for seed in range(8)])
        assert float((ours.mean(0) - exact).abs().mean() / exact.mean()) < 0.04
        assert float(ours.std(0).mean()) < 0.25 * float(even.std(0).mean())


def test_suns_and_lamps_beside_the_map_shine_and_cast_shadows() -> None:
    """A white surface that faces a narrow sun sends back irradiance / pi; a ball in the way takes it."""
    sun = np.array([[0, 0, 1, math.pi, math.pi, math.pi, 0.005]], np.float32)
    light = KnownLight(Environment(np.zeros((8, 16, 3), np.float32), lights=sun))
    traced = surface_rays(torch.tensor(((0.0, 0.0, 1.0), (1.0, 0.0, 0.0))))
    for centres, bright in (((0.0, 0.0, 0.0),), 0.6), (((0.0, 0.0, 0.0), (0.0, 0.0, 1.2)), 0.0):
        person, pose = person_of(Spheres(*centres))
        found = shade(
            person, pose, traced, materials(2), light, replace(SETTINGS, bounce=False), torch.Generator(), None
        )
        assert abs(float(found.radiance[0].mean()) - bright) < 0.03  # a dielectric's highlight adds a little
        assert float(found.radiance[1].max()) < 0.01
