"""Sums at the corners of faces: their value, their order, their gradient, nothing to add."""

from __future__ import annotations

import pytest
import torch

from avatars.whole_sums import summed_at_corners, whole_sums


def some(faces: int = 400, vertices: int = 50) -> tuple[torch.Tensor, torch.Tensor, int]:
    draw = torch.Generator().manual_seed(3)
    index = torch.randint(0, vertices, (faces, 3), generator=draw)
    values = torch.randn(2, faces, 3, generator=draw) * 10 ** torch.randint(-6, 2, (2, faces, 1), generator=draw)
    return index, values, vertices


def test_whole_numbers_give_the_sum_in_any_order() -> None:
    index, values, count = some()
    wanted = torch.zeros(2, count, 3, dtype=torch.float64)
    for face, row in enumerate(index.tolist()):
        for vertex in row:
            wanted[:, vertex] += values[:, face].double()
    found = whole_sums(index, values, count)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(summed_at_corners(index, values, count).double(), wanted, rtol=1e-4, atol=1e-5)
    for seed in range(3):
        order = torch.randperm(len(index), generator=torch.Generator().manual_seed(seed))
        assert torch.equal(whole_sums(index[order], values[:, order], count), found)


def test_the_gradient_of_a_value_is_that_of_its_three_corners() -> None:
    index, values, count = some(7, 6)
    values.requires_grad_()
    slope = torch.randn(2, count, 3, generator=torch.Generator().manual_seed(1))
    (summed_at_corners(index, values, count) * slope).sum().backward()
    torch.testing.assert_close(values.grad, slope[:, index].sum(2))


def test_nothing_to_add_is_zero() -> None:
    index, values, count = some(5, 9)
    assert not whole_sums(index, values * 0, count).any()
    assert whole_sums(index[:0], torch.zeros(1, 0, 3), count).shape == (1, count, 3)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_every_run_gives_the_same_bits_as_the_cpu() -> None:
    index, values, count = some(40_000, 300)
    wanted = whole_sums(index, values, count)
    for _ in range(5):
        assert torch.equal(summed_at_corners(index.cuda(), values.cuda(), count).cpu(), wanted)
