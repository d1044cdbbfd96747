"""Pictures that are asked for before their frame's turn comes, and used only where the frame then asks for the same."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from .._shared import desk_messages, errors, messages, wire
from .light_maps import LightMaps, handed_over
from .settings import Settings

MOST_AT_ONCE = 16
COUNT_EVERY_S = 2.0
COUNT_WITHIN_S = 5.0
LOOK_EVERY_S = 0.05

Place = tuple[str, str, int, str]
"""Scene, view layer, frame and eye: what a picture is for."""


@dataclass(frozen=True, eq=False)
class Question:
    """All that a picture depends on, and who is asked for it."""

    settings: Settings
    request: messages.RenderRequest
    maps: LightMaps

    def content(self) -> bytes:
        """A digest of every byte of it. Raises BadMessage for a request that cannot be sent."""
        own = self.settings
        digest = hashlib.sha256(repr((own.address, own.key, own.server_key)).encode())
        parts = [bytes(part) for part in wire.encode(self.request)]
        for radiance in (self.maps.picture, *self.maps.own):
            parts.append(b"" if radiance is None else repr(radiance.shape).encode() + radiance.tobytes())
        for part in parts:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        return digest.digest()


@dataclass(frozen=True, eq=False)
class _Asked:
    content: bytes
    stop: threading.Event
    answer: Future[Any]


class Ahead:
    """Belongs to the thread that renders; each picture under way has a connection and a thread of its own.

    new_client: makes a connection with these settings.
    """

    def __init__(self, new_client: Callable[[Settings], Any]) -> None:
        self._new_client = new_client
        self._asked: dict[Place, _Asked] = {}
        self._idle: list[tuple[Settings, Any]] = []
        self._pool: ThreadPoolExecutor | None = None
        self._counted_s = float("-inf")
        self.workers = 0
        """How many pictures the backend can be at, as it said last."""

    def places(self) -> list[Place]:
        """What has been asked for and was neither taken nor dropped."""
        return list(self._asked)

    def count(self, client: Any, cancelled: Callable[[], bool]) -> None:
        """Ask how many pictures the backend can be at, unless that was done a moment ago."""
        if time.monotonic() - self._counted_s >= COUNT_EVERY_S:
            self._counted_s = time.monotonic()
            status = client.request(desk_messages.GetStatus(), timeout_s=COUNT_WITHIN_S, cancelled=cancelled)
            self.workers = int(status.render_workers)

    def ask(self, place: Place, question: Question, timeout_s: float) -> None:
        """Have a picture made. Raises EffigyError for a question that cannot be sent."""
        content, stop = question.content(), threading.Event()
        known = [index for index, (settings, _) in enumerate(self._idle) if settings == question.settings]
        client = self._idle.pop(known[-1])[1] if known else self._new_client(question.settings)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="effigy-ahead")
        self._forget([place])
        self._asked[place] = _Asked(content, stop, self._pool.submit(self._made, client, question, stop, timeout_s))

    def fits(self, place: Place, question: Question) -> bool:
        """Whether what was asked for at this place is what the question asks for."""
        asked = self._asked.get(place)
        return asked is not None and asked.content == question.content()

    def take(self, place: Place, question: Question, cancelled: Callable[[], bool]) -> Any | None:
        """The Frame of the same question, asked before; None where there is none or it failed. Raises Cancelled."""
        if not self.fits(place, question):
            self._forget([place])
            return None
        answer = self._asked[place].answer
        while not wait([answer], LOOK_EVERY_S).done:
            if cancelled():
                raise errors.Cancelled("Stopped while waiting for a picture")
        del self._asked[place]
        return None if isinstance(answer.exception(), errors.EffigyError) else answer.result()

    def keep_only(self, places: set[Place]) -> None:
        """Let go of what is for any other place."""
        self._forget([place for place in self._asked if place not in places])

    def drop(self) -> None:
        """Let go of everything: when this returns, there are no threads and no connections."""
        self._forget(list(self._asked))
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        for _, client in self._idle:
            client.close()
        self._idle.clear()
        self.workers, self._counted_s = 0, float("-inf")

    def _forget(self, places: list[Place]) -> None:
        for place in places:
            asked = self._asked.pop(place, None)
            if asked is not None:
                asked.stop.set()

    def _made(self, client: Any, question: Question, stop: threading.Event, timeout_s: float) -> Any:
        try:
            lit = handed_over(client, question.request, question.maps, stop.is_set)
            frame = client.render(lit, timeout_s=timeout_s, cancelled=stop.is_set)
        except BaseException:
            client.close()
            raise
        with contextlib.suppress(errors.EffigyError):  # the picture is there; the next one tells as well
            self.count(client, stop.is_set)
        self._idle.append((question.settings, client))
        return frame
