"""The render workers of a cluster: one actor in each seat, new ones where machines come, none where machines went."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backend.engines.inbox import Inbox
from backend.engines.placement import Candidate, Machine, Seat, Shares, seats, wants_gpus
from backend.engines.ray_actors import RenderActor
from backend.engines.ray_cluster import start_actor, threads_asked
from backend.render_desk import RecentEnvironments
from shared import __version__
from shared.messages import PROTOCOL_VERSION

AGAIN_AFTER_S = (1.0, 2.0, 4.0, 8.0, 16.0)
SHOWN = 12

log = logging.getLogger("effigy.ray")


@dataclass(eq=False)
class Sitter:
    """One render worker. ticket: of the picture it is at, 0 for none. facts: what it told last, empty until ready."""

    seat: Seat
    actor: Any
    ticket: int = 0
    since_s: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    sent: set[str] = field(default_factory=set)
    """Digests of avatars on their way to its machine or there."""
    environments: RecentEnvironments = field(default_factory=RecentEnvironments)

    @property
    def name(self) -> str:
        """For people and for placement."""
        return f"{self.seat.node_id[:SHOWN]}/{self.seat.index}"

    def candidate(self) -> Candidate:
        """As placement sees it."""
        facts = self.facts
        free_bytes = int(facts["total_bytes"]) - int(facts["used_bytes"]) if facts else 0
        stored = frozenset(facts.get("stored", ())) | self.sent
        return Candidate(
            self.name, bool(facts) and not self.ticket, free_bytes, frozenset(facts.get("loaded", ())), stored
        )


class Crew:
    """shares, device: as in placement. inbox: where the actors' answers arrive, as ('ready' | 'answer', sitter)."""

    def __init__(self, shares: Shares, device: str, inbox: Inbox) -> None:
        self.shares, self.device, self.inbox = shares, device, inbox
        self.sitters: dict[Seat, Sitter] = {}
        self._failures: dict[Seat, int] = {}
        self._not_before_s: dict[Seat, float] = {}

    def tend(self, machines: Sequence[Machine], now: float) -> None:
        """Have a worker in each seat there is, and none where the machine is gone."""
        there = seats(machines, self.shares, self.device)
        for sitter in [sitter for seat, sitter in self.sitters.items() if seat not in there]:
            log.warning("machine of worker %s is gone", sitter.name)
            self.lost(sitter)  # a picture it was at arrives as lost, too
        for seat in there:
            if seat not in self.sitters and now >= self._not_before_s.get(seat, 0.0):
                device = "cuda" if wants_gpus(machines, self.device) else "cpu"
                sitter = Sitter(seat, start_actor(RenderActor, seat.demand, seat.node_id, device, threads_asked()))
                self.sitters[seat] = sitter
                self.inbox.expect(sitter.actor.ready.remote(), ("ready", sitter))

    def is_ready(self, sitter: Sitter, facts: Mapping[str, Any]) -> str:
        """A worker has loaded; an empty text, or why it cannot be used."""
        if facts.get("protocol") != PROTOCOL_VERSION or facts.get("version") != __version__:
            self.lost(sitter)
            found = f"version {facts.get('version')}, protocol {facts.get('protocol')}"
            return f"machine {facts.get('host')} has another Effigy ({found}) than the server ({__version__})"
        sitter.facts = dict(facts)
        self._failures.pop(sitter.seat, None)
        return ""

    def lost(self, sitter: Sitter) -> None:
        """A worker is gone, or of no use: its seat is free again after a while."""
        if self.sitters.get(sitter.seat) is not sitter:
            return
        del self.sitters[sitter.seat]
        failures = self._failures[sitter.seat] = self._failures.get(sitter.seat, 0) + 1
        wait_s = AGAIN_AFTER_S[min(failures, len(AGAIN_AFTER_S)) - 1]
        self._not_before_s[sitter.seat] = time.monotonic() + wait_s
        end(sitter.actor)

    def ready(self) -> list[Sitter]:
        """The workers that can draw."""
        return [sitter for sitter in self.sitters.values() if sitter.facts]

    def named(self, name: str) -> Sitter:
        """The worker that placement chose."""
        return next(sitter for sitter in self.sitters.values() if sitter.name == name)

    def memory(self) -> tuple[int, int]:
        """Bytes in use and in all, over the devices of all workers."""
        facts = [sitter.facts for sitter in self.ready()]
        return sum(int(one["used_bytes"]) for one in facts), sum(int(one["total_bytes"]) for one in facts)

    def described(self) -> tuple[str, str]:
        """Device and rasteriser, for people."""
        ready = self.ready()
        hosts = {sitter.seat.node_id for sitter in ready}
        devices = ", ".join(sorted({str(sitter.facts["device"]) for sitter in ready})) or "no device"
        rasterisers = ", ".join(sorted({str(sitter.facts["rasteriser"]) for sitter in ready})) or "none"
        workers = f"{len(ready)} worker{'s' * (len(ready) != 1)} on {len(hosts)} machine{'s' * (len(hosts) != 1)}"
        return f"{workers} ({devices})", rasterisers


def facts_in(part: memoryview | bytes) -> dict[str, Any]:
    """What an actor tells of itself. Raises ValueError."""
    facts = json.loads(bytes(part))
    if not isinstance(facts, dict):
        raise ValueError("facts are no object")
    return facts


def ray_errors() -> type[Exception]:
    """What a call of an actor raises where the actor, its machine or the way to it is lost."""
    from ray.exceptions import RayError

    return RayError


def end(actor: Any) -> None:
    """End an actor, if it still lives."""
    import ray

    try:
        ray.kill(actor, no_restart=True)
    except (ray.exceptions.RayError, ValueError, RuntimeError) as error:
        log.info("an actor could not be ended: %s", error)
