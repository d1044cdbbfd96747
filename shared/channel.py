"""One of a client's connections: a DEALER socket, the requests made over it, and what became of the connection."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from . import wire
from .errors import Cancelled, NotAllowed, Unreachable
from .keys import Login
from .messages import Leave
from .sockets import REPLY_BYTES, connect, make_socket

HELLO_TIMEOUT_S = 5.0
SLICE_MS = 50
LEAVE_MS = 100
STRANGE_HANDSHAKES = 2
ASK_FOR_KEY = "Ask whoever runs it whether it does, and for its public key: effigy keys show"
HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
CONNECTED_OR_NOT = zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED
START_HINT = "Start it with 'python -m backend serve', or let the add-on start it (Preferences > Add-ons > Effigy)"


class Channel:
    """One DEALER socket to one address, and the requests made over it. `greeted` names the epoch it said Hello to."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], address: str, queue: int, login: Login | None = None
    ) -> None:
        self.address, self.greeted = address, ""
        self._encrypted, self._strange_handshakes = login is not None, 0
        self._linked = False
        self._last_id = 0
        self._socket = make_socket(context, zmq.DEALER, queue=queue, max_part_bytes=REPLY_BYTES)
        self._monitor = self._socket.get_monitor_socket(CONNECTED_OR_NOT | HANDSHAKE_FAILED)
        try:
            connect(self._socket, address, login)
        except Unreachable:
            self.close()
            raise

    def ask(self, message: Any, epoch: str, deadline: float, cancelled: Callable[[], bool] | None) -> wire.Envelope:
        """Send and wait for the answer. deadline: time.monotonic seconds. epoch: empty accepts any server's answer."""
        self._last_id += 1
        name = type(message).__name__
        parts = wire.encode(message, request_id=self._last_id, epoch=epoch)
        # To a server we already know, sending waits for a connection only: that is there soon or not at all, however
        # long the answer may take.
        reachable_by = min(deadline, time.monotonic() + HELLO_TIMEOUT_S) if epoch else deadline
        self._wait(zmq.POLLOUT, reachable_by, cancelled, f"No backend answers at {self.address}", START_HINT)
        self._strange_handshakes = 0
        try:
            self._socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
        except zmq.Again as error:  # the connection went between the poll and the send
            raise Unreachable(f"No backend answers at {self.address}", do=START_HINT) from error
        while True:
            self._wait(
                zmq.POLLIN,
                deadline,
                cancelled,
                f"The backend took too long to answer {name}",
                "Try again, or restart it",
            )
            frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            received = [frame.buffer for frame in frames]
            header = wire.open_header(received, wire.FROM_SERVER)
            # Others are late answers to requests given up before. A Failure may name another epoch: that is how a
            # restarted server says that it does not know this connection.
            current = not epoch or header.epoch == epoch or header.name == "Failure"
            if header.request_id != self._last_id or not current:
                continue
            return wire.Envelope(wire.read_message(header, received), header.request_id, header.epoch)

    def linked(self) -> bool:
        """Whether there is a connection now. Raises as `ask` does where the backend does not let us in."""
        self._drain_monitor()
        return self._linked

    def leave(self, epoch: str) -> None:
        """Say that we go, if that can be said at once, and close."""
        try:
            self._socket.send_multipart(wire.encode(Leave(), epoch=epoch), zmq.NOBLOCK)
        except zmq.ZMQError:  # nobody is there to be told
            return self.close()
        self.close(LEAVE_MS)

    def close(self, linger_ms: int = 0) -> None:
        """Close; what was sent has linger_ms to go out."""
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(linger_ms)

    def _wait(self, event: int, deadline: float, cancelled: Callable[[], bool] | None, late: str, do: str) -> None:
        """Until something came, or can be sent: that also needs a connection that was not lost since. For a moment
        after its loss libzmq still takes messages for the old one, and drops them."""
        poller = zmq.Poller()
        poller.register(self._monitor, zmq.POLLIN)
        while True:
            if cancelled is not None and cancelled():
                raise Cancelled("Stopped while waiting for the backend")
            poller.register(self._socket, event if self._linked or event == zmq.POLLIN else 0)
            left_ms = (deadline - time.monotonic()) * 1000
            ready = dict(poller.poll(int(max(0, min(SLICE_MS, left_ms)))))
            if self._socket in ready:
                if event == zmq.POLLOUT:
                    self._drain_monitor()
                if event == zmq.POLLIN or self._linked:
                    return
            if self._monitor in ready and self._drain_monitor() and event == zmq.POLLIN:
                raise Unreachable(
                    f"The backend at {self.address} stopped or lost the connection while it was asked",
                    do="Try again; if it does not come back, restart it and look into its log",
                )
            if left_ms <= 0:
                raise Unreachable(late, do=do)

    def _drain_monitor(self) -> bool:
        """Whether the connection was lost meanwhile. Raises NotAllowed where the backend does not let us in."""
        lost = False
        while self._monitor.poll(0):
            told = parse_monitor_message(self._monitor.recv_multipart())
            happened = told["event"]
            lost |= happened == zmq.EVENT_DISCONNECTED
            if happened in (zmq.EVENT_DISCONNECTED, zmq.EVENT_HANDSHAKE_SUCCEEDED):
                self._linked = happened == zmq.EVENT_HANDSHAKE_SUCCEEDED
            if happened == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                raise NotAllowed(
                    f"The backend at {self.address} does not know this client's key",
                    do="Add it there: effigy keys add NAME KEY ('effigy keys own' here shows it)",
                )
            if (
                happened == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
                and told["value"] != zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
            ):
                raise Unreachable(f"What listens at {self.address} is no backend of Effigy", do="Check the address")
            if happened == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                here, there = ("encrypts", "does not") if self._encrypted else ("does not encrypt", "does")
                raise NotAllowed(
                    f"This client {here}, the backend at {self.address} {there}",
                    do="Give the backend's public key, or none where it has none ('effigy keys show' there)",
                )
            # Once may be a backend that went away meanwhile.
            self._strange_handshakes += happened == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        if self._strange_handshakes >= STRANGE_HANDSHAKES:
            self._strange_handshakes = 0
            if self._encrypted:
                raise NotAllowed(f"The backend at {self.address} has another key than was given", do=ASK_FOR_KEY)
            raise Unreachable(f"{self.address} hangs up: no backend is behind it, or one that encrypts", do=ASK_FOR_KEY)
        return lost
