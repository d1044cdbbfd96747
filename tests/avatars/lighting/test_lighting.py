"""Irradiance against brute-force integration, and relighting."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from avatars.lighting import albedo, environment_irradiance, irradiance_at, relighting
from avatars.lighting.colour import linear_from_srgb, srgb_from_linear
from avatars.lighting.irradiance import basis, mean_irradiance, softened
from shared.types import Environment


def directions_of(height: int, width: int) -> tuple[NDArray, NDArray]:
    """Unit direction of every pixel by the documented mapping, and its solid angle."""
    polar = (np.arange(height)[:, None] + 0.5) / height * math.pi + np.zeros((1, width))
    azimuth = (0.5 - (np.arange(width)[None, :] + 0.5) / width) * 2 * math.pi + np.zeros((height, 1))
    directions = np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], axis=-1)
    return directions, np.sin(polar) * (math.pi / height) * (2 * math.pi / width)


def brute_force(radiance: NDArray, normals: NDArray) -> NDArray:
    """Irradiance [M, 3]: the integral of radiance times the clamped cosine."""
    directions, solid_angle = directions_of(*radiance.shape[:2])
    cosine = np.maximum(0, np.einsum("hwk,mk->mhw", directions, normals))
    return np.einsum("mhw,hw,hwc->mc", cosine, solid_angle, radiance)


def soft_sky(height: int = 64, width: int = 128) -> NDArray:
    """A bright warm side, a blue top and a dim ground, smooth."""
    directions, _ = directions_of(height, width)
    sun = np.exp(4 * (directions @ np.array([0.6, -0.64, 0.48]) - 1))[..., None] * np.array([6.0, 5.0, 4.0])
    return sun + np.maximum(0, directions[..., 2:]) * np.array([0.3, 0.5, 1.0]) + 0.1


def some_normals(count: int = 200) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=-1)


GREY = float(linear_from_srgb(torch.tensor(0.5)))


def test_basis_is_orthonormal() -> None:
    directions, solid_angle = directions_of(256, 512)
    values = basis(torch.from_numpy(directions)).numpy()
    np.testing.assert_allclose(np.einsum("hwi,hwj,hw->ij", values, values, solid_angle), np.eye(9), atol=1e-3)


def test_irradiance_matches_integration() -> None:
    radiance, normals = soft_sky(), some_normals()
    found = irradiance_at(environment_irradiance(Environment(radiance)), normals).numpy()
    expected = brute_force(radiance, normals.numpy())
    assert np.abs(found - expected).max() < 0.03 * expected.max()  # what order 2 leaves out (paper, section 3)


def test_uniform_light_is_pi_times_radiance_and_strength_multiplies() -> None:
    environment = Environment(np.full((16, 32, 3), 0.5, np.float32), rotation_rad=1.0, strength=3.0)
    found = irradiance_at(environment_irradiance(environment), some_normals(20))
    torch.testing.assert_close(found, torch.full_like(found, 1.5 * math.pi), rtol=2e-3, atol=0)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_a_light_shines_on_what_faces_it(axis: tuple[int, int, int]) -> None:
    directions, _ = directions_of(32, 64)
    radiance = np.repeat((directions @ np.array(axis, float) > 0.95)[..., None] * 10.0, 3, axis=-1)
    light = environment_irradiance(Environment(radiance))
    towards = torch.tensor([axis, [-a for a in axis]], dtype=torch.float32)
    facing, away = irradiance_at(light, towards)[:, 0]
    assert float(facing) > 10 * abs(float(away))


def test_turning_the_map_turns_the_light() -> None:
    radiance, normals = soft_sky(), some_normals()
    angle = 2 * math.pi * 16 / 128
    turned = environment_irradiance(Environment(radiance, rotation_rad=angle))
    rolled = environment_irradiance(Environment(np.roll(radiance, -16, axis=1)))
    torch.testing.assert_close(turned, rolled, rtol=1e-4, atol=1e-4)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    still = environment_irradiance(Environment(radiance))
    torch.testing.assert_close(
        irradiance_at(turned, normals @ turn.double().T), irradiance_at(still, normals), rtol=1e-4, atol=1e-4
    )


def test_broken_and_empty_maps() -> None:
    assert not environment_irradiance(Environment(np.zeros((4, 8, 3), np.float32))).any()
    assert not environment_irradiance(Environment(-np.ones((4, 8, 3), np.float32))).any()


def test_softened_light_is_never_dark_and_keeps_its_mean() -> None:
    radiance = np.zeros((32, 64, 3), np.float32)
    radiance[10, 20] = (900.0, 700.0, 0.0)
    light = environment_irradiance(Environment(radiance))
    normals = some_normals(2000).float()
    assert float(irradiance_at(light, normals).min()) < 0
    soft = softened(light)
    assert float((irradiance_at(soft, normals)[:, :2] / mean_irradiance(soft)[:2]).min()) > 0.04
    torch.testing.assert_close(mean_irradiance(soft), mean_irradiance(light))
    gentle = environment_irradiance(Environment(np.ones((8, 16, 3), np.float32)))
    assert torch.equal(softened(gentle), gentle)


def test_colour_curves_are_inverse_and_known() -> None:
    values = torch.linspace(-1, 3, 400, dtype=torch.float64)
    torch.testing.assert_close(srgb_from_linear(linear_from_srgb(values)), values)
    assert float(linear_from_srgb(torch.tensor(0.5))) == pytest.approx(0.21404, abs=1e-5)
    leaf = torch.zeros(3, requires_grad=True)
    linear_from_srgb(leaf).sum().backward()
    assert torch.isfinite(leaf.grad).all()


def test_the_same_light_changes_nothing() -> None:
    light, normals = environment_irradiance(Environment(soft_sky())), some_normals(2000).float()
    assert torch.equal(relighting(light, light, 0.7 * normals, 0.7 * normals), torch.ones_like(normals))


def test_relighting_is_the_ratio_of_integrals() -> None:
    """A diffuse ball photographed in one light and moved to another looks as if photographed there."""
    first, second = soft_sky() + 0.8, soft_sky()[:, ::-1] * np.array([0.5, 1.0, 2.0]) + 0.5
    normals = some_normals().float()
    reflectance = torch.tensor([0.5, 0.3, 0.2])

    def photographed(radiance: NDArray) -> torch.Tensor:
        return reflectance * torch.from_numpy(brute_force(radiance, normals.numpy())).float() / math.pi

    lights = [environment_irradiance(Environment(radiance)) for radiance in (second, first)]
    moved = photographed(first) * relighting(*lights, normals, normals)
    assert float((moved / photographed(second) - 1).abs().max()) < 0.06
    found = albedo(photographed(first), lights[1], normals)
    assert float((found / reflectance - 1).abs().max()) < 0.06


def test_a_turned_object_was_captured_facing_elsewhere() -> None:
    light, normals = environment_irradiance(Environment(soft_sky() + 2.0)), some_normals().float()
    turned = normals * torch.tensor([-1.0, -1.0, 1.0])
    found = relighting(light, light, normals, turned)
    expected = irradiance_at(light, normals) / irradiance_at(light, turned)
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0)


def test_unknown_capture_keeps_brightness_and_follows_the_new_light() -> None:
    light, normals = environment_irradiance(Environment(soft_sky())), some_normals().float()
    ratio = relighting(light, None, normals, normals)
    assert float((ratio @ torch.tensor([0.2126, 0.7152, 0.0722])).mean()) == pytest.approx(1, rel=0.1)
    towards = normals @ torch.tensor([0.6, -0.64, 0.48])
    assert float(ratio[towards > 0.5].mean()) > 1.5 * float(ratio[towards < -0.5].mean())
    assert torch.equal(albedo(torch.full((2, 3), GREY), None, torch.zeros(2, 3)), torch.full((2, 3), GREY))


def test_uncertain_normals_get_nearer_to_the_mean_light() -> None:
    light = environment_irradiance(Environment(soft_sky() + 0.5))
    even = environment_irradiance(Environment(np.ones((8, 16, 3), np.float32)))
    nowhere = torch.zeros(4, 3)
    expected = mean_irradiance(light) / mean_irradiance(even)
    torch.testing.assert_close(relighting(light, even, nowhere, nowhere), expected.expand(4, 3))
    sure = torch.tensor([[0.6, -0.64, 0.48]])
    half = relighting(light, even, 0.5 * sure, 0.5 * sure)
    torch.testing.assert_close(half, (relighting(light, even, sure, sure) + expected) / 2, rtol=1e-3, atol=0)
    assert torch.equal(relighting(light, even, 0.8 * sure, 0.8 * sure), relighting(light, even, sure, sure))


def test_what_was_dark_in_the_capture_is_brightened_within_bounds() -> None:
    radiance = np.zeros((32, 64, 3), np.float32)
    radiance[14:18, 30:34] = 100.0
    captured = environment_irradiance(Environment(radiance))
    even = environment_irradiance(Environment(np.ones((8, 16, 3), np.float32)))
    normals = some_normals(500).float()
    ratio = relighting(even, captured, normals, normals)
    most = 3 * mean_irradiance(even) / mean_irradiance(captured)
    assert (ratio <= most * 1.001).all()
    assert (ratio > 0.99 * most).any()
    red = torch.cat([captured[:, :1], torch.zeros(9, 2)], dim=1)
    assert float(relighting(even, red, normals, normals).max()) < 25 * float(most[0])


def test_degenerate_relighting() -> None:
    dark, bright = torch.zeros(9, 3), environment_irradiance(Environment(soft_sky()))
    normals = some_normals(10).float()
    assert not relighting(dark, bright, normals, normals).any()
    assert not relighting(dark, None, normals, normals).any()
    torch.testing.assert_close(relighting(bright, dark, normals, normals), relighting(bright, None, normals, normals))
    assert relighting(bright, bright, normals[:0], normals[:0]).shape == (0, 3)
    assert torch.isfinite(albedo(torch.ones(10, 3), dark, normals)).all()
