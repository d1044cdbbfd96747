"""Posed Gaussians for another renderer: axes, light, harmonics, and what is left out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from avatars.gaussian_cloud import gaussian_cloud
from avatars.gaussians.posed import PosedGaussians, ViewColours
from avatars.gaussians.spherical_harmonics import SH0, sh_colours
from avatars.lighting import environment_irradiance
from avatars.scene import render_scene
from shared.types import Environment
from tests.avatars.test_scene import CENTRE, Ball, camera, instance, sky


def test_the_cloud_is_the_pose_in_the_avatars_own_axes() -> None:
    cloud = gaussian_cloud(instance(Ball((0.5, 0.25, 1.0)), (3.0, 4.0, 5.0), scale=2.0, turn=0.4), None)
    posed = Ball((0.5, 0.25, 1.0)).pose(torch.tensor([[[0, 0, 0.4]]]), torch.zeros(1, 3), torch.zeros(1, 1))
    np.testing.assert_array_equal(cloud.means, posed.means[0])
    np.testing.assert_array_equal(cloud.scales, posed.scales[0])
    np.testing.assert_allclose(cloud.opacities, 0.95)
    assert cloud.harmonics.shape == (600, 1, 3)
    np.testing.assert_allclose(0.5 + SH0 * cloud.harmonics[:, 0], np.tile([0.5, 0.25, 1.0], (600, 1)), atol=1e-6)
    assert all(array.dtype == np.float32 for array in vars(cloud).values())


def test_the_cloud_is_lit_as_the_picture_is() -> None:
    """The Gaussian in front has the colour of the picture's middle, however the avatar is turned in the light."""
    ball = Ball(captured_irradiance=environment_irradiance(Environment(sky().radiance + 0.3)))
    for turn in (1.0, -1.0):
        item = instance(ball)
        item.world_from_avatar[:, :2, :2] *= turn
        cloud = gaussian_cloud(item, sky(turn_rad=0.7))
        picture = render_scene([item], [camera()], sky(turn_rad=0.7), ["combined"])["combined"][CENTRE]
        front = np.argmax(cloud.means @ [0, -turn, 0])
        encoded = 0.5 + SH0 * cloud.harmonics[front, 0]
        linear = ((encoded + 0.055) / 1.055) ** 2.4
        np.testing.assert_allclose(linear, picture[:3].astype(float) / float(picture[3]), rtol=0.15)
    assert np.ptp(cloud.harmonics) > 0.5, "one side is brighter"


@dataclass(frozen=True, eq=False)
class Odd(Ball):
    """Some Gaussians that nobody could see or draw; `turned`: harmonics in axes turned about z."""

    turned: bool = False

    def pose(
        self, rotations: Tensor, translations: Tensor, expressions: Tensor, *, normals: bool = True
    ) -> PosedGaussians:
        posed = super().pose(rotations, translations, expressions)
        if self.turned:
            quarter = torch.tensor([[[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]])
            generator = torch.Generator().manual_seed(1)
            harmonics = 0.2 * torch.randn(1, posed.count, 9, 3, generator=generator)
            return replace(posed, view_colours=ViewColours(harmonics, quarter))
        means, scales, opacities = posed.means.clone(), posed.scales.clone(), posed.opacities.clone()
        means[0, 0, 1], scales[0, 1], opacities[0, 2] = float("nan"), 0.0, 0.001
        return replace(posed, means=means, scales=scales, opacities=opacities)


def test_what_cannot_be_drawn_is_left_out() -> None:
    cloud = gaussian_cloud(instance(Odd()), None)
    assert len(cloud.means) == 597
    assert all(np.isfinite(array).all() for array in vars(cloud).values())
    assert (cloud.scales.max(axis=-1) > 0).all()


def test_harmonics_come_in_the_avatars_axes() -> None:
    item = instance(Odd(turned=True))
    posed = Odd(turned=True).pose(torch.zeros(1, 1, 3), torch.zeros(1, 3), torch.zeros(1, 1))
    cloud = gaussian_cloud(item, None)
    eye = torch.tensor([[1.0, -2.0, 0.5]])
    expected = posed.seen_from(eye).colours[0]
    found = sh_colours(torch.from_numpy(cloud.harmonics), torch.from_numpy(cloud.means) - eye)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert gaussian_cloud(item, sky()).harmonics.shape[1] == 1, "new light is the same from everywhere"


@pytest.mark.parametrize("light", [None, sky()])
def test_nothing_gives_an_empty_cloud(light: Environment | None) -> None:
    cloud = gaussian_cloud(instance(Ball(opacity=0.0)), light)
    assert cloud.means.shape == (0, 3)
    assert cloud.harmonics.shape == (0, 1, 3)
