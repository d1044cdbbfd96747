"""The hash grid: values and gradients of a plain reference, both derivatives, open levels, the cube's edge."""

from __future__ import annotations

import pytest
import torch

from avatars.relit_field.hash_grid import HashGrid, encode_plainly, level_sizes
from avatars.relit_field.settings import GridSettings

SETTINGS = GridSettings(
    levels=4, features=2, table_log2=8, base=4, growth=1.6, start_levels=2, opens_from=10, opens_every=5
)


def make(dtype: torch.dtype = torch.float64) -> HashGrid:
    grid = HashGrid(SETTINGS, torch.Generator().manual_seed(0)).to(dtype)
    with torch.no_grad():
        grid.table.normal_(generator=torch.Generator().manual_seed(1))
    return grid


def places(count: int) -> torch.Tensor:
    return torch.rand(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def test_some_levels_are_dense_and_some_hashed() -> None:
    assert level_sizes(SETTINGS)[2] == [True, False, False, False]
    paper = level_sizes(GridSettings())
    assert (paper[0][0], paper[0][-1]) == (16, 4097)  # 16 * 1.4473^15
    assert max(paper[1]) == 1 << 19


@pytest.mark.parametrize("levels", [None, 2, 0])
def test_values_and_gradients_are_the_references(levels: int | None) -> None:
    grid = make()
    at = places(9).requires_grad_()
    ours, plain = grid(at, levels), encode_plainly(grid, at, levels)
    torch.testing.assert_close(ours, plain)
    if levels == 0:
        assert not ours.any()
        return
    weight = torch.randn(ours.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for wanted in (at, grid.table):
        (first,) = torch.autograd.grad((ours * weight).sum(), wanted, retain_graph=True)
        (second,) = torch.autograd.grad((plain * weight).sum(), wanted, retain_graph=True)
        torch.testing.assert_close(first, second)
        assert first.abs().max() > 0


def test_gradient_of_the_gradient() -> None:
    grid = make()
    at = places(4).requires_grad_()
    assert torch.autograd.gradcheck(grid, (at,))
    assert torch.autograd.gradgradcheck(lambda x: grid(x).square().sum(-1), (at,))


def test_edges_and_beyond_are_finite_and_continuous() -> None:
    grid = make()
    edge = torch.tensor(((0.0, 0, 0), (1, 1, 1), (1, 0, 0.5)), dtype=torch.float64)
    torch.testing.assert_close(grid(edge), grid(edge.clamp(1e-12, 1 - 1e-12)), atol=1e-8, rtol=0)
    torch.testing.assert_close(grid(edge * 3 - 1), grid((edge * 3 - 1).clamp(0, 1)))
    assert grid(torch.empty(0, 3, dtype=torch.float64)).shape == (0, 8)


def test_levels_open_one_by_one() -> None:
    grid = make()
    assert [grid.open_levels(step) for step in (0, 9, 10, 14, 15, 1000)] == [2, 2, 3, 3, 4, 4]
    paper = HashGrid(GridSettings(table_log2=4), torch.Generator())
    assert [paper.open_levels(step) for step in (0, 499, 500, 625, 1875, 2000)] == [4, 4, 5, 6, 16, 16]


@pytest.mark.parametrize("levels", [4, 2])
@pytest.mark.parametrize("slopes", [True, False])
def test_the_compiled_form_is_the_plain_one(levels: int, slopes: bool) -> None:
    """Features, slopes, their gradients in the table, those of features in the places; beyond the cube as well."""
    grid = make(torch.float32)
    at = (places(40).float() * 1.2 - 0.1).requires_grad_(slopes)
    found, steep = grid.encode(at, levels, slopes=slopes)
    plain, plain_steep = grid.encode_by_gradients(at, levels, slopes=slopes)
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(steep, plain_steep, atol=1e-4, rtol=1e-4)
    generator = torch.Generator().manual_seed(4)
    mix, mixed = torch.randn(found.shape, generator=generator), torch.randn(steep.shape, generator=generator)
    first, second = (
        torch.autograd.grad((a * mix).sum() + (b * mixed).sum(), grid.table, retain_graph=True)[0]
        for a, b in ((found, steep), (plain, plain_steep))
    )
    torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)
    if slopes:
        ours, theirs = (torch.autograd.grad((a * mix).sum(), at, retain_graph=True)[0] for a in (found, plain))
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        assert not grid.encode(at, levels, slopes=slopes)[0].requires_grad
    assert grid.encode(at[:0], levels, slopes=slopes)[1].shape == (0, 3 if slopes else 0, grid.width)


def test_equal_bits_for_any_number_of_threads() -> None:
    """Also of the sums into the table, which many places share."""
    grid, at, before = make(torch.float32), places(2000).float(), torch.get_num_threads()
    sums = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found, steep = grid.encode(at, slopes=True)
        sums.append(torch.autograd.grad(found.square().sum() + steep.square().sum(), grid.table)[0])
    torch.set_num_threads(before)
    assert torch.equal(*sums)
