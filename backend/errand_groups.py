"""All errands of a server: each group of kinds with a table, and a process, of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from backend.addresses import require_loopback
from backend.errands import BESIDE, KINDS, Errands
from backend.jobs import Journal
from backend.workers import Worker
from shared.messages import JobInfo
from shared.track_messages import StartDrive


class ErrandGroups:
    """start: makes the worker of a group, by its name. send, publish: as in Errands."""

    def __init__(
        self,
        journal: Journal,
        start: Callable[[str], Worker],
        send: Callable[[Worker, Any], None],
        publish: Callable[[JobInfo], None],
    ) -> None:
        self._tables = {
            kinds: Errands(journal, partial(start, "errands" if len(kinds) > 1 else kinds[0]), send, publish, kinds)
            for kinds in BESIDE
        }

    def __iter__(self) -> Iterator[Errands]:
        return iter(self._tables.values())

    def of(self, kind: str) -> Errands:
        """Who looks after errands of this kind."""
        return next(table for kinds, table in self._tables.items() if kind in kinds)

    def start(self, asked: Any) -> JobInfo:
        """Queue one. Raises BadMessage where too many wait, NotAllowed for poses that would leave this machine."""
        if isinstance(asked, StartDrive):
            require_loopback(asked.address)
        return self.of(KINDS[type(asked)]).start(asked)

    def tick(self) -> None:
        """Let time pass."""
        for table in self:
            table.tick()

    def stop(self) -> None:
        """End the workers for the server's end."""
        for table in self:
            table.stop()
