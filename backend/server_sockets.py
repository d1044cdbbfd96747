"""The sockets that clients reach: bound once, encrypted where that is asked, and opened anew after a flood.

Clients of this machine use private addresses for frames and events, the fastest way there is. For others, and for
whoever comes through a tunnel, both also listen beside the control port, at the two ports after it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import zmq

from backend.addresses import beside, bind, bind_private, is_loopback, port_of
from backend.gate import DOMAIN
from shared import wire
from shared.errors import EnvironmentFailed
from shared.keys import Pair
from shared.messages import Done
from shared.sockets import CONTROL_BYTES, CONTROL_QUEUE, EVENT_QUEUE, FRAME_BYTES, FRAME_QUEUE, make_socket, send_to

KINDS: dict[str, tuple[int, int, int]] = {
    "control": (zmq.ROUTER, CONTROL_QUEUE, CONTROL_BYTES),
    "frames": (zmq.ROUTER, FRAME_QUEUE, FRAME_BYTES),
    "events": (zmq.PUB, EVENT_QUEUE, CONTROL_BYTES),
}
"""Kind, messages kept per peer, longest part."""
OFFSETS = {"frames": 1, "events": 2}
SHORT_ANSWER_BYTES, SHORT_ANSWER_TRIES, SHORT_ANSWER_WAIT_S = 64 * 1024, 20, 0.0005
MAX_DEAF = 256
REBIND_TRY_S, REBIND_WAIT_S = 5.0, 0.02

log = logging.getLogger("effigy.server")


class ServerSockets:
    """pair: the backend's keys, None where nothing is encrypted. Raises EnvironmentFailed where it cannot bind."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: str, pair: Pair | None) -> None:
        self._context, self._pair = context, pair
        self._deaf: set[tuple[str, bytes]] = set()
        self.sockets = {name: self._make(name) for name in KINDS}
        self.address = bind(self.sockets["control"], address)
        self.private = {name: bind_private(self.sockets[name]) for name in OFFSETS}
        self.ports = dict.fromkeys(OFFSETS, 0)
        self._bound = {"control": [self.address], **{name: [private] for name, private in self.private.items()}}
        local = is_loopback(address)
        # A free port of this machine is for a process that told us where it is; it needs no tunnel to us.
        if self.address.startswith("tcp://") and not (local and address.endswith((":0", ":*"))):
            for name, offset in OFFSETS.items():
                self._bind_beside(name, beside(address, offset), needed=not local)

    def rebind(self) -> None:
        """Cut every connection, drop what has not been taken, and listen at the same addresses again."""
        for name, socket in self.sockets.items():
            socket.close(0)
            self.sockets[name] = self._make(name)
        until = time.monotonic() + REBIND_TRY_S
        for name, addresses in self._bound.items():
            for address in addresses:
                while True:
                    try:
                        bind(self.sockets[name], address)
                        break
                    except EnvironmentFailed:  # the old one lets go of it in a thread of libzmq's
                        if time.monotonic() > until:
                            raise
                        time.sleep(REBIND_WAIT_S)

    def send(self, channel: str, client: bytes, parts: Sequence[wire.Part]) -> bool:
        """Give an answer to a client's queue; False where it was dropped. Short answers to a client that has been
        listening may wait a moment for room, since they come in bursts; pictures never do, and a client that does not
        listen delays nobody twice."""
        tries = (
            SHORT_ANSWER_TRIES
            if wire.size_of(parts) < SHORT_ANSWER_BYTES and (channel, client) not in self._deaf
            else 1
        )
        for attempt in range(tries):
            if attempt:
                time.sleep(SHORT_ANSWER_WAIT_S)
            if send_to(self.sockets[channel], client, parts):
                self._deaf.discard((channel, client))
                return True
        self._deaf.add((channel, client))
        while len(self._deaf) > MAX_DEAF:
            self._deaf.pop()
        return False

    def listens(self, channel: str, client: bytes) -> bool:
        """Whether answers reach a client. One whose last was dropped is sent a word that answers nothing; until that
        goes through, work for it would be work for nobody."""
        return (channel, client) not in self._deaf or self.send(channel, client, wire.encode(Done()))

    def publish(self, parts: Sequence[wire.Part]) -> None:
        """Tell all who listen to events."""
        self.sockets["events"].send_multipart(parts, zmq.NOBLOCK)

    def _make(self, name: str) -> zmq.Socket[bytes]:
        kind, queue, longest = KINDS[name]
        socket = make_socket(self._context, kind, queue=queue, max_part_bytes=longest)
        if self._pair is not None:
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.CURVE_SECRETKEY, bytes.fromhex(self._pair.secret))
            socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
        return socket

    def _bind_beside(self, name: str, address: str, *, needed: bool) -> None:
        try:
            bound = bind(self.sockets[name], address)
        except EnvironmentFailed as error:
            if needed:
                raise
            log.info("%s; clients of this machine do not need it, an SSH tunnel would", error.what)
            return
        self.ports[name] = port_of(bound)
        self._bound[name].append(bound)


def told_by(frame: Any, what: str) -> str:
    """What ZeroMQ knows of the peer that sent a frame; empty where it does not."""
    try:
        return str(frame.get(what))
    except zmq.ZMQError:
        return ""
