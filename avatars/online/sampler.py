"""Which of the frames that arrived are learned next (RGBAvatar, online; method page 6.1).

A ring holds the newest frames and a pool a uniform sample of all that fell out of the ring. Each place of a batch takes
its frame from the pool with a probability that grows to `max_pool_share` as the stream goes on, else from the ring,
where newer frames are likelier. Frames are known by their numbers here; their pictures are the store's.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadConfig

PoolKind = Literal["reservoir", "stratified"]


@dataclass(frozen=True)
class SamplerConfig:
    """The two sets and how they are drawn from. Defaults are RGBAvatar's.

    ring: newest frames kept. pool: older frames kept. max_pool_share: the pool's share of a batch in the end.
    age_coefficient: c in the ring's weights exp(c r / ring), r = 0 for the oldest. force_newest: one place of each
    batch is the newest frame. force_ring, force_pool: every place from that set (the ring helps out a small pool).
    pool_kind: 'reservoir' keeps a uniform sample; 'stratified' keeps head poses even, so that a face seen from the
    front for minutes does not push out the few turned ones (bin_deg: width of its yaw and pitch bins).
    """

    ring: int = 150
    pool: int = 1000
    max_pool_share: float = 0.7
    age_coefficient: float = 1.0
    force_newest: bool = False
    force_ring: bool = False
    force_pool: bool = False
    pool_kind: PoolKind = "reservoir"
    bin_deg: float = 15.0

    def check(self, batch: int) -> None:
        """Raises BadConfig where these numbers cannot serve batches of that size."""
        for name, good, expected in (
            ("ring", self.ring >= max(batch, 1), f"at least the batch of {batch}"),
            ("pool", self.pool >= 0, "0 or more"),
            ("max_pool_share", 0 <= self.max_pool_share < 1, "0 or more and below 1"),
            ("age_coefficient", abs(self.age_coefficient) <= 50, "between -50 and 50"),
            ("bin_deg", 1 <= self.bin_deg <= 180, "1 to 180"),
            ("force_pool", not (self.force_ring and self.force_pool), "not both force_ring and force_pool"),
        ):
            if not good:
                raise BadConfig(f"sampler.{name} does not fit", found=str(getattr(self, name)), expected=expected)


@dataclass(frozen=True)
class HeadTurn:
    """How a head is turned towards the camera that saw it: yaw to the side, pitch up, both in degrees."""

    yaw_deg: float = 0.0
    pitch_deg: float = 0.0


@dataclass(frozen=True)
class Drawn:
    """A batch: frame numbers, and which of them [B] came from the pool."""

    frames: tuple[int, ...]
    from_pool: tuple[bool, ...]


class OnlineSampler:
    """Ring, pool and the generator that draws from them: a function of the seed and of what was added, resumable.

    Frame numbers are any distinct whole numbers.
    """

    def __init__(self, config: SamplerConfig, seed: int) -> None:
        self.config = config
        self.random = np.random.Generator(np.random.PCG64(seed))
        self.seen = 0
        self.ring: deque[int] = deque()
        self.pool: list[int] = []
        self._offered = 0  # frames that fell out of the ring, each offered to the pool
        self._bin_of: dict[int, str] = {}
        self._offered_in: dict[str, int] = {}

    @property
    def full_share_after(self) -> int:
        """M: how many frames beyond the ring give the pool its full share; 599 with the defaults."""
        c, share = self.config.age_coefficient, self.config.max_pool_share
        weights = np.exp(c * np.arange(self.config.ring) / self.config.ring)
        return max(1, int(weights.sum() * share / (1 - share) / weights[0]))

    @property
    def pool_share(self) -> float:
        """The probability with which a place of the next batch is drawn from the pool."""
        beyond = self.seen - len(self.ring)
        return self.config.max_pool_share * min(beyond / self.full_share_after, 1.0)

    def ready(self, batch: int) -> bool:
        """Whether the ring holds a whole batch."""
        return len(self.ring) >= batch

    def add(self, frame: int, turn: HeadTurn | None = None) -> tuple[int, ...]:
        """Take a new frame; returns the numbers that are in neither set from now on (none or one)."""
        self.seen += 1
        self.ring.append(frame)
        if self.config.pool_kind == "stratified":
            self._bin_of[frame] = self._bin(turn or HeadTurn())
        if len(self.ring) <= self.config.ring:
            return ()
        oldest = self.ring.popleft()
        self._offered += 1
        gone = self._offer(oldest)
        for number in gone:
            self._bin_of.pop(number, None)
        return gone

    def draw(self, batch: int) -> Drawn:
        """The next batch, no frame twice. The ring must be `ready` for it."""
        chosen: list[int] = []
        ring = list(self.ring)
        if self.config.force_newest:
            chosen.append(ring.pop())
        places = batch - len(chosen)
        from_pool = min(int((self.random.random(places) < self._share()).sum()), len(self.pool))
        old = self.random.choice(len(self.pool), from_pool, replace=False) if from_pool else np.zeros(0, int)
        chosen += [ring[place] for place in self._by_age(len(ring), places - from_pool)]
        frames = (*chosen, *(self.pool[place] for place in old))
        return Drawn(frames, (False,) * len(chosen) + (True,) * from_pool)

    def state(self) -> dict[str, Any]:
        """Everything that decides what comes next, as JSON values."""
        return {
            "seen": self.seen,
            "offered": self._offered,
            "ring": list(self.ring),
            "pool": list(self.pool),
            "bins": {str(frame): name for frame, name in self._bin_of.items()},
            "offered_in": dict(self._offered_in),
            "random": self.random.bit_generator.state,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`."""
        self.seen, self._offered = int(state["seen"]), int(state["offered"])
        self.ring, self.pool = deque(state["ring"]), list(state["pool"])
        self._bin_of = {int(frame): str(name) for frame, name in state["bins"].items()}
        self._offered_in = dict(state["offered_in"])
        self.random.bit_generator.state = state["random"]

    def _share(self) -> float:
        if self.config.force_pool:
            return 1.0
        return 0.0 if self.config.force_ring else self.pool_share

    def _by_age(self, count: int, wanted: int) -> NDArray[np.int64]:
        """`wanted` of `count` places in the ring without replacement, each likelier the newer it is.

        The smallest of E / w with E exponential are drawn as one by one from what is left (Efraimidis and Spirakis).
        """
        weights = np.exp(self.config.age_coefficient * np.arange(count) / self.config.ring)
        keys = self.random.standard_exponential(count) / weights
        return np.argsort(keys, kind="stable")[:wanted].astype(np.int64)

    def _offer(self, frame: int) -> tuple[int, ...]:
        """Give the pool a frame that left the ring; returns what is not kept."""
        name = self._bin_of.get(frame, "")
        self._offered_in[name] = self._offered_in.get(name, 0) + 1
        if len(self.pool) < self.config.pool:
            self.pool.append(frame)
            return ()
        if not self.pool:
            return (frame,)
        place = self._place_by_pose(name) if self.config.pool_kind == "stratified" else self._place()
        if place is None:
            return (frame,)
        gone, self.pool[place] = self.pool[place], frame
        return (gone,)

    def _place(self) -> int | None:
        """Reservoir sampling: the n-th frame offered takes a random place with probability pool / n."""
        place = int(self.random.integers(self._offered))
        return place if place < len(self.pool) else None

    def _place_by_pose(self, name: str) -> int | None:
        """A frame of a rarer pose takes a place of the commonest; within its own pose it is reservoir sampling."""
        members: dict[str, list[int]] = {}
        for place, frame in enumerate(self.pool):
            members.setdefault(self._bin_of.get(frame, ""), []).append(place)
        own = members.get(name, [])
        most = max(len(places) for places in members.values())
        if len(own) < most:
            fullest = [other for other, places in members.items() if len(places) == most]
            victims = members[fullest[int(self.random.integers(len(fullest)))]]
            return victims[int(self.random.integers(len(victims)))]
        place = int(self.random.integers(self._offered_in[name]))
        return own[place] if place < len(own) else None

    def _bin(self, turn: HeadTurn) -> str:
        width = self.config.bin_deg
        return f"{math.floor(turn.yaw_deg / width + 0.5)},{math.floor(turn.pitch_deg / width + 0.5)}"
