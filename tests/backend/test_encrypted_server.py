"""A backend that encrypts: who gets in, what a listener on the line learns, what a restart changes. Real sockets."""

from __future__ import annotations

import dataclasses
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from backend.key_ring import KeyRing
from backend.launcher import RunningServer, running_server, start_server
from shared import messages as m
from shared.client import BackendClient
from shared.desk_messages import GetLog, GetStatus
from shared.errors import Held, NotAllowed, Unreachable
from shared.keys import Login, make_pair
from tests.proxy import Proxy
from tests.shared.samples import samples

SECRET = "hush-hush-hush"


def free_ports() -> int:
    """The first of three ports in a row that nobody uses now."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = int(first.getsockname()[1])
            try:
                for offset in (1, 2):
                    socket.create_server(("127.0.0.1", port + offset)).close()
            except OSError:
                continue
            return port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, avatar_folder: Path) -> Iterator[RunningServer]:
    home = tmp_path_factory.mktemp("encrypted home é")
    shutil.copytree(avatar_folder, home / "library" / "tiny.avatar")
    own, ring = make_pair(), KeyRing(home / "keys")
    ring.add("anna", own.public)
    login = Login(ring.pair().public, own)
    address = f"tcp://127.0.0.1:{free_ports()}"
    with running_server(home=home, device="cpu", key=SECRET, login=login, address=address) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[BackendClient]:
    with server.client("test") as connected:
        yield connected


def port_of(server: RunningServer) -> int:
    return int(server.address.rpartition(":")[2])


def home_of(server: RunningServer) -> Path:
    return server.log_path.parent.parent


def test_who_is_known_is_served_on_every_socket(client: BackendClient) -> None:
    client.connect()
    client.events()
    assert [item.avatar_id for item in client.request(m.ListAvatars()).avatars] == ["tiny"]
    assert client.put_environment(np.ones((2, 4, 3), np.float32))


def test_strangers_are_refused_at_once_and_told_no_more_than_that(server: RunningServer) -> None:
    assert server.login is not None
    own, other = server.login.own, make_pair()
    cases = {
        "unknown key": (Login(server.login.server_key, other), "does not know this client's key"),
        "no key": (None, "does not encrypt, the backend at|hangs up: .* or one that encrypts"),
        "wrong key of the server": (Login(other.public, own), "has another key than was given"),
    }
    for case, (login, said) in cases.items():
        with BackendClient(server.address, key=SECRET, login=login) as stranger:
            with pytest.raises((NotAllowed, Unreachable), match=said) as caught:
                stranger.connect(10.0)
            assert own.secret not in str(caught.value), case
            assert stranger.welcome is None
    with (
        BackendClient(server.address, key="wrong", login=server.login) as stranger,
        pytest.raises(NotAllowed, match="key is missing or wrong"),
    ):
        stranger.connect()


def test_the_key_is_not_told_to_whoever_cannot_prove_to_be_the_backend(server: RunningServer) -> None:
    """What takes the backend's port gets a handshake that it cannot answer, and nothing else."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        with BackendClient(address, key=SECRET, login=server.login) as client, pytest.raises(Unreachable):
            client.connect(0.3)
        near, _ = listener.accept()
        with near:
            assert SECRET.encode() not in near.recv(65536)


def overheard(port: int, login: Login | None) -> bytes:
    """What a listener on the line between a client and this port gets."""
    proxy = Proxy(port)
    try:
        with BackendClient(f"tcp://127.0.0.1:{proxy.port}", key=SECRET, login=login, name="anna's Blender") as client:
            client.request(m.ListAvatars())
    finally:
        proxy.close()
    return bytes(proxy.heard)


def test_a_listener_on_the_line_learns_nothing(server: RunningServer, avatar_folder: Path, tmp_path: Path) -> None:
    """The same listener before a backend that does not encrypt proves that it hears."""
    shutil.copytree(avatar_folder, tmp_path / "library" / "tiny.avatar")
    with running_server(home=tmp_path, device="cpu", key=SECRET) as plain:
        heard = overheard(port_of(plain), None)
    sealed = overheard(port_of(server), server.login)
    assert len(sealed) > 500
    for text in (SECRET, "anna's Blender", "tiny", "ListAvatars"):
        assert text.encode() in heard
        assert text.encode() not in sealed


