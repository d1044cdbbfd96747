"""What Ray's threads hand to a relay's one thread, which waits for it and for the server at the same time."""

from __future__ import annotations

import contextlib
import queue
import socket
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from backend.worker_link import WorkerLink


@dataclass(frozen=True, eq=False)
class Arrival:
    """A call that is over. what: as given to `expect`. error: what it failed with; then value is empty."""

    what: Any
    value: Any
    error: BaseException | None


class Inbox:
    """Belongs to the relay's thread; `put` may be called by any."""

    def __init__(self) -> None:
        self._arrived: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self._bell, self._ring = socket.socketpair()
        self._bell.setblocking(False)
        self._ring.setblocking(False)

    def expect(self, reference: Any, what: Any) -> None:
        """Have the result of a call of an actor arrive here."""
        reference.future().add_done_callback(partial(self._done, what))

    def put(self, what: Any, value: Any, error: BaseException | None = None) -> None:
        """Have something arrive."""
        self._arrived.put(Arrival(what, value, error))
        with contextlib.suppress(BlockingIOError):  # it has been rung often enough
            self._ring.send(b"!")

    def wait(self, link: WorkerLink, timeout_s: float) -> list[Arrival]:
        """What has arrived, as soon as anything has, or the server said something, or the time is up."""
        link.wait(timeout_s, self._bell.fileno())
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(4096)
        arrived = []
        with contextlib.suppress(queue.Empty):
            while True:
                arrived.append(self._arrived.get_nowait())
        return arrived

    def _done(self, what: Any, future: Future[Any]) -> None:
        error = future.exception()
        self.put(what, None if error is not None else future.result(), error)
