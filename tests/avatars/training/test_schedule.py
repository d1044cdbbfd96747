"""Learning rates, time budget, stages and the sampler."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from avatars.training.config import Schedule
from avatars.training.sampler import Sampler
from avatars.training.schedule import images_reached, log_linear, stage_size

PAPER = Schedule(images=50000)


def test_the_papers_position_rate_at_four_places() -> None:
    rates = [log_linear(8e-4, 8e-6, at / 30000) for at in (0, 15000, 30000, 50000)]
    assert rates == pytest.approx([8e-4, 8e-5, 8e-6, 8e-6])
    assert log_linear(0.0, 0.0, 0.5) == 0


def test_a_time_budget_moves_the_schedule_but_never_back() -> None:
    assert images_reached(PAPER, 1000, 1e9) == 1000
    timed = replace(PAPER, max_seconds=100.0)
    assert images_reached(timed, 1000, 50.0) == 25000
    assert images_reached(timed, 40000, 50.0) == 40000
    assert images_reached(timed, 10, 1000.0) == 50000
    patient = replace(timed, min_images=1000)
    assert images_reached(patient, 10, 1000.0) == 500
    assert images_reached(patient, 1000, 1000.0) == 50000
    assert images_reached(patient, 900, 50.0) == 25000


def test_stages_begin_where_they_say() -> None:
    plan = Schedule(sizes_px=(64, 128), stages_from=(0, 100))
    assert [stage_size(plan, at) for at in (0, 99.9, 100, 1e9)] == [64, 64, 128, 128]


def test_every_image_comes_once_before_any_comes_again() -> None:
    sampler = Sampler(7, seed=1)
    drawn = torch.cat([sampler.batch(3) for _ in range(7)])
    for start in range(0, 21, 7):
        assert sorted(drawn[start : start + 7].tolist()) == list(range(7))


def test_no_batch_holds_an_image_twice_where_it_can_be_helped() -> None:
    sampler = Sampler(5, seed=0)
    for _ in range(40):
        assert len(set(sampler.batch(4).tolist())) == 4
    assert sorted(Sampler(2, seed=0).batch(5).tolist()).count(0) in (2, 3)


def test_a_restored_sampler_goes_on_where_it_was() -> None:
    first = Sampler(9, seed=3)
    first.batch(4), first.backgrounds(2, "random")
    state = first.state()
    expected = [first.batch(4), first.backgrounds(3, "random"), first.batch(4)]
    second = Sampler(9, seed=99)
    second.restore(state)
    for want, got in zip(expected, [second.batch(4), second.backgrounds(3, "random"), second.batch(4)], strict=True):
        assert torch.equal(want, got)
    assert (second.backgrounds(2, "white") == 1).all()
    assert (second.backgrounds(2, "black") == 0).all()
