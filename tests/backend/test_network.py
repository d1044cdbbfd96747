"""The network as it is: IPv6, ports that are taken, old versions, clients that never read, floods of wishes."""

from __future__ import annotations

import dataclasses
import json
import socket
import time
from pathlib import Path

import psutil
import pytest
import zmq

from backend.gate import Gate
from backend.home import open_home
from backend.key_ring import KeyRing
from backend.launcher import RunningServer
from backend.lockout import Lockout
from backend.server import Server, ServerSettings
from backend.server_sockets import ServerSockets
from shared import messages as m
from shared import wire
from shared.client import BackendClient
from shared.desk_messages import GetLog
from shared.errors import EnvironmentFailed
from shared.keys import Login, make_pair
from shared.sockets import CONTROL_BYTES, FRAME_BYTES, make_socket
from tests.shared.samples import samples
from tests.threads import background

MIB = 1024**2
GOLDEN = Path(__file__).parent.parent / "shared" / "golden"


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv6_serves_encrypted_or_not_from_a_folder_with_spaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As seen from another machine, so that every socket goes over IPv6."""
    monkeypatch.setattr("shared.client.machine_token", lambda: "another machine")
    home = open_home(tmp_path / "a home – ünïcödé")
    own, ring = make_pair(), KeyRing(home.keys)
    ring.add("anna", own.public)
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        address = f"tcp://[::1]:{taken.getsockname()[1]}"
    login = Login(ring.pair().public, own)
    server = Server(ServerSettings(home, address, device="cpu", encrypt=True))
    with background(server.run), BackendClient(address, login=login) as client:
        client.connect()
        client.events()
        assert client.put_environment(samples()["PutEnvironment"].radiance)
        assert client._frames is not None
        assert client._frames.address.startswith("tcp://[::1]:")


def test_ports_beside_that_are_taken_are_needed_off_host_only() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, zmq.Context() as context:
        control = taken.getsockname()[1] - 1
        near = ServerSockets(context, f"tcp://127.0.0.1:{control}", None)
        assert near.ports["frames"] == 0
        for one in near.sockets.values():
            one.close(0)
    with socket.create_server(("0.0.0.0", 0)) as taken, zmq.Context() as context:
        control = taken.getsockname()[1] - 1
        with pytest.raises(EnvironmentFailed, match=rf"port of tcp://0\.0\.0\.0:{control + 1} is in use"):
            ServerSockets(context, f"tcp://0.0.0.0:{control}", make_pair())
        context.destroy(linger=0)


def test_a_gate_is_shut_to_all_questions_but_the_right_one(tmp_path: Path) -> None:
    known, ring = make_pair(), KeyRing(tmp_path)
    ring.add("anna", known.public)
    right = [b"1.0", b"7", b"effigy", b"10.0.0.7", b"", b"CURVE", bytes.fromhex(known.public)]
    wrong = {
        "another version": [b"2.0", *right[1:]],
        "another domain": [*right[:2], b"other", *right[3:]],
        "no encryption": [*right[:5], b"NULL", b""],
        "unknown key": [*right[:6], bytes(32)],
        "short key": [*right[:6], b"short"],
        "too few": right[:4],
        "nothing": [b""],
    }
    with zmq.Context() as context, context.socket(zmq.REQ) as asks:
        gate = Gate(context, ring, Lockout())
        asks.connect("inproc://zeromq.zap.01")

        def answer(question: list[bytes]) -> list[bytes]:
            asks.send_multipart(question)
            gate.answer()
            return asks.recv_multipart()

        assert answer(right)[1:5] == [b"7", b"200", b"OK", known.public.encode()]
        for case, question in wrong.items():
            assert answer(question)[2] == b"400", case
        assert gate.refused == len(wrong)
        for _ in range(10):
            answer(wrong["unknown key"])
        assert answer(right)[2] == b"400"  # that address has guessed too often
        assert answer([*right[:3], b"10.0.0.8", *right[4:]])[2] == b"200"
        gate.socket.close(0)


@pytest.mark.parametrize("version", [1, m.PROTOCOL_VERSION - 1])
def test_an_old_client_is_told_both_versions(server: RunningServer, version: int) -> None:
    old = json.loads((GOLDEN / f"wire_v{version}.json").read_text(encoding="utf-8"))["messages"]["Hello"][0]
    with zmq.Context() as context, make_socket(context, zmq.DEALER, queue=4, max_part_bytes=FRAME_BYTES) as stranger:
        stranger.connect(server.address)
        stranger.send(old.encode())
        assert stranger.poll(60_000)
        failure = wire.decode(stranger.recv_multipart()).message
    assert failure.code == "version_mismatch"
    assert (failure.found, failure.expected) == (f"version {version}", f"version {m.PROTOCOL_VERSION}")
    assert failure.do == "Install the same release of both"


def test_a_client_that_never_reads_takes_no_memory_and_delays_nobody(
    server: RunningServer, client: BackendClient
) -> None:
    welcome = client.connect()
    (server.log_path.parent / "errands.log").write_text("x" * 48 * 1024)
    process = psutil.Process(server.process.pid)
    with zmq.Context() as context, make_socket(context, zmq.DEALER, queue=64, max_part_bytes=CONTROL_BYTES) as deaf:
        deaf.setsockopt(zmq.RCVHWM, 1)
        deaf.setsockopt(zmq.HEARTBEAT_IVL, 0)
        deaf.connect(server.address)
        deaf.send_multipart(wire.encode(m.Hello(m.PROTOCOL_VERSION, "deaf", "0.1.0", server.key)))
        before = 0
        question = wire.encode(GetLog(), epoch=welcome.epoch)
        for number in range(500):  # its answers are 24 MB
            deaf.send_multipart(question)
            if number % 50 == 0:
                assert client.request(m.Ping(), timeout_s=30) is not None
                before = before or process.memory_info().rss
        log, until = server.log_path.parent / "server.log", time.monotonic() + 120
        while log.read_text().count("does not take its answers") < 200:  # so many questions have been looked at
            assert client.request(m.Ping(), timeout_s=30) is not None
            assert time.monotonic() < until
        assert process.memory_info().rss - before < 12 * MIB


def test_hundreds_of_wishes_for_one_view_keep_one(server: RunningServer, client: BackendClient) -> None:
    welcome = client.connect()
    process = psutil.Process(server.process.pid)
    request: m.RenderRequest = samples()["RenderRequest"]
    wish = wire.encode(dataclasses.replace(request, environment="", view="v"), epoch=welcome.epoch)
    before = process.memory_info().rss
    with zmq.Context() as context, make_socket(context, zmq.DEALER, queue=64, max_part_bytes=FRAME_BYTES) as eager:
        eager.connect(welcome.frames_address)
        eager.send_multipart(wire.encode(m.Hello(m.PROTOCOL_VERSION, "eager", "0.1.0", server.key)))
        assert isinstance(wire.decode(eager.recv_multipart(), limits=wire.FROM_SERVER).message, m.Welcome)
        for _ in range(800):
            eager.send_multipart(wish)
            while eager.poll(0):
                eager.recv_multipart()
        assert client.request(m.Ping(), timeout_s=60) is not None
    assert process.memory_info().rss - before < 32 * MIB
