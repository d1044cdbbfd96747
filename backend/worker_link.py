"""A worker's end of its private connection to the server, and what ties its life to the server's.

A worker is started as `python -m backend.<module> --name NAME …`. The first line of its standard input is a secret and
the server's private address. It says Hello there with the secret, then takes messages and answers them. Standard input
stays open as long as the server lives: its end is the server's end, however that came, and the worker exits at once. On
Linux the kernel is asked for a kill signal as well, because a thread cannot run while a compiled kernel holds the
interpreter.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from shared import __version__, wire
from shared.messages import PROTOCOL_VERSION, Hello
from shared.sockets import CONTROL_QUEUE, REPLY_BYTES, make_socket

ORPHANED_EXIT = 3
_PR_SET_PDEATHSIG = 1


class WorkerLink:
    """The worker's DEALER socket. It belongs to the thread that made it."""

    def __init__(self, server: str, name: str, secret: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = make_socket(self._context, zmq.DEALER, queue=CONTROL_QUEUE, max_part_bytes=REPLY_BYTES)
        self._socket.setsockopt(zmq.IMMEDIATE, 0)  # the server is there: it started us
        # Standard input tells of the server's end. Heartbeats would take one that is stopped for some seconds (Ctrl-Z,
        # a laptop that sleeps) for gone, and a second connection is a stranger to it: its orders would go nowhere.
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, 0)
        self._socket.connect(server)
        self.send(Hello(PROTOCOL_VERSION, name, __version__, secret))

    def receive(self, timeout_s: float) -> wire.Envelope | None:
        """The next message, or None when none came in time."""
        if not self._socket.poll(int(timeout_s * 1000)):
            return None
        frames = self._socket.recv_multipart(copy=False)
        return wire.decode([frame.buffer for frame in frames], limits=wire.FROM_SERVER)

    def wait(self, timeout_s: float, beside: int) -> None:
        """Until a message is there, or something can be read from the descriptor `beside`, or the time is up."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(beside, zmq.POLLIN)
        poller.poll(int(timeout_s * 1000))

    def send(self, message: Any, request_id: int = 0) -> None:
        """Send a message; request_id says what it answers, 0 nothing."""
        self.send_parts(wire.encode(message, request_id=request_id))

    def send_parts(self, parts: Sequence[wire.Part]) -> None:
        """Send a message that is encoded already."""
        self._socket.send_multipart(parts, copy=False)

    def close(self, linger_ms: int = 2_000) -> None:
        """Close after what was sent has gone out, at most linger_ms."""
        self._socket.close(linger_ms)
        self._context.term()


def worker_parser(purpose: str) -> argparse.ArgumentParser:
    """The arguments every worker has."""
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("--name", required=True, help="how the server calls this worker")
    parser.add_argument("--home", required=True, help="the data folder")
    parser.add_argument("--device", required=True, help="cpu, cuda or cuda:N")
    return parser


def join_server(arguments: argparse.Namespace, load: Callable[[], None] = lambda: None) -> WorkerLink:
    """Tie this process to the server's life, load what it needs, wait to be told where the server is, and connect.

    Ctrl-C in a terminal reaches all processes; workers leave it to the server, which stops them in order.
    """
    tie_to_parent()
    load()
    secret, _, server = sys.stdin.readline().strip().partition(" ")
    if not server:
        sys.exit(ORPHANED_EXIT)  # the server ended before it said where it is
    threading.Thread(target=_exit_at_end_of_input, name="server-watch", daemon=True).start()
    return WorkerLink(server, arguments.name, secret)


def tie_to_parent() -> None:
    """Leave Ctrl-C to the process that started this one, and ask the kernel for a kill signal when that one ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it went before the kernel was asked
        os._exit(ORPHANED_EXIT)


def _exit_at_end_of_input() -> None:
    while sys.stdin.read(1):
        pass
    os._exit(ORPHANED_EXIT)
