"""What would fill the server's memory: unfinished messages, too many parts, too long ones. Raw sockets."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import zmq

from backend.home import open_home
from backend.launcher import RunningServer
from backend.server import Server, ServerSettings
from shared import messages as m
from shared import wire
from shared.client import BackendClient
from shared.desk_messages import GetStatus
from shared.errors import Unreachable
from shared.sockets import CONTROL_BYTES, make_socket
from tests.threads import background

MIB = 1024**2


class RawPeer:
    """A ZMTP peer written by hand, which sends what libzmq never would."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        mechanism = b"NULL".ljust(20, b"\0")
        self.socket.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + mechanism + b"\0" + bytes(31))
        self._take(64)
        ready = b"\x05READY" + self._property(b"Socket-Type", b"DEALER") + self._property(b"Identity", b"")
        self.socket.sendall(b"\x04" + bytes([len(ready)]) + ready)
        self._take(self._take(2)[1])

    def send_unfinished(self, parts: int, size: int) -> int:
        """Parts that all say that more will come, until we are cut off; how many went."""
        frame = b"\x03" + struct.pack(">Q", size) + bytes(size)
        sent = 0
        with contextlib.suppress(OSError):
            while sent < parts:
                self.socket.sendall(frame)
                sent += 1
                time.sleep(0.002)  # else a busy machine takes them all before the server's thread has its turn
        return sent

    def _take(self, count: int) -> bytes:
        taken = b""
        while len(taken) < count:
            taken += self.socket.recv(count - len(taken))
        return taken

    @staticmethod
    def _property(name: bytes, value: bytes) -> bytes:
        return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value


def test_an_endless_message_is_cut_off_and_honest_clients_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limit = 96 * MIB
    server = Server(ServerSettings(open_home(tmp_path), "tcp://127.0.0.1:0", device="cpu", flood_bytes=limit))
    with background(server.run), BackendClient(server.address) as client:
        epoch = client.connect().epoch
        peer = RawPeer(int(server.address.rpartition(":")[2]))
        before = psutil.Process().memory_info().rss
        with peer.socket:
            sent = peer.send_unfinished(2_000, CONTROL_BYTES // 2)
        assert sent < 2_000  # a gigabyte, of which it got rid of a part only
        until = time.monotonic() + 60
        while "cut off" not in caplog.text and time.monotonic() < until:
            time.sleep(0.02)
        with contextlib.suppress(Unreachable):  # what was asked just then is told as lost
            client.request(m.Ping())
        assert client.connect().epoch == epoch
        assert client.put_environment(np.ones((2, 4, 3)))
        assert psutil.Process().memory_info().rss - before < limit


def test_a_thousand_that_are_too_large_leave_no_trace(server: RunningServer, client: BackendClient) -> None:
    client.connect()
    process = psutil.Process(server.process.pid)
    many = [b"{}", *[bytes(1000)] * wire.FROM_CLIENT.parts]
    long = [b"{}" + bytes(wire.FROM_CLIENT.header_bytes)]
    refused = client.request(GetStatus()).refused.get("bad_message", 0)
    before = 0
    with zmq.Context() as context:
        with make_socket(context, zmq.DEALER, queue=64, max_part_bytes=CONTROL_BYTES) as stranger:
            stranger.connect(server.address)
            for number in range(1_000):
                stranger.send_multipart(many if number % 2 else long)
                assert stranger.poll(60_000)
                assert wire.decode(stranger.recv_multipart()).message.code == "bad_message"
                before = before or process.memory_info().rss * (number == 20)
        for _ in range(20):  # a part above MAXMSGSIZE ends its connection before it is read
            with make_socket(context, zmq.DEALER, queue=64, max_part_bytes=CONTROL_BYTES) as stranger:
                monitor = stranger.get_monitor_socket(zmq.EVENT_DISCONNECTED)  # before it can happen
                stranger.connect(server.address)
                stranger.send(bytes(CONTROL_BYTES + 1))
                assert monitor.poll(60_000)
                stranger.disable_monitor()
                monitor.close(0)
    assert process.memory_info().rss - before < 16 * MIB
    assert client.request(GetStatus()).refused["bad_message"] == refused + 1_000
