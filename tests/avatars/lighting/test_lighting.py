"""Irradiance against brute-force integration, and relighting."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from avatars.gaussians.posed import PosedGaussians
from avatars.lighting import albedo, environment_irradiance, irradiance_at, relit
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


def a_set(normals: torch.Tensor, colour: float = 0.5) -> PosedGaussians:
    shape = (1, len(normals))
    return PosedGaussians(
        torch.zeros(*shape, 3),
        torch.zeros(*shape, 4),
        torch.ones(*shape, 3),
        torch.ones(shape),
        torch.full((*shape, 3), colour),
        normals[None].float(),
    )


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
    light = environment_irradiance(Environment(soft_sky()))
    gaussians = a_set(some_normals(2000))
    same = relit(gaussians, light, light, gaussians.normals)
    torch.testing.assert_close(same.colours, gaussians.colours, rtol=1e-4, atol=1e-5)


def test_relighting_is_the_ratio_of_integrals() -> None:
    """A diffuse ball photographed in one light and moved to another looks as if photographed there."""
    first, second = soft_sky() + 0.8, soft_sky()[:, ::-1] * np.array([0.5, 1.0, 2.0]) + 0.5
    normals = some_normals()
    reflectance = torch.tensor([0.5, 0.3, 0.2])

    def photographed(radiance: NDArray) -> torch.Tensor:
        return reflectance * torch.from_numpy(brute_force(radiance, normals.numpy())).float() / math.pi

    gaussians = replace(a_set(normals), colours=srgb_from_linear(photographed(first))[None])
    lights = [environment_irradiance(Environment(radiance)) for radiance in (second, first)]
    moved = relit(gaussians, *lights, gaussians.normals)
    expected = photographed(second)
    assert float((linear_from_srgb(moved.colours[0]) / expected - 1).abs().max()) < 0.06
    found = albedo(gaussians, lights[1], gaussians.normals)[0]
    assert float((found / reflectance - 1).abs().max()) < 0.06


def test_unknown_capture_keeps_brightness_and_follows_the_new_light() -> None:
    light = environment_irradiance(Environment(soft_sky()))
    gaussians = a_set(some_normals())
    shown = linear_from_srgb(relit(gaussians, light, None, None).colours[0])
    brightness = (shown @ torch.tensor([0.2126, 0.7152, 0.0722])).mean()
    assert float(brightness) == pytest.approx(0.214, rel=0.1)
    towards = gaussians.normals[0] @ torch.tensor([0.6, -0.64, 0.48])
    assert float(shown[towards > 0.5].mean()) > 1.5 * float(shown[towards < -0.5].mean())


def test_degenerate_relighting() -> None:
    dark, bright = torch.zeros(9, 3), environment_irradiance(Environment(soft_sky()))
    gaussians = a_set(some_normals(10))
    bare = replace(gaussians, normals=None)
    for case in (
        relit(gaussians, dark, bright, gaussians.normals),
        relit(gaussians, dark, None, None),
        relit(gaussians, bright, dark, gaussians.normals),
        relit(bare, bright, bright, None),
        relit(replace(gaussians, colours=gaussians.colours - 1), bright, bright, None),
    ):
        assert torch.isfinite(case.colours).all()
        assert float(case.colours.min()) >= 0
        assert float(case.colours.max()) < 5


def test_what_was_dark_in_the_capture_is_brightened_within_bounds() -> None:
    radiance = np.zeros((32, 64, 3), np.float32)
    radiance[14:18, 30:34] = 100.0
    captured = environment_irradiance(Environment(radiance))
    even = environment_irradiance(Environment(np.ones((8, 16, 3), np.float32)))
    gaussians = a_set(some_normals(500))
    shown = linear_from_srgb(relit(gaussians, even, captured, gaussians.normals).colours)
    most = 4 * mean_irradiance(even) / mean_irradiance(captured) * float(linear_from_srgb(torch.tensor(0.5)))
    assert (shown <= most * 1.001).all()
    assert (shown > 0.9 * most).any()
    red = torch.cat([captured[:, :1], torch.zeros(9, 2)], dim=1)
    assert float(relit(gaussians, even, red, gaussians.normals).colours.max()) < 60


def test_degenerate_relighting_of_a_black_picture() -> None:
    dark, bright = torch.zeros(9, 3), environment_irradiance(Environment(soft_sky()))
    gaussians = a_set(some_normals(10))
    assert not relit(gaussians, dark, bright, gaussians.normals).colours.any()
