"""Filtered environment maps and shading against plain summation over the sphere."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatars.lighting.brdf import brdf
from avatars.lighting.latlong import columns_rows, looked_up, pixel_directions, resampled, row_solid_angles
from avatars.lighting.lobes import Lobes
from avatars.lighting.prefilter import HEIGHT, ROUGHNESSES, filtered, filtered_environment, specular_kernel
from avatars.lighting.shading import Material, Visibility, exposed, reflected, shade
from shared.lamps import sun
from shared.types import Environment
from tests.avatars.lighting.test_lighting import soft_sky

SKY = torch.from_numpy(soft_sky()).float()


def normals_of(count: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)), dim=-1)


def summed(radiance: Tensor, weight_of_cosine, normals: Tensor) -> Tensor:
    """The weighted mean radiance about each normal, by plain summation over a fine map."""
    fine = resampled(radiance.double(), 128, 256)
    directions, area = pixel_directions(128, 256).reshape(-1, 3), row_solid_angles(128, 256)
    weight = weight_of_cosine(normals.double() @ directions.T) * area[:, None].expand(-1, 256).reshape(1, -1)
    return (weight @ fine.reshape(-1, 3)) / weight.sum(1, keepdim=True)


def test_looking_up_gives_the_pixel_whose_direction_it_is() -> None:
    image = torch.rand(16, 32, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(looked_up(image, *columns_rows(pixel_directions(16, 32))), image)


def test_looking_up_is_continuous_over_seam_and_poles() -> None:
    image = resampled(SKY, 32, 64)
    step = 1e-4
    for base in ((-1.0, 0.0, 0.3), (0.0, 0.0, 1.0), (0.0, 0.0, -1.0)):
        towards = torch.tensor([base]) + step * torch.tensor([[0, 1, 0], [0, -1, 0], [1, 0, 0], [-1, 0, 0.0]])
        values = looked_up(image, *columns_rows(towards))
        assert float((values - values[0]).abs().max()) < 5e-3 * float(image.max())


def test_resampling_keeps_all_light() -> None:
    image = torch.zeros(50, 90, 3)
    image[7, 80] = torch.tensor([900.0, 600.0, 300.0])
    energy = (image.double() * row_solid_angles(50, 90)[:, None, None]).sum((0, 1))
    for height in (16, 128):
        other = resampled(image, height, 2 * height).double()
        found = (other * row_solid_angles(height, 2 * height)[:, None, None]).sum((0, 1))
        torch.testing.assert_close(found, energy, rtol=1e-5, atol=0)


@pytest.mark.parametrize("roughness", [0.2, 0.3, 0.5, 1.0])
def test_specular_maps_are_the_lobes_mean(roughness: float) -> None:
    light, towards = filtered(SKY), normals_of(30)
    expected = summed(SKY, lambda cosine: specular_kernel(cosine, roughness), towards)
    found = light.specular_at(towards, torch.full((30,), roughness))
    assert float((found - expected).abs().max()) < 0.02 * float(expected.max())


def test_diffuse_map_is_irradiance_over_pi() -> None:
    towards = normals_of(30)
    expected = summed(SKY, lambda cosine: cosine.clamp(min=0), towards)
    assert float((filtered(SKY).diffuse_at(towards) - expected).abs().max()) < 0.01 * float(expected.max())


def test_white_light_stays_white_at_every_roughness() -> None:
    light, towards = filtered(torch.full((8, 16, 3), 0.7)), normals_of(200)
    for roughness in (*ROUGHNESSES, 0.05, 0.43):
        found = light.specular_at(towards, torch.full((200,), roughness))
        torch.testing.assert_close(found, torch.full_like(found, 0.7), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(light.diffuse_at(towards), torch.full((200, 3), 0.7), rtol=1e-5, atol=1e-6)


def test_turning_needs_no_new_filtering() -> None:
    columns = 32
    turn = columns * 2 * math.pi / (2 * HEIGHT)
    image = resampled(SKY, HEIGHT, 2 * HEIGHT)
    # Turning by +angle about z moves every feature towards smaller u.
    moved, turned = filtered(image.roll(-columns, dims=1)), filtered(image).turned(turn, 2.0)
    towards = normals_of(100)
    for roughness in (0.0, 0.35, 1.0):
        rough = torch.full((100,), roughness)
        torch.testing.assert_close(
            turned.specular_at(towards, rough), 2 * moved.specular_at(towards, rough), rtol=1e-3, atol=1e-4
        )
    # 32 columns of 256 are a whole number of the diffuse map's columns, too.
    torch.testing.assert_close(turned.diffuse_at(towards), 2 * moved.diffuse_at(towards), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("axis", [(1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0), (-0.6, -0.64, 0.48)])
def test_one_bright_texel_lights_the_side_that_faces_it(axis: tuple[float, float, float]) -> None:
    direction = torch.tensor([axis])
    u, v = columns_rows(direction)
    image = torch.zeros(64, 128, 3)
    image[int((v[0] * 64).clamp(max=63)), int(u[0] * 128) % 128] = 5000.0
    light = filtered(image)
    sphere = normals_of(2000, 3)
    brightest = sphere[light.diffuse_at(sphere)[:, 0].argmax()]
    assert float(brightest @ direction[0]) > 0.97
    assert float(light.diffuse_at(-direction).max()) < 1e-3 * float(light.diffuse_at(direction).max())
    mirror = sphere[light.specular_at(sphere, torch.full((2000,), 0.3))[:, 0].argmax()]
    assert float(mirror @ direction[0]) > 0.99


def reference_shading(
    material: Material, normal: Tensor, eye: Tensor, radiance: Tensor, samples: int = 128
) -> tuple[Tensor, Tensor]:
    """Diffuse and specular radiance by summing the BRDF over every pixel of a fine map."""
    fine = resampled(radiance.double(), samples, 2 * samples).reshape(-1, 3)
    directions = pixel_directions(samples, 2 * samples).reshape(-1, 3)
    area = row_solid_angles(samples, 2 * samples)[:, None].expand(-1, 2 * samples).reshape(-1, 1)
    parts = brdf(
        normal.double(),
        eye.double(),
        directions,
        *(m.double() for m in (material.albedo, material.roughness)),
        material.metallic.double(),
    )
    cosine = (directions @ normal.double()).clamp(min=0)[:, None]
    return tuple((part * fine * cosine * area).sum(0).float() for part in parts)


@pytest.mark.parametrize(("roughness", "metallic"), [(0.3, 0.0), (0.5, 0.3), (0.8, 1.0)])
def test_shading_against_the_integral(roughness: float, metallic: float) -> None:
    """Seen head on the split sum is nearly exact; at a slant it is an approximation that keeps within a few percent."""
    light = filtered(SKY)
    for index, (normal, slant) in enumerate(zip(normals_of(6, 5), (0.0, 0.0, 0.3, 0.3, 0.6, 0.6), strict=True)):
        side = normalize(torch.linalg.cross(normal, normals_of(6, 6)[index]), dim=-1)
        eye = normalize(normal * math.cos(slant) + side * math.sin(slant), dim=-1)
        material = Material(torch.tensor([0.7, 0.5, 0.3]), torch.tensor([roughness]), torch.tensor([metallic]))
        diffuse, specular = reference_shading(material, normal, eye, SKY)
        found = shade(material, normal, eye, light)
        torch.testing.assert_close(found.diffuse, diffuse, rtol=0.01, atol=1e-3)
        near, least = (0.02, 2e-3) if slant == 0 else (0.1, 0.02)  # the sky's sun is 6 bright
        assert float((found.specular - specular).abs().max()) < near * float(specular.max()) + least


def test_furnace() -> None:
    """White light everywhere: a white rough plastic gives back at most what arrives, albedo 0 only its 4 %."""
    light, normals, eyes = filtered(torch.ones(4, 8, 3)), normals_of(50), normals_of(50, 1)
    eyes = torch.where((normals * eyes).sum(-1, keepdim=True) < 0, -eyes, eyes)
    one = torch.ones(50, 1)
    metal = shade(Material(torch.ones(50, 3), one * 0.3, one), normals, eyes, light)
    assert float(metal.diffuse.abs().max()) == 0
    assert float(metal.total.min()) > 0.85
    assert float(metal.total.max()) < 1.005
    plastic = shade(Material(torch.ones(50, 3), one, one * 0), normals, eyes, light)
    torch.testing.assert_close(plastic.diffuse, torch.ones(50, 3), rtol=1e-4, atol=1e-4)
    black = shade(Material(torch.zeros(50, 3), one * 0.5, one * 0), normals, normals, light)
    assert float(black.total.mean()) == pytest.approx(0.04, abs=5e-3)


def test_degenerate_input_stays_finite() -> None:
    light = replace(filtered(SKY), lobes=Lobes.of(np.array([[0, 0, 1, 2, 2, 2, 0.0], [0, 0, 0, 9, 9, 9, 0.1]])))
    up, flat = torch.tensor([[0.0, 0, 1.0]]), torch.tensor([[1.0, 0, 0]])
    zero = torch.zeros(1, 1)
    for eye in (up, flat, -up):
        for roughness in (0.0, 1.0):
            material = Material(torch.zeros(1, 3), zero + roughness, zero)
            for start in (up, flat, torch.zeros(1, 3)):
                normal = start.clone().requires_grad_()
                total = shade(material, normal, eye, light).total
                assert torch.isfinite(total).all()
                (slope,) = torch.autograd.grad(total.sum(), normal)
                assert torch.isfinite(slope).all()


def test_gradients_reach_map_normals_and_material() -> None:
    generator = torch.Generator().manual_seed(2)
    radiance = (0.2 + torch.rand(8, 16, 3, generator=generator)).requires_grad_()
    normals, eyes = normals_of(8, 8), normals_of(8, 9)
    eyes = torch.where((normals * eyes).sum(-1, keepdim=True) < 0.2, normals, eyes)
    values = [
        torch.rand(8, 3, generator=generator),
        0.2 + 0.6 * torch.rand(8, 1, generator=generator),
        torch.rand(8, 1, generator=generator),
    ]

    def picture(radiance: Tensor, *material: Tensor) -> Tensor:
        return shade(Material(*material), normals, eyes, filtered(radiance, height=16)).total

    leaves = [radiance, *(value.requires_grad_() for value in values)]
    slopes = torch.autograd.grad(picture(*leaves).sum(), leaves)
    for index, (leaf, slope) in enumerate(zip(leaves, slopes, strict=True)):
        direction = torch.randn(leaf.shape, generator=generator)
        step = 1e-3
        with torch.no_grad():
            ends = []
            for sign in (1, -1):
                moved = [value + sign * step * direction if i == index else value for i, value in enumerate(leaves)]
                ends.append(float(picture(*moved).double().sum()))
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float((slope * direction).sum()), rel=2e-2, abs=2e-2)


@pytest.mark.parametrize("half_angle", [0.06, 0.15])
def test_a_sun_beside_the_map_equals_one_painted_into_it(half_angle: float) -> None:
    towards = normalize(torch.tensor([0.4, -0.7, 0.6]), dim=-1)
    height = 256
    disk = (pixel_directions(height, 2 * height).float() @ towards > math.cos(half_angle)).float()
    area = float((disk.double() * row_solid_angles(height, 2 * height)[:, None]).sum())
    painted = disk[..., None].expand(-1, -1, 3) * (3.0 / area)
    lobes = Lobes.of(sun(towards.numpy(), np.full(3, 3.0), 2 * half_angle)[None])
    beside = replace(filtered(torch.zeros(4, 8, 3)), lobes=lobes)
    for tilt in (0.0, 0.1, 0.3):
        side = normalize(torch.linalg.cross(towards, torch.tensor([0.0, 0.0, 1.0])), dim=-1)
        normal = normalize(towards + math.tan(tilt) * side, dim=-1)
        material = Material(torch.tensor([0.6, 0.6, 0.6]), torch.tensor([0.5]), torch.tensor([0.0]))
        diffuse, specular = reference_shading(material, normal, normal, painted, samples=256)
        found = shade(material, normal, normal, beside)
        torch.testing.assert_close(found.diffuse, diffuse, rtol=0.02, atol=1e-3)
        torch.testing.assert_close(found.specular, specular, rtol=0.06, atol=2e-3)


def test_visibility_darkens_each_part_by_itself() -> None:
    environment = Environment(soft_sky(), lights=sun(np.array([0.0, 0, 1]), np.ones(3), 0.01)[None])
    light = filtered_environment(environment)
    normals = torch.tensor([[0.0, 0.0, 1.0]])
    material = Material(torch.full((1, 3), 0.5), torch.full((1, 1), 0.4), torch.zeros(1, 1))
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    free = shade(material, normals, normals, light)
    seen = shade(material, normals, normals, light, Visibility(one, one, one))
    torch.testing.assert_close(seen.total, free.total)
    sun_only = shade(material, normals, normals, light, Visibility(zero, zero, one))
    assert float(sun_only.diffuse[0, 0]) == pytest.approx(0.5 / math.pi, rel=1e-4)
    assert float(shade(material, normals, normals, light, Visibility(zero, zero, zero)).total.max()) == 0
    torch.testing.assert_close(exposed(free.total, 1.0), 2 * free.total)


def test_reflection() -> None:
    normal, eye = torch.tensor([[0.0, 0, 1]]), torch.tensor([[0.6, 0.0, 0.8]])
    torch.testing.assert_close(reflected(normal, eye), torch.tensor([[-0.6, 0.0, 0.8]]))


def test_a_map_that_is_only_turned_is_not_filtered_again() -> None:
    first = Environment(soft_sky())
    again = Environment(first.radiance, 1.0, 2.0, sun((0, 0, 1), (1, 1, 1), 0.1)[None])
    assert again.radiance is first.radiance
    one, other = filtered_environment(first), filtered_environment(again)
    assert one.specular is other.specular
    assert (other.rotation_rad, other.strength, len(other.lobes)) == (1.0, 2.0, 1)
    assert filtered_environment(Environment(soft_sky())).specular is not one.specular
