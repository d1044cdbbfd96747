"""The range of θ may follow what arrives; what the network has learned must not change by it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatars.online.running_range import KEPT_ROWS, RunningRange, begin_range, renormalise, widen_limits
from avatars.online.snapshot import SnapshotBuffer, copied
from avatars.rgb_head.driving import DrivingRange
from avatars.rgb_head.model import RANGES, RgbHead
from avatars.rgb_head.objective import HeadObjective
from avatars.training.config import TrainConfig
from avatars.training.optimiser import Optimiser
from tests.tiny import tiny_head

NAMES = ("mean", "sigma", "low", "high")


@pytest.fixture
def model() -> RgbHead:
    head = tiny_head(300)
    size = head.layout.size()
    begin_range(head, DrivingRange(torch.zeros(size), torch.full((size,), 0.2), -torch.ones(size), torch.ones(size)))
    return head


def some_range(size: int, seed: int) -> DrivingRange:
    random = torch.Generator().manual_seed(seed)
    low = -torch.rand(size, generator=random)
    sigma = 0.3 * torch.rand(size, generator=random)  # also below the least spread
    return DrivingRange(torch.randn(size, generator=random) * 0.3, sigma, low, low + 2 * torch.rand(size))


def test_renormalising_changes_no_weight_inside_or_outside_the_limits(model: RgbHead) -> None:
    size = model.layout.size()
    theta = 3 * torch.randn(64, size, generator=torch.Generator().manual_seed(0))
    before = model.weights(theta)
    for seed in range(4):
        renormalise(model, some_range(size, seed))
        assert torch.allclose(model.weights(theta), before, atol=2e-4)
    found = some_range(size, 3)
    assert torch.equal(model.driving_range.mean, found.mean)
    assert torch.equal(model.driving_range.sigma, found.sigma)
    assert (model.driving_range.low == -1).all(), "the limits are not renormalise's"


def test_the_next_adam_step_moves_the_function_as_before(model: RgbHead) -> None:
    """One step after renormalising gives the same ψ as one step without, where only the scale changes."""
    size = model.layout.size()
    theta = 0.5 * torch.randn(16, size, generator=torch.Generator().manual_seed(1))

    def stepped(renormalised: bool) -> torch.Tensor:
        head = model.kept(torch.ones(len(model), dtype=torch.bool))
        head.driving_range = DrivingRange(*(getattr(model.driving_range, name).clone() for name in RANGES))
        optimiser = Optimiser(HeadObjective(TrainConfig(), head).parameters())
        for _ in range(3):
            optimiser.step(head.weights(theta).square().sum(), 0)
        if renormalised:
            now = head.driving_range
            doubled = DrivingRange(now.mean.clone(), 2 * now.sigma, now.low, now.high)
            renormalise(head, doubled, optimiser)
        first = head.network[0].weight
        state = optimiser.adam.state[first]
        direction = state["exp_avg"] / state["exp_avg_sq"].sqrt()
        return direction.detach()

    assert torch.allclose(stepped(True), stepped(False), atol=1e-5)


def test_limits_only_widen(model: RgbHead) -> None:
    size = model.layout.size()
    inside = torch.rand(32, size) * 2 - 1
    before = model.weights(inside)
    low, high = model.driving_range.low.clone(), model.driving_range.high.clone()
    for seed in range(3):
        widen_limits(model, some_range(size, seed))
        assert (model.driving_range.low <= low).all()
        assert (model.driving_range.high >= high).all()
        low, high = model.driving_range.low.clone(), model.driving_range.high.clone()
    assert (high > 1).any()
    assert torch.equal(model.weights(inside), before)


def test_the_tensors_stay_the_same_ones(model: RgbHead) -> None:
    held = model.driving_range
    pointers = [getattr(held, name).data_ptr() for name in RANGES]
    begin_range(model, some_range(model.layout.size(), 0))
    widen_limits(model, some_range(model.layout.size(), 1))
    renormalise(model, some_range(model.layout.size(), 2))
    assert [getattr(model.driving_range, name).data_ptr() for name in RANGES] == pointers


def test_statistics_of_a_long_stream_are_those_of_a_uniform_sample() -> None:
    running = RunningRange(0)
    for index in range(3 * KEPT_ROWS):
        running.add(torch.tensor([index / (3 * KEPT_ROWS), 1.0]), np.zeros(3))
    found = running.measured()
    assert running.count == 3 * KEPT_ROWS
    assert found.mean[0] == pytest.approx(0.5, abs=0.02)
    assert found.sigma[0] == pytest.approx(np.sqrt(1 / 12), abs=0.02)
    assert found.low[0] == pytest.approx(0.01, abs=0.01)
    assert found.high[0] == pytest.approx(0.99, abs=0.01)
    assert (found.low[1], found.high[1], found.sigma[1]) == (1, 1, 0)


def test_snapshots_have_a_range_of_their_own_that_stays_where_it_lies(model: RgbHead) -> None:
    buffer = SnapshotBuffer(model)
    with buffer.read() as first:
        held = copied(first)
    pointers = [
        {getattr(copy.driving_range, name).data_ptr() for name in NAMES} for copy in (*buffer._models, model, held)
    ]
    assert len(set.union(*pointers)) == 16, "nobody shares"
    found = some_range(model.layout.size(), 5)
    renormalise(model, found)
    theta = torch.randn(4, model.layout.size())
    for version in (1, 2, 3):
        assert buffer.publish(model, version)
        with buffer.read() as snapshot:
            assert (snapshot.version, snapshot.images) == (version, version)
            assert torch.equal(snapshot.avatar.model.weights(theta), model.weights(theta))
            assert torch.equal(snapshot.avatar.model.driving_range.mean, found.mean)
    after = [{getattr(copy.driving_range, name).data_ptr() for name in NAMES} for copy in buffer._models]
    assert after == pointers[:2]
    assert (held.driving_range.sigma == 0.2).all(), "a copy keeps what it was copied with"


def test_a_version_that_is_being_rendered_is_not_written_over(model: RgbHead) -> None:
    buffer = SnapshotBuffer(model)
    with buffer.read() as old:
        assert buffer.publish(model, 1)
        assert not buffer.publish(model, 2), "the copy behind is still held"
        assert (old.version, buffer.version, buffer.skipped) == (0, 1, 1)
        with buffer.read() as new:
            assert new.images == 1
    assert buffer.publish(model, 3)
