"""The published method's networks: shares handed down a tree, encodings, corrections of poses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from avatars.surface_body.parity_networks import (
    ColourIdr,
    NormedNetwork,
    PoseRefiner,
    SkinNetwork,
    encoded,
    octave_weights,
    turned_by,
)
from avatars.surface_body.tree_softmax import TreeSoftmax, handed_down
from avatars.templates.rotations import matrices_from_axis_angle
from shared.errors import BadTemplate

SMPL = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
BUSHY = (-1, 0, 0, 1, 1, 3, 2, 6, 6, 6, 9)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def smpl_by_hand(x: Tensor) -> Tensor:
    """Method page 3.3, line by line."""
    s = torch.sigmoid(x)
    w = [torch.zeros_like(x[:, 0]) for _ in range(24)]
    hips = torch.softmax(x[:, 1:4], -1)
    w[0] = 1 - s[:, 0]
    for child in (1, 2, 3):
        w[child] = s[:, 0] * hips[:, child - 1]

    def hand_on(parent: int, child: int) -> None:
        w[child], w[parent] = w[parent] * s[:, child], w[parent] * (1 - s[:, child])

    for parent, child in ((1, 4), (2, 5), (3, 6), (4, 7), (5, 8), (6, 9), (7, 10), (8, 11)):
        hand_on(parent, child)
    chest = torch.softmax(x[:, 12:15], -1)
    for child in (12, 13, 14):
        w[child] = w[9] * s[:, 24] * chest[:, child - 12]
    w[9] = w[9] * (1 - s[:, 24])
    for parent, child in ((12, 15), (13, 16), (14, 17), (16, 18), (17, 19), (18, 20), (19, 21), (20, 22), (21, 23)):
        hand_on(parent, child)
    return torch.stack(w, -1)


def test_smpl_is_the_published_tree() -> None:
    tree = TreeSoftmax(SMPL)
    assert tree.outputs == 25
    numbers = 4 * torch.randn(50, 25, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(tree(numbers), smpl_by_hand(numbers))


@pytest.mark.parametrize("parents", [SMPL, BUSHY, (-1,), (-1, 0, 1)])
def test_any_tree_sums_to_one_and_equals_the_plain_form(parents: tuple[int, ...]) -> None:
    tree = TreeSoftmax(parents)
    numbers = 3 * torch.randn(20, tree.outputs, generator=generator(), dtype=torch.float64)
    found = tree(numbers)
    torch.testing.assert_close(found, handed_down(numbers, parents))
    torch.testing.assert_close(found.sum(-1), torch.ones(20, dtype=torch.float64))
    assert torch.autograd.gradcheck(tree, (numbers[:3].clone().requires_grad_(),))
    far = tree(1e4 * numbers.float())
    assert torch.isfinite(far).all()


def test_other_skeletons_are_refused() -> None:
    for parents in ((), (-1, -1), (-1, 2, 0)):
        with pytest.raises(BadTemplate):
            TreeSoftmax(parents)


def test_octaves_open_one_after_the_other_and_slopes_are_gradients() -> None:
    assert octave_weights(None) == [1.0] * 6
    assert octave_weights(0.0) == [0.0] * 6
    assert octave_weights(1.5)[:3] == pytest.approx([1.0, 0.5, 0.0])
    places = torch.randn(4, 3, generator=generator(), dtype=torch.float64).requires_grad_()
    waves, slopes = encoded(places, 2.25)
    assert waves.shape == (4, 36)
    torch.testing.assert_close(waves[:, 6:9], (2 * places).sin())
    torch.testing.assert_close(waves[:, 9:12], (2 * places).cos())
    for column in range(36):
        (wanted,) = torch.autograd.grad(waves[:, column].sum(), places, retain_graph=True)
        torch.testing.assert_close(slopes[..., column], wanted)


def test_networks_have_the_published_sizes_and_are_weight_normalised() -> None:
    colour = ColourIdr(256, 256, 4, generator())
    assert [tuple(v.shape) for v in colour.network.v] == [(256, 301), *[(256, 256)] * 3, (3, 256)]
    skin = SkinNetwork(SMPL, 128, 4, generator())
    assert [tuple(v.shape) for v in skin.network.v] == [(128, 39), *[(128, 128)] * 3, (25, 128)]
    weights = skin(torch.randn(6, 3, generator=generator()))
    torch.testing.assert_close(weights.sum(-1), torch.ones(6))
    network = NormedNetwork((4, 8, 2), 100.0, generator())
    inputs = torch.randn(3, 4, generator=generator())
    before = network(inputs)
    with torch.no_grad():
        for v in network.v:
            v.mul_(3.0)  # the length of a direction says nothing
    torch.testing.assert_close(network(inputs), before)


def test_poses_are_turned_as_their_matrices_and_hardly_at_first() -> None:
    rotations = torch.randn(2, 24, 3, generator=generator(), dtype=torch.float64)
    corrections = 0.3 * torch.randn(2, 24, 3, generator=generator(), dtype=torch.float64)
    corrections[0, 0] = 0
    found = matrices_from_axis_angle(turned_by(rotations, corrections))
    wanted = matrices_from_axis_angle(rotations) @ matrices_from_axis_angle(corrections)
    torch.testing.assert_close(found, wanted, atol=1e-7, rtol=1e-6)
    nothing = torch.zeros(1, 24, 3, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.functional.jacobian(lambda turns: turned_by(nothing.detach(), turns).sum((0, 1)), nothing)
    torch.testing.assert_close(slope.sum((1, 2)), 24 * torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=1e-6)
    refiner = PoseRefiner(24, 16, 4, generator())
    first = refiner(rotations.float())
    assert first.shape == (2, 23, 3)
    assert float(first.detach().abs().max()) < 1e-3
    first.square().sum().backward()
    assert all(value.grad is not None for value in refiner.parameters())
