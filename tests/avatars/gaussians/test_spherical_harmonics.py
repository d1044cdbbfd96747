"""Colours by direction: the basis against scipy, gradients, rotations, cameras that move or stand in a Gaussian."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from avatars.gaussians.posed import PosedGaussians, ViewColours, concatenate
from avatars.gaussians.spherical_harmonics import coefficients_of, degree_of, rotated_sh, sh_basis, sh_colours
from avatars.templates.rotations import matrices_from_axis_angle
from shared.errors import EffigyError


def directions(count: int = 40, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=-1)


def test_the_basis_is_the_real_harmonics_with_the_condon_shortley_phase() -> None:
    unit = directions().numpy()
    polar, azimuth = np.arccos(unit[:, 2]), np.arctan2(unit[:, 1], unit[:, 0])
    expected = []
    for degree in range(4):
        for order in range(-degree, degree + 1):
            value = sph_harm_y(degree, abs(order), polar, azimuth)
            if order == 0:
                expected.append(value.real)
            else:
                expected.append(np.sqrt(2) * (value.imag if order < 0 else value.real))
    np.testing.assert_allclose(sh_basis(torch.from_numpy(unit), 3).numpy(), np.stack(expected, 1), atol=1e-12)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_gradients_reach_coefficients_and_directions(degree: int) -> None:
    coefficients = torch.rand(5, coefficients_of(degree), 3, dtype=torch.float64).requires_grad_()
    along = (2 * directions(5, seed=1)).requires_grad_()
    assert torch.autograd.gradcheck(sh_colours, (coefficients, along))


def test_degenerate_input_stays_finite_and_wrong_counts_are_refused() -> None:
    colours = sh_colours(torch.full((1, 16, 3), -5.0), torch.zeros(1, 3))
    assert torch.isfinite(colours).all()
    assert (colours >= 0).all()
    assert sh_colours(torch.zeros(0, 9, 3), torch.zeros(0, 3)).shape == (0, 3)
    assert [degree_of(count) for count in (1, 4, 9, 16)] == [0, 1, 2, 3]
    for wrong in (0, 2, 25):
        with pytest.raises(EffigyError):
            degree_of(wrong)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_rotated_coefficients_show_the_same_colours_from_rotated_directions(degree: int) -> None:
    generator = np.random.default_rng(2)
    coefficients = (0.1 * generator.normal(size=(6, coefficients_of(degree), 3))).astype(np.float32)
    rotation = matrices_from_axis_angle(torch.tensor([0.7, -1.1, 0.4], dtype=torch.float64)).numpy()
    seen = directions(6, seed=3).float()
    turned = rotated_sh(coefficients, rotation)
    before = sh_colours(torch.from_numpy(coefficients), seen)
    after = sh_colours(torch.from_numpy(turned), seen @ torch.from_numpy(rotation.astype(np.float32)).T)
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)


def lit(frames: int = 2, count: int = 5) -> PosedGaussians:
    generator = torch.Generator().manual_seed(4)
    quats = torch.nn.functional.normalize(torch.randn(frames, count, 4, generator=generator), dim=-1)
    return PosedGaussians(
        means=torch.randn(frames, count, 3, generator=generator),
        quats=quats,
        scales=torch.ones(frames, count, 3),
        opacities=torch.ones(frames, count),
        colours=torch.full((frames, count, 3), 0.5),
        view_colours=ViewColours(
            0.2 * torch.randn(frames, count, 16, 3, generator=generator), torch.eye(3).expand(frames, 3, 3)
        ),
    )


def test_colours_follow_the_camera_and_turn_with_the_object() -> None:
    posed, camera = lit(), torch.tensor([[3.0, 0, 1], [0, -4, 2]])
    seen = posed.seen_from(camera)
    assert seen.view_colours is None
    assert posed.view_colours is not None
    first = sh_colours(posed.view_colours.coefficients[1, 2], posed.means[1, 2] - camera[1])
    torch.testing.assert_close(seen.colours[1, 2], first)
    assert (seen.colours - posed.seen_from(camera + 2).colours).abs().max() > 0.01
    world = torch.eye(4).repeat(2, 1, 1)
    world[:, :3, :3] = 2 * matrices_from_axis_angle(torch.tensor([[0.3, 0.2, -1.0], [1.0, 0, 0]]))
    world[:, :3, 3] = torch.tensor([1.0, 2.0, 3.0])
    moved = posed.transformed(world).seen_from((world[:, :3, :3] @ camera[..., None])[..., 0] + world[:, :3, 3])
    torch.testing.assert_close(moved.colours, seen.colours, atol=1e-5, rtol=0)


def test_gaussians_of_one_colour_are_left_alone() -> None:
    plain = lit().seen_from(torch.zeros(2, 3))
    assert plain.seen_from(torch.ones(2, 3)) is plain
    assert concatenate([plain, plain]).count == 2 * plain.count
