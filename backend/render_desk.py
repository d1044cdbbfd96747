"""Everything the render worker is asked, through its restarts: as many requests at a time as it says it can work on
(one where it computes itself, one for each machine's workers of a cluster), and the newest picture of a view."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from backend.frames import BY_VIEW, Asked, WaitingRequests
from backend.workers import Worker
from shared import wire
from shared.desk_messages import Memory
from shared.errors import BadMessage, NotFound
from shared.messages import Failure, PutEnvironment, Superseded, Welcome
from shared.render_messages import KEPT_ENVIRONMENTS, environments_of

RESTART_AFTER_S = (0.2, 1.0, 2.0, 4.0, 8.0)
LONGEST_REQUEST_S = 600.0
"""No client waits longer for an answer: a worker that is still at it hangs."""
GIVE_UP_AFTER = 3
"""Failed starts in a row after which waiting requests are answered; the worker is still tried again."""

log = logging.getLogger("effigy.render")


class RecentEnvironments:
    """Digests in order of last use, at most KEPT_ENVIRONMENTS. Desk and worker run the same rule, so they agree."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Any] = OrderedDict()

    def __contains__(self, digest: str) -> bool:
        return digest in self._kept

    def put(self, digest: str, value: Any) -> None:
        """Keep a value; the one not used for longest goes."""
        self._kept[digest] = value
        self._kept.move_to_end(digest)
        while len(self._kept) > KEPT_ENVIRONMENTS:
            self._kept.popitem(last=False)

    def use(self, digest: str) -> Any:
        """The value, now the most recent. Raises NotFound."""
        if digest not in self._kept:
            raise NotFound("The backend does not have this environment map", found=digest[:12], do="Send it first")
        self._kept.move_to_end(digest)
        return self._kept[digest]


class RenderDesk:
    """Owns the render worker and the requests that wait for it.

    start: makes a worker. send: (worker, asked, ticket) to it. answer: (asked, message) to a client.
    forward: (asked, header, parts) passes a worker's answer on unread. environments: shared with another desk.
    """

    def __init__(
        self,
        start: Callable[[], Worker],
        send: Callable[[Worker, Asked, int], None],
        answer: Callable[[Asked, Any], None],
        forward: Callable[[Asked, wire.Header, Sequence[wire.Part]], None],
        environments: RecentEnvironments | None = None,
    ) -> None:
        self._start, self._send, self._answer, self._forward = start, send, answer, forward
        self.worker: Worker | None = None
        self.ready: Welcome | None = None
        self.memory = Memory(0, 0)
        self._waiting = WaitingRequests()
        self._busy: dict[int, tuple[Asked, float]] = {}
        """What the worker is at, by ticket, and since when."""
        self._ticket = 0
        self.environments = RecentEnvironments() if environments is None else environments
        self._sent = RecentEnvironments()
        self._failures = 0
        self._restart_at_s = 0.0

    def ask(self, asked: Asked) -> None:
        """Take a request; it is answered later. Raises NotFound for an environment that was never handed over."""
        if isinstance(asked.message, BY_VIEW):
            for digest in environments_of(asked.message):
                self.environments.use(digest)
        replaced = self._waiting.put(asked)
        if replaced is not None:
            self._answer(replaced, Superseded(replaced.message.view))
        self._dispatch()

    @property
    def waiting(self) -> int:
        """How many requests are not answered yet."""
        return len(self._waiting) + len(self._busy)

    def put_environment(self, message: PutEnvironment) -> None:
        """Keep an environment map for the worker and its successors. Raises BadMessage."""
        radiance = message.radiance
        if radiance.ndim != 3 or radiance.shape[2] != 3 or radiance.dtype.name != "float16" or radiance.size == 0:
            raise BadMessage("An environment map is not [H, W, 3] float16", found=f"{radiance.dtype} {radiance.shape}")
        if hashlib.sha256(radiance.tobytes()).hexdigest() != message.digest:
            raise BadMessage("An environment map is not what its digest says", do="Send it again")
        self.environments.put(message.digest, message)

    def received(self, header: wire.Header, parts: Sequence[wire.Part]) -> None:
        """A message of the worker."""
        if header.name == "Welcome":
            self.ready, self._failures = wire.read_message(header, parts), 0
            log.info("render worker is ready on %s after %.1f s", self.ready.device, self._age_s())
        elif header.name == "Memory":
            self.memory = wire.read_message(header, parts)
        elif header.request_id in self._busy:
            asked, _ = self._busy.pop(header.request_id)
            self._failures = 0
            self._forward(asked, header, parts)
        self._dispatch()

    def tick(self) -> None:
        """Start the worker where it is time to, and notice its end."""
        now = time.monotonic()
        if self.worker is None:
            if now >= self._restart_at_s:
                self.worker = self._start()
            return
        if self.worker.ended() is None:
            late = [asked for asked, since_s in self._busy.values() if now - since_s > LONGEST_REQUEST_S]
            if late:
                log.error("the render worker hangs at %s; it is ended", _named(late))
                self.worker.process.kill()
                self._busy = {ticket: (asked, now) for ticket, (asked, _) in self._busy.items()}  # it goes in a moment
            return
        busy = [asked for asked, _ in self._busy.values()]
        failure = Failure.of(self.worker.failure(f"at {_named(busy)}" if busy else "starting"))
        log.error("%s", failure.error())
        self._failures += 1
        self._let_go(failure, everyone=self._failures >= GIVE_UP_AFTER)
        self._restart_at_s = now + RESTART_AFTER_S[min(self._failures, len(RESTART_AFTER_S)) - 1]

    def _let_go(self, failure: Failure, *, everyone: bool) -> None:
        """The worker is gone: tell whom it was working for, and those that wait if nobody will."""
        for asked, _ in self._busy.values():
            self._answer(asked, failure)
        for asked in self._waiting.take_all() if everyone else ():
            self._answer(asked, failure)
        if self.worker is not None:
            self.worker.stop()
        self.worker = self.ready = None
        self._busy = {}
        self.memory = Memory(0, 0)
        self._sent = RecentEnvironments()

    def stop(self) -> None:
        """End the worker."""
        if self.worker is not None:
            self.worker.stop()

    def _age_s(self) -> float:
        return time.monotonic() - self.worker.started_s if self.worker else 0.0

    def _dispatch(self) -> None:
        while self.worker is not None and self.ready is not None and len(self._busy) < self.ready.render_workers:
            asked = self._waiting.take()
            if asked is None:
                return
            self._hand_over(self.worker, asked)

    def _hand_over(self, worker: Worker, asked: Asked) -> None:
        message = asked.message
        for digest in environments_of(message) if isinstance(message, BY_VIEW) else ():
            try:
                environment = self.environments.use(digest)
            except NotFound as error:  # pushed out by others while it waited
                self._answer(asked, Failure.of(error))
                return
            if digest not in self._sent:
                self._send(worker, Asked("", b"", 0, environment), 0)
            self._sent.put(digest, None)
        self._ticket += 1
        self._busy[self._ticket] = (asked, time.monotonic())
        self._send(worker, asked, self._ticket)


def _named(every: Sequence[Asked]) -> str:
    return ", ".join(dict.fromkeys(type(asked.message).__name__ for asked in every))
