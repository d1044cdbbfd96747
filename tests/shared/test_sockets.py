"""Sockets under peers that come, flood and go: nothing that a peer does may end the process that listens."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import zmq

from shared.sockets import HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS, make_socket

LISTENER = """
import sys, time, zmq
from shared.sockets import make_socket
with zmq.Context() as context, make_socket(context, getattr(zmq, sys.argv[1]), queue=2, max_part_bytes=1024) as socket:
    if sys.argv[1] == "SUB":
        socket.subscribe(b"")
        socket.connect(sys.stdin.readline().strip())
    else:
        socket.bind("tcp://127.0.0.1:0")
        print(socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip(chr(0)), flush=True)
    time.sleep(float(sys.argv[2]))  # busy: it reads nothing, its queue is full
    taken = 0
    while socket.poll(1000):
        taken += socket.recv_multipart()[-1] != b""
    print(taken, flush=True)
"""


@pytest.mark.parametrize(("kind", "flooder"), [("PULL", zmq.PUSH), ("ROUTER", zmq.DEALER), ("SUB", zmq.PUB)])
def test_a_busy_listener_outlives_a_peer_that_floods_it_and_goes(kind: str, flooder: int) -> None:
    busy_s = 2.5 * HEARTBEAT_MS / 1000
    with zmq.Context() as context, context.socket(flooder) as peer:
        peer.linger = 0
        with subprocess.Popen(
            [sys.executable, "-c", LISTENER, kind, str(busy_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as listener:
            assert listener.stdin is not None
            assert listener.stdout is not None
            if flooder == zmq.PUB:
                port = peer.bind_to_random_port("tcp://127.0.0.1")
                print(f"tcp://127.0.0.1:{port}", file=listener.stdin, flush=True)
                monitor = peer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
                assert monitor.poll(10_000)
                peer.disable_monitor()
                time.sleep(0.2)  # its subscription follows the handshake
            else:
                peer.connect(listener.stdout.readline().strip())
            for _ in range(2000):
                peer.send(b"x" * 1000)
                if not peer.poll(500, zmq.POLLOUT):
                    break
            peer.close()
            assert int(listener.stdout.readline()) >= 2
            assert listener.wait(30) == 0


def test_a_reader_that_is_busy_longer_than_a_heartbeat_loses_nothing() -> None:
    messages = 200
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        with make_socket(context, zmq.PULL, queue=2, max_part_bytes=200_000) as pull:
            port = pull.bind_to_random_port("tcp://127.0.0.1")
            push.connect(f"tcp://127.0.0.1:{port}")
            for number in range(messages):
                push.send(number.to_bytes(4, "big") + bytes(100_000))
            time.sleep((HEARTBEAT_TIMEOUT_MS + 1.5 * HEARTBEAT_MS) / 1000)
            taken = []
            while len(taken) < messages and pull.poll(5_000):
                taken.append(int.from_bytes(pull.recv()[:4], "big"))
    assert taken == list(range(messages))
