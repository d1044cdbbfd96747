"""What the online sampler promises (method page 6.1 and 15.5), and what its stratified pool adds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from avatars.online.sampler import Drawn, HeadTurn, OnlineSampler, SamplerConfig
from shared.errors import BadConfig


def fed(count: int, config: SamplerConfig | None = None, seed: int = 0) -> OnlineSampler:
    sampler = OnlineSampler(config or SamplerConfig(), seed)
    for frame in range(count):
        sampler.add(frame)
    return sampler


def test_the_published_constants() -> None:
    assert fed(0).full_share_after == 599
    assert fed(150).pool_share == 0
    assert fed(151).pool_share == pytest.approx(0.7 / 599)
    assert fed(749).pool_share == pytest.approx(0.7, abs=1e-12)
    assert fed(748).pool_share < 0.7
    assert fed(2000).pool_share == pytest.approx(0.7)


def test_the_ring_holds_the_newest_and_the_pool_what_left_it() -> None:
    sampler = fed(400)
    assert list(sampler.ring) == list(range(250, 400))
    assert sorted(sampler.pool) == list(range(250))


def test_every_frame_is_in_one_set_or_was_handed_back_once() -> None:
    sampler = OnlineSampler(SamplerConfig(ring=20, pool=30), 3)
    gone = [number for frame in range(500) for number in sampler.add(frame)]
    kept = [*sampler.ring, *sampler.pool]
    assert sorted([*gone, *kept]) == list(range(500))
    assert len(kept) == 50


def test_the_pool_is_a_uniform_sample_of_all_that_left_the_ring() -> None:
    offered, pool, runs = 60, 12, 4000
    counts = np.zeros(offered)
    for seed in range(runs):
        counts[fed(offered + 5, SamplerConfig(ring=5, pool=pool), seed).pool] += 1
    assert counts.sum() == pool * runs
    # Places are drawn without replacement, so counts vary by less than a multinomial's: scale the statistic to match.
    statistic = ((counts - counts.mean()) ** 2 / counts.mean()).sum() / (1 - pool / offered) * (1 - 1 / offered)
    assert 0.001 < stats.chi2.sf(statistic, offered - 1) < 0.999
    first, last = counts[: offered // 2].sum(), counts[offered // 2 :].sum()
    assert abs(first - last) < 4 * np.sqrt(counts.sum())


def test_shares_of_pool_and_ring_in_batches() -> None:
    sampler = fed(749)
    drawn = [sampler.draw(10) for _ in range(2000)]
    share = np.mean([batch.from_pool for batch in drawn])
    assert share == pytest.approx(0.7, abs=0.02)
    for batch in drawn[:200]:
        assert len(set(batch.frames)) == 10
        for frame, old in zip(batch.frames, batch.from_pool, strict=True):
            assert (frame < 599) == old


def test_newer_frames_of_the_ring_are_likelier_by_their_weights() -> None:
    sampler = fed(150)
    counts = np.zeros(150)
    for _ in range(60_000):
        counts[list(sampler.draw(1).frames)] += 1
    weights = np.exp(np.arange(150) / 150)
    assert stats.chisquare(counts, weights / weights.sum() * counts.sum()).pvalue > 1e-3
    assert counts[-50:].mean() / counts[:50].mean() == pytest.approx(
        weights[-50:].mean() / weights[:50].mean(), rel=0.1
    )


def test_sampling_without_replacement_has_the_right_pair_probabilities() -> None:
    config = SamplerConfig(ring=3, pool=0, age_coefficient=3.0)
    weights = np.exp(3.0 * np.arange(3) / 3)
    share = weights / weights.sum()
    expected = {
        frozenset((a, b)): share[a] * share[b] / (1 - share[a]) + share[b] * share[a] / (1 - share[b])
        for a, b in ((0, 1), (0, 2), (1, 2))
    }
    sampler = fed(3, config)
    found = dict.fromkeys(expected, 0)
    for _ in range(30_000):
        found[frozenset(sampler.draw(2).frames)] += 1
    for pair, probability in expected.items():
        assert found[pair] / 30_000 == pytest.approx(probability, abs=0.015)


def test_the_newest_frame_is_always_there_when_forced() -> None:
    sampler = OnlineSampler(SamplerConfig(force_newest=True), 0)
    for frame in range(900):
        sampler.add(frame)
        if sampler.ready(10) and frame % 7 == 0:
            batch = sampler.draw(10)
            assert frame in batch.frames
            assert len(set(batch.frames)) == 10


def test_switches_force_one_set() -> None:
    ring_only = fed(1200, SamplerConfig(force_ring=True))
    assert min(frame for _ in range(50) for frame in ring_only.draw(10).frames) >= 1050
    pool_only = fed(1200, SamplerConfig(force_pool=True))
    assert max(frame for _ in range(50) for frame in pool_only.draw(10).frames) < 1050
    early = fed(20, SamplerConfig(force_pool=True))
    assert not any(early.draw(10).from_pool), "an empty pool leaves the ring"


def test_a_small_pool_is_never_overdrawn() -> None:
    sampler = fed(300, SamplerConfig(ring=10, pool=2))
    for _ in range(300):
        batch = sampler.draw(8)
        assert sum(batch.from_pool) <= 2
        assert len(set(batch.frames)) == 8
    whole = fed(300, SamplerConfig(ring=10, pool=50)).draw(10)
    assert len(set(whole.frames)) == 10


def test_not_ready_before_a_batch_is_there() -> None:
    assert not fed(9).ready(10)
    assert fed(10).ready(10)
    assert sorted(fed(10).draw(10).frames) == list(range(10))


def test_the_seed_decides_and_a_state_goes_on_exactly() -> None:
    config = SamplerConfig(ring=12, pool=20, pool_kind="stratified")

    def run(sampler: OnlineSampler, frames: range) -> list[Drawn]:
        drawn = []
        for frame in frames:
            sampler.add(frame, HeadTurn(40 * np.sin(frame), 20 * np.cos(3 * frame)))
            if sampler.ready(4):
                drawn.append(sampler.draw(4))
        return drawn

    one, other = OnlineSampler(config, 7), OnlineSampler(config, 7)
    assert run(one, range(80)) == run(other, range(80))
    state = json.loads(json.dumps(one.state()))
    rest = run(one, range(80, 160))
    resumed = OnlineSampler(config, 99)
    resumed.restore(state)
    assert run(resumed, range(80, 160)) == rest
    assert resumed.state() == one.state()
    assert run(OnlineSampler(config, 8), range(80)) != run(OnlineSampler(config, 7), range(80))


def test_a_stratified_pool_keeps_turned_heads_among_many_frontal_ones() -> None:
    turns = [HeadTurn(0.0, 0.0)] * 3000
    for start, yaw in ((300, -45.0), (600, 45.0), (900, 30.0), (1200, -30.0)):
        turns[start : start + 15] = [HeadTurn(yaw, 0.0)] * 15
    kept = {}
    for kind in ("reservoir", "stratified"):
        sampler = OnlineSampler(SamplerConfig(ring=50, pool=100, pool_kind=kind), 1)
        for frame, turn in enumerate(turns):
            sampler.add(frame, turn)
        kept[kind] = sum(turns[frame].yaw_deg != 0 for frame in sampler.pool)
        if kind == "stratified":
            assert len({turns[frame].yaw_deg for frame in sampler.pool}) == 5
            assert sum(turns[frame].yaw_deg == 45 for frame in sampler.pool) == 15
    assert kept["stratified"] == 60
    assert kept["reservoir"] < 15


def test_a_stratified_pool_is_uniform_within_a_pose() -> None:
    counts = np.zeros(200)
    for seed in range(1500):
        sampler = OnlineSampler(SamplerConfig(ring=1, pool=20, pool_kind="stratified"), seed)
        for frame in range(201):
            sampler.add(frame, HeadTurn(60.0 * (frame % 2), 0.0))
        counts[sampler.pool] += 1
    assert abs(counts[0::2].sum() - counts[1::2].sum()) == 0, "both poses have half of the pool"
    for pose in (counts[0::2], counts[1::2]):
        statistic = ((pose - pose.mean()) ** 2 / pose.mean()).sum() / (1 - 10 / 100) * (1 - 1 / 100)
        assert stats.chi2.sf(statistic, 99) > 1e-3


@pytest.mark.parametrize(
    "config",
    [SamplerConfig(ring=5), SamplerConfig(max_pool_share=1.0), SamplerConfig(force_ring=True, force_pool=True)],
    ids=["ring", "share", "both"],
)
def test_numbers_that_do_not_fit_are_refused(config: SamplerConfig) -> None:
    with pytest.raises(BadConfig, match="sampler"):
        config.check(10)
