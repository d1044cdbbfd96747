"""What waits for the render worker: one picture per (connection, view), the newest, and other requests in order."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backend.leases import NOBODY, Holder
from shared import wire
from shared.errors import EffigyError
from shared.messages import GetMotion, ListPresets, PoseGaussians, RenderRequest, StartOnline, StartTraining

BY_VIEW = (RenderRequest, PoseGaussians)
"""Requests of which the newest of a view replaces the older."""
LONG = (ListPresets, StartTraining, StartOnline, GetMotion)
"""Requests that import or read much. They take turns with pictures, so that a view whose backend has just come back
does not wait for the panels' lists; other requests are short and go first."""
MAX_VIEWS_PER_CLIENT = 16
MAX_WAITING = 512


@dataclass(frozen=True, eq=False)
class Asked:
    """A request and whom to answer. channel: which of the server's sockets it came by. holder: who it is for jobs.

    received: header and parts as they came, to be passed on to a worker without coding them again.
    """

    channel: str
    client: bytes
    request_id: int
    message: Any
    received: tuple[wire.Header, Sequence[wire.Part]] | None = None
    holder: Holder = NOBODY

    @property
    def process(self) -> bytes:
        """Who takes turns with others: all connections of one client process, where it said which it is."""
        return self.holder.token.encode() or self.client


class WaitingRequests:
    """A queue with one place per (connection, view). A newer picture takes the place of the older, which is handed
    back.

    Pictures are taken in turn, one of each client process, so that one with many views, or many connections, does not
    make another wait for all of them. Of the others the short ones go first and the `LONG` ones take turns with
    pictures; each kind keeps its order. A replaced picture keeps its place, so neither an orbiting viewport nor a final
    render can starve the other.
    """

    def __init__(self) -> None:
        self._pictures: OrderedDict[bytes, OrderedDict[tuple[bytes, str], Asked]] = OrderedDict()
        self._short: list[Asked] = []
        self._long: list[Asked] = []
        self._picture_was_last = False

    def __len__(self) -> int:
        return sum(map(len, self._pictures.values())) + len(self._short) + len(self._long)

    def put(self, asked: Asked) -> Asked | None:
        """Add a request; the one it replaces is returned, to be answered Superseded. Raises EffigyError when full."""
        if isinstance(asked.message, BY_VIEW):
            views = self._pictures.get(asked.process, OrderedDict())
            place = asked.client, asked.message.view
            replaced = views.get(place)
            own = sum(client == asked.client for client, _ in views)
            if replaced is None and (own >= MAX_VIEWS_PER_CLIENT or len(self) >= MAX_WAITING):
                raise EffigyError("Too many pictures are waiting", found=str(len(self)), do="Ask again later")
            views[place] = asked
            self._pictures[asked.process] = views
            return replaced
        if len(self) >= MAX_WAITING:
            raise EffigyError("Too many requests are waiting", found=str(len(self)), do="Ask again later")
        (self._long if isinstance(asked.message, LONG) else self._short).append(asked)
        return None

    def take(self) -> Asked | None:
        """The next request, or None."""
        if self._short:
            return self._short.pop(0)
        self._picture_was_last = bool(self._pictures) and not (self._long and self._picture_was_last)
        if self._picture_was_last:
            process, views = self._pictures.popitem(last=False)
            asked = views.popitem(last=False)[1]
            if views:
                self._pictures[process] = views  # behind the others
            return asked
        return self._long.pop(0) if self._long else None

    def take_all(self) -> list[Asked]:
        """Everything that waits, to be answered with a failure."""
        everything = [
            *self._short,
            *self._long,
            *(asked for views in self._pictures.values() for asked in views.values()),
        ]
        self._short.clear()
        self._long.clear()
        self._pictures.clear()
        return everything