def test_from_another_machine_everything_goes_over_the_ports_beside(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As through a tunnel: the client is elsewhere, so neither private addresses nor shared memory serve it."""
    monkeypatch.setattr("shared.client.machine_token", lambda: "another machine")
    with server.client("far away") as far:
        far.connect()
        far.events()
        assert far._events is not None
        assert far.put_environment(np.ones((2, 4, 3), np.float32))
        assert far._frames is not None
        assert far._frames.address == f"tcp://127.0.0.1:{port_of(server) + 1}"
        request = dataclasses.replace(samples()["RenderRequest"], instances=(), environment="", width_px=8, height_px=8)
        with pytest.raises(Exception) as caught:
            far.render(request, timeout_s=60)
        assert not isinstance(caught.value, Unreachable)


def test_a_key_that_is_removed_ends_its_connection_too(server: RunningServer) -> None:
    assert server.login is not None
    ben, ring = make_pair(), KeyRing(home_of(server) / "keys")
    ring.add("ben", ben.public)
    with BackendClient(server.address, key=SECRET, login=Login(server.login.server_key, ben)) as client:
        client.connect()
        ring.remove("ben")
        with pytest.raises(NotAllowed, match="key no more"):
            client.request(m.ListAvatars())
    with BackendClient(server.address, key=SECRET, login=Login(server.login.server_key, ben)) as client:
        with pytest.raises(NotAllowed, match="does not know"):
            client.connect()


def test_refusals_are_counted_and_nothing_secret_is_written_anywhere(server: RunningServer) -> None:
    assert server.login is not None
    with server.client("test") as client:
        refused = client.request(GetStatus()).refused
        text = client.request(GetLog()).text
    assert refused["unknown_key"] >= 1
    assert refused["not_allowed"] >= 1
    written = [path for path in home_of(server).rglob("*") if path.is_file() and path.parent.name != "keys"]
    assert written
    for secret in (SECRET, server.login.own.secret, KeyRing(home_of(server) / "keys").pair().secret):
        assert secret not in text
        assert not [path for path in written if secret.encode() in path.read_bytes()]


def test_the_same_key_serves_after_a_restart_and_old_requests_do_not(server: RunningServer, tmp_path: Path) -> None:
    own, ring = make_pair(), KeyRing(tmp_path / "keys")
    ring.add("anna", own.public)
    login = Login(ring.pair().public, own)
    first = start_server(home=tmp_path, device="cpu", key="", login=login)
    light = np.ones((4, 8, 3), np.float16)
    with first.client() as client, first.client() as by_frames_alone:
        epoch = client.connect().epoch
        by_frames_alone.put_environment(light, timeout_s=60)
        first.stop()
        with pytest.raises(Unreachable):
            client.request(m.Ping(), timeout_s=0.2)
        with pytest.raises(Unreachable):
            by_frames_alone.put_environment(2 * light, timeout_s=0.2)
        with running_server(home=tmp_path, device="cpu", key="", login=login, address=first.address):
            assert client.request(m.ListJobs(), timeout_s=60).jobs == ()
            assert client.welcome is not None
            assert client.welcome.epoch != epoch
            by_frames_alone.put_environment(3 * light, timeout_s=60)  # the new server's private addresses are others


# --- two clients, a flood ---------------------------------------------------------------------------------------------
def test_a_job_is_one_clients_and_the_other_is_told_whose(server: RunningServer) -> None:
    with server.client("anna's", instance="a") as anna, server.client("ben's", instance="b") as ben:
        asked = dataclasses.replace(samples()["StartCheck"], key="lease", capture=str(home_of(server)))
        job = anna.request(asked, timeout_s=60)
        with pytest.raises(Held, match=r"Another client holds this job .found anna's .*key of anna"):
            ben.request(m.ChangeJob(job.job_id, "cancel"))
        assert "anna's" in ben.request(m.ListJobs()).jobs[0].owner
        assert "ben's" in ben.request(m.ChangeJob(job.job_id, "take")).owner
        with pytest.raises(Held, match="ben's"):
            anna.request(m.ChangeJob(job.job_id, "cancel"))
        ben.close()
        until = time.monotonic() + 60
        while anna.request(m.ListJobs()).jobs[0].owner and time.monotonic() < until:
            time.sleep(0.02)
        assert anna.request(m.ChangeJob(job.job_id, "cancel")).state == "cancelled"
