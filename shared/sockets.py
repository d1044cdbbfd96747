"""ZeroMQ sockets with every limit, timeout and heartbeat set explicitly: nothing is left to the library's defaults.

A backend that stops answering is noticed by its clients after HEARTBEAT_TIMEOUT_MS; nothing is queued for a peer that
is not connected (IMMEDIATE), so a request made while the backend is down can never be replayed into the next one.

Heartbeats belong to clients' DEALER sockets only, which ask and read their answer. libzmq 4.3.5 reads nothing of a
connection whose receive queue is full, pongs included: with heartbeats of its own it then gives up a peer that is
well, and when the peer goes meanwhile the next heartbeat aborts the whole process (`!_io_error`, libzmq issues 3937,
4364 and 4767). ROUTER, PULL and SUB sockets, whose queues others fill, learn of dead peers by TCP keepalive instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import zmq

from .addresses import DEFAULT_ADDRESS
from .errors import Unreachable
from .keys import Login

HANDSHAKE_MS = 5_000
HEARTBEAT_MS = 1_000
HEARTBEAT_TIMEOUT_MS = 3_000
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES = 10, 5, 3
RECONNECT_MS, RECONNECT_MAX_MS = 100, 2_000
CONTROL_QUEUE, FRAME_QUEUE, EVENT_QUEUE = 64, 2, 1_000
ANSWER_QUEUE = 1_000
"""Answers kept for a socket with heartbeats: late ones to requests that were given up must never fill its queue."""
CONTROL_BYTES = 1024**2
FRAME_BYTES = 64 * 1024**2
REPLY_BYTES = 512 * 1024**2
"""Longest part a client takes from its backend: one pass of an 8K picture."""


def make_socket(
    context: zmq.Context[zmq.Socket[bytes]], kind: int, *, queue: int, max_part_bytes: int
) -> zmq.Socket[bytes]:
    """A socket of `kind` (zmq.DEALER, …), not yet bound or connected. queue: messages kept per peer."""
    socket = context.socket(kind)
    options: dict[int, Any] = {
        zmq.LINGER: 0,
        # A SUB with IMMEDIATE never sends its subscription (measured, libzmq 4.3.5), and has nothing else to send.
        zmq.IMMEDIATE: int(kind != zmq.SUB),
        zmq.SNDHWM: queue,
        zmq.RCVHWM: queue,
        zmq.MAXMSGSIZE: max_part_bytes,
        zmq.HANDSHAKE_IVL: HANDSHAKE_MS,
        zmq.TCP_KEEPALIVE: 1,
        zmq.TCP_KEEPALIVE_IDLE: KEEPALIVE_IDLE_S,
        zmq.TCP_KEEPALIVE_INTVL: KEEPALIVE_INTERVAL_S,
        zmq.TCP_KEEPALIVE_CNT: KEEPALIVE_PROBES,
        zmq.RECONNECT_IVL: RECONNECT_MS,
        zmq.RECONNECT_IVL_MAX: RECONNECT_MAX_MS,
    }
    if kind == zmq.DEALER:
        options[zmq.RCVHWM] = max(queue, ANSWER_QUEUE)
        options[zmq.HEARTBEAT_IVL] = HEARTBEAT_MS
        options[zmq.HEARTBEAT_TIMEOUT] = HEARTBEAT_TIMEOUT_MS
    if kind == zmq.ROUTER:
        options[zmq.ROUTER_MANDATORY] = 1  # tells of a full or vanished peer instead of dropping silently
    for option, value in options.items():
        socket.setsockopt(option, value)
    return socket


def connect(socket: zmq.Socket[bytes], address: str, login: Login | None) -> None:
    """Connect a client's socket, encrypted where there is a login. Raises Unreachable for what is no address."""
    if login is not None:
        socket.setsockopt(zmq.CURVE_SERVERKEY, bytes.fromhex(login.server_key))
        socket.setsockopt(zmq.CURVE_PUBLICKEY, bytes.fromhex(login.own.public))
        socket.setsockopt(zmq.CURVE_SECRETKEY, bytes.fromhex(login.own.secret))
    socket.setsockopt(zmq.IPV6, int("[" in address))
    try:
        socket.connect(address)
    except zmq.ZMQError as error:
        raise Unreachable(
            "The backend's address cannot be used", found=address, expected="for example " + DEFAULT_ADDRESS
        ) from error


def send_to(router: zmq.Socket[bytes], identity: bytes, parts: Sequence[bytes | memoryview]) -> bool:
    """Send to one peer of a ROUTER without waiting; False where its queue is full or it is gone.

    libzmq notices that a peer has taken a message only when it looks at its own commands, which `send` does about once
    a millisecond. With a short queue and a quick peer it would find the queue full that is not (measured: 7 of
    8 000 answers lost). Asking for the socket's events looks at once.
    """
    router.getsockopt(zmq.EVENTS)
    try:
        router.send_multipart([identity, *parts], zmq.NOBLOCK, copy=False)
    except zmq.ZMQError as error:
        if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
            return False
        raise
    return True
