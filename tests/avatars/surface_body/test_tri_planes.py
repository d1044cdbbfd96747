"""Tri-planes: look-ups twice differentiable, attention by windows, modulation, slopes by the product rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from avatars.surface_body.plane_settings import PlaneSettings, check_planes
from avatars.surface_body.smooth_lookup import bilinear, trilinear_smooth
from avatars.surface_body.tri_planes import TriPlanes, started_planes
from avatars.surface_body.trilinear import Lattice, trilinear
from avatars.surface_body.window_attention import WindowAttention
from shared.errors import BadConfig

ATTENDED = PlaneSettings(sides=(16,), channels=8, windows=(8, 4, 2))
LEVELS = PlaneSettings(sides=(4, 8), channels=6)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_bilinear_is_grid_sample_inside_on_the_rim_and_beyond() -> None:
    table = torch.rand(5, 7, 3, generator=generator())
    at = torch.rand(200, 2, generator=generator()) * 3 - 1.5
    at = torch.cat((at, torch.tensor(((-1.0, -1.0), (1.0, 1.0), (1.0, -1.0), (4.0, 0.0)))))
    wanted = grid_sample(table.permute(2, 0, 1)[None], at[None, None], align_corners=True, padding_mode="zeros")
    torch.testing.assert_close(bilinear(table, at)[0], wanted[0, :, 0].T, atol=1e-5, rtol=1e-5)


def test_bilinear_and_its_slopes_have_the_gradients_of_finite_differences_twice() -> None:
    table = torch.rand(4, 5, 2, generator=generator(), dtype=torch.float64, requires_grad=True)
    at = (torch.rand(6, 2, generator=generator(), dtype=torch.float64) * 1.6 - 0.8).requires_grad_()

    def both(table: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        return bilinear(table, at, slopes=True)

    assert torch.autograd.gradcheck(both, (table, at))
    assert torch.autograd.gradgradcheck(both, (table, at))
    value, slope = both(table, at)
    by_autograd = torch.stack([torch.autograd.grad(value[:, c].sum(), at, retain_graph=True)[0] for c in range(2)], -1)
    torch.testing.assert_close(slope, by_autograd)


def naive_attention(attend: WindowAttention, plane: Tensor) -> Tensor:
    """One place after the other."""
    height, width, channels = plane.shape
    side, heads, size = attend.side, attend.heads, channels // attend.heads
    asked = plane @ attend.asked.T + attend.asked_bias
    found = torch.zeros_like(plane)
    for row in range(height):
        for column in range(width):
            top, left = row // side * side, column // side * side
            mixed = []
            for head in range(heads):
                query = asked[row, column, head * size : (head + 1) * size]
                scores, values = [], []
                for y in range(top, top + side):
                    for x in range(left, left + side):
                        key = asked[y, x, channels + head * size : channels + (head + 1) * size]
                        values.append(asked[y, x, 2 * channels + head * size : 2 * channels + (head + 1) * size])
                        place = (row - y + side - 1) * (2 * side - 1) + column - x + side - 1
                        scores.append(query @ key / math.sqrt(size) + attend.bias[place, head])
                mixed.append(torch.softmax(torch.stack(scores), 0) @ torch.stack(values))
            found[row, column] = torch.cat(mixed) @ attend.told.T + attend.told_bias
    return found


def test_window_attention_is_the_naive_loop() -> None:
    attend = WindowAttention(6, 2, 3, generator())
    with torch.no_grad():
        attend.bias.copy_(torch.randn(attend.bias.shape, generator=generator()))
        planes = torch.randn(2, 6, 9, 6, generator=generator())
        torch.testing.assert_close(
            attend(planes), torch.stack([naive_attention(attend, one) for one in planes]), atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize("settings", [ATTENDED, LEVELS], ids=["attention", "levels"])
def test_features_are_planes_times_waves_and_slopes_are_their_gradients(settings: PlaneSettings) -> None:
    encoder = TriPlanes(settings, generator()).double()
    with torch.no_grad():
        for planes in encoder.planes:
            planes.copy_(torch.randn(planes.shape, generator=generator()))
    places = torch.rand(5, 3, generator=generator(), dtype=torch.float64).requires_grad_()
    features, slopes = encoder.encode(places, 1.5, slopes=True)
    assert features.shape == (5, encoder.width)
    tables = encoder.tables()
    for number, (one, two, across) in enumerate(((0, 1, 2), (1, 2, 0), (2, 0, 1))):
        for group in range(settings.groups):
            for channel in range(settings.channels):
                level, column = (0, group * settings.channels + channel) if settings.windows else (group, channel)
                value = bilinear(tables[level][number], 2 * places[:, (one, two)] - 1)[0][:, column]
                octave = 2 * group + (channel % 4) // 2
                angle = (2 * places[:, across] - 1) * 2**octave
                wave = angle.cos() if channel % 2 else angle.sin()
                opened = min(max(1.5 - group, 0), 1)
                place = (number * settings.groups + group) * settings.channels + channel
                torch.testing.assert_close(features[:, place], value * wave * opened)
    weights = torch.randn(features.shape, generator=generator(), dtype=torch.float64)
    (wanted,) = torch.autograd.grad((features * weights).sum(), places, create_graph=True)
    pulled = (slopes * weights[:, None]).sum(-1)
    torch.testing.assert_close(pulled, wanted)
    learned = list(encoder.parameters())
    ours = torch.autograd.grad(pulled.square().sum(), learned, retain_graph=True)
    theirs = torch.autograd.grad(wanted.square().sum(), learned, allow_unused=True)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, torch.zeros_like(mine) if other is None else other)


def test_attention_is_done_once_and_reaches_the_planes() -> None:
    encoder = TriPlanes(ATTENDED, generator())
    encoder.begin()
    before = encoder.mixed
    first = encoder.encode(torch.rand(3, 3, generator=generator()))[0]
    with torch.no_grad():
        encoder.planes[0].zero_()
    assert encoder.mixed is before
    torch.testing.assert_close(encoder.encode(torch.rand(3, 3, generator=generator()))[0], first)
    first.sum().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in encoder.parameters())


def test_planes_begin_near_a_ball_and_bad_numbers_are_refused() -> None:
    planes = started_planes(9, 4, generator())
    assert planes.shape == (3, 9, 9, 4)
    middle, corner = planes[:, 4, 4].mean(), planes[:, 0, 0].mean()
    assert middle < 0 < corner
    wide = started_planes(129, 4, generator())
    torch.testing.assert_close(wide[:, ::2, ::2], started_planes(65, 4, generator()), atol=1e-6, rtol=1e-5)
    for wrong in (PlaneSettings(sides=()), PlaneSettings(sides=(12,), windows=(8,)), PlaneSettings(channels=2)):
        with pytest.raises(BadConfig):
            check_planes(wrong)


def test_trilinear_is_the_plain_one_and_twice_differentiable() -> None:
    lattice = Lattice.over(np.array((-1.0, 0.0, 1.0)), 0.5, (4, 3, 5), "cpu")
    lattice = Lattice(lattice.low.double(), lattice.per_m.double(), lattice.shape)
    table = torch.randn(lattice.nodes, 1, generator=generator(), dtype=torch.float64)
    places = torch.rand(7, 3, generator=generator(), dtype=torch.float64) * torch.tensor((1.4, 0.9, 1.9)) + lattice.low
    value, gradient = trilinear_smooth(table, lattice, places)
    plain, slopes = trilinear(table, lattice, places, slopes=True)
    torch.testing.assert_close(value, plain[:, 0])
    torch.testing.assert_close(gradient, slopes[..., 0])
    beyond = torch.tensor([[-3.0, 0.2, 9.0]], dtype=torch.float64)
    torch.testing.assert_close(trilinear_smooth(table, lattice, beyond)[0], trilinear(table, lattice, beyond)[0][:, 0])
    assert trilinear_smooth(table, lattice, beyond)[1][0, 0] == 0

    def both(table: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        return trilinear_smooth(table, lattice, places)

    inputs = (table.requires_grad_(), places.requires_grad_())
    assert torch.autograd.gradcheck(both, inputs)
    assert torch.autograd.gradgradcheck(both, inputs)
