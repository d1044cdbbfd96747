"""The server as a client sees it: a real process, real sockets, a real render worker."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import zmq

from avatars.files import write_seal
from backend.launcher import RunningServer, start_server
from shared import messages as m
from shared import wire
from shared.client import BackendClient
from shared.errors import (
    BadAvatar,
    BadMessage,
    EnvironmentFailed,
    HelloFirst,
    NotAllowed,
    NotFound,
    Unreachable,
    WorkerFailed,
)
from shared.sockets import FRAME_BYTES, HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS, make_socket
from tests.shared.samples import samples

TIMEOUT_S = 150.0


def home_of(server: RunningServer) -> Path:
    return server.log_path.parent.parent


def worker_of(server: RunningServer, module: str = "backend.render_worker") -> psutil.Process:
    """The child of the server that runs `module`, waited for."""
    until = time.monotonic() + TIMEOUT_S
    while time.monotonic() < until:
        for child in psutil.Process(server.process.pid).children():
            if module in child.cmdline():
                return child
        time.sleep(0.02)
    raise AssertionError(f"no {module}")


def test_hello_and_library(client: BackendClient) -> None:
    welcome = client.connect()
    assert welcome.protocol == m.PROTOCOL_VERSION
    assert {"render", "train"} <= set(welcome.capabilities)
    (summary,) = client.request(m.ListAvatars()).avatars
    assert (summary.avatar_id, summary.problem) == ("tiny", "")
    detail = client.request(m.GetAvatar("tiny"), timeout_s=TIMEOUT_S)
    assert detail.summary.digest == summary.digest
    assert len(detail.rest_pose) == len(detail.rig.joint_names)
    assert detail.proxy.vertices.shape[1] == 3
    assert detail.preview.shape[2] == 4
    assert client.connect().device == "cpu, " + f"{len(os.sched_getaffinity(0))} threads"


def test_unknown_things_are_not_found_with_the_nearest_name(client: BackendClient) -> None:
    with pytest.raises(NotFound, match=r"no avatar 'tinny' in the library, did you mean 'tiny'"):
        client.request(m.GetAvatar("tinny"))
    with pytest.raises(NotFound, match="no avatar"):
        client.request(m.GetAvatar("../../etc"))
    with pytest.raises(NotFound, match="no job 'j9'"):
        client.request(m.ChangeJob("j9", "pause"))
    with pytest.raises(NotFound, match="no job"):
        client.request(m.GetJobPreview("j9"))
    assert client.request(m.ListJobs()).jobs == ()


@pytest.mark.parametrize("key", ["", "wrong"])
def test_the_key_is_asked_of_everyone_on_every_socket(server: RunningServer, client: BackendClient, key: str) -> None:
    with BackendClient(server.address, key=key) as stranger:
        with pytest.raises(NotAllowed, match="key is missing or wrong"):
            stranger.connect()
        stranger.welcome = client.connect()  # pretends to have been greeted, and knows the epoch
        with pytest.raises(NotAllowed):
            stranger.request(m.PutEnvironment("", np.zeros((1, 2, 3), np.float16)))
        stranger.welcome = client.welcome
        stranger.key = key
        with pytest.raises(NotAllowed):
            stranger.request(m.ListAvatars())


def test_a_request_of_another_epoch_is_not_carried_out(server: RunningServer, client: BackendClient) -> None:
    client.connect()
    assert client._control is not None
    answer = client._control.ask(m.ListAvatars(), "0" * 32, time.monotonic() + 60, None)
    assert isinstance(answer.message.error(), HelloFirst)


def test_garbage_changes_nothing(server: RunningServer, client: BackendClient) -> None:
    welcome = client.connect()
    rng = np.random.default_rng(0)
    with zmq.Context() as context:
        for address in (server.address, welcome.frames_address):
            with make_socket(context, zmq.DEALER, queue=64, max_part_bytes=FRAME_BYTES) as socket:
                socket.connect(address)
                for number in range(400):  # quick enough to find a short queue that seems full
                    sizes = rng.integers(0, 80, rng.integers(1, 6))
                    socket.send_multipart([rng.bytes(size) for size in sizes] if number % 2 else [b"{}", b"x" * 100])
                    assert socket.poll(60_000)
                    reply = wire.decode(socket.recv_multipart(), limits=wire.FROM_SERVER)
                    assert reply.message.code == "bad_message"
    assert client.connect().epoch == welcome.epoch
    assert client.request(m.Ping()) is not None


def test_replies_of_the_server_are_no_requests(client: BackendClient) -> None:
    with pytest.raises(BadMessage, match="Done is not a request"):
        client.request(m.Done())


def test_pictures_are_checked_before_they_are_rendered(client: BackendClient) -> None:
    request: m.RenderRequest = samples()["RenderRequest"]
    with pytest.raises(NotFound, match="no avatar 'anna'"):
        client.render(request, timeout_s=TIMEOUT_S)
    tiny = dataclasses.replace(request.instances[0], avatar_id="tiny", digest="ab" * 32)
    with pytest.raises(BadAvatar, match=r"tiny is not the one.*digest abababababab"):
        client.render(dataclasses.replace(request, instances=(tiny,)), timeout_s=TIMEOUT_S)
    with pytest.raises(BadMessage, match="no pass"):
        client.render(dataclasses.replace(request, passes=("colour",)), timeout_s=TIMEOUT_S)


def test_environments_are_checked(client: BackendClient) -> None:
    half = np.zeros((2, 4, 3), np.float16)
    with pytest.raises(BadMessage, match="not what its digest says"):
        client.request(m.PutEnvironment("00", half))
    with pytest.raises(BadMessage, match=r"not \[H, W, 3\] float16"):
        client.request(m.PutEnvironment("00", np.zeros((2, 4), np.float16)))
    request: m.RenderRequest = samples()["RenderRequest"]
    with pytest.raises(NotFound):
        client.render(dataclasses.replace(request, environment="ab"), timeout_s=60)
    own = dataclasses.replace(request.instances[0], light=m.InstanceLight("ab"))
    with pytest.raises(NotFound):
        client.render(dataclasses.replace(request, instances=(own,)), timeout_s=60)
    many = tuple(dataclasses.replace(own, light=m.InstanceLight(f"{index}")) for index in range(9))
    with pytest.raises(BadMessage, match="too many lights"):
        client.render(dataclasses.replace(request, instances=many), timeout_s=60)


def test_damaged_avatars_say_so_and_do_not_hide_the_others(server: RunningServer, client: BackendClient) -> None:
    library = home_of(server) / "library"
    shutil.copytree(library / "tiny.avatar", library / "short.avatar")
    weights = library / "short.avatar" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    shutil.copytree(library / "tiny.avatar", library / "odd.avatar")
    text = (library / "odd.avatar" / "avatar.json").read_text()
    (library / "odd.avatar" / "avatar.json").write_text(text.replace('"name": "tiny"', '"name": "\\ud800"'))
    shutil.copytree(library / "tiny.avatar", library / "other.avatar")
    document = json.loads(text)
    document["template"]["digest"] = "00" * 32
    (library / "other.avatar" / "avatar.json").write_text(json.dumps(document))
    for name in ("odd", "other"):
        write_seal(library / f"{name}.avatar" / "avatar.json")
    (library / "empty.avatar").mkdir()
    try:
        listed = {item.avatar_id: item.problem for item in client.request(m.ListAvatars()).avatars}
        assert listed["tiny"] == ""
        assert all(listed[name] for name in ("short", "odd", "other", "empty"))
        with pytest.raises(BadAvatar, match=r"avatar short\.avatar is damaged.*weights"):
            client.request(m.GetAvatar("short"))
        with pytest.raises(BadAvatar, match=r"template.*found .*0000"):
            client.request(m.GetAvatar("other"))
        with pytest.raises(BadAvatar, match="no avatar in"):
            client.request(m.GetAvatar("empty"))
    finally:
        for name in ("short", "odd", "other", "empty"):
            shutil.rmtree(library / f"{name}.avatar")


def test_weights_that_changed_under_the_same_size_are_found_by_the_worker(
    server: RunningServer, client: BackendClient
) -> None:
    library = home_of(server) / "library"
    shutil.copytree(library / "tiny.avatar", library / "flipped.avatar")
    weights = library / "flipped.avatar" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    (library / "flipped.avatar" / "avatar.json").write_text(
        (library / "tiny.avatar" / "avatar.json").read_text().replace('"name": "tiny"', '"name": "flipped"')
    )
    write_seal(library / "flipped.avatar" / "avatar.json")
    try:
        with pytest.raises(BadAvatar, match="not the file that was saved"):
            client.request(m.GetAvatar("flipped"), timeout_s=TIMEOUT_S)
    finally:
        shutil.rmtree(library / "flipped.avatar")


def test_a_killed_render_worker_fails_its_request_and_comes_back(server: RunningServer, client: BackendClient) -> None:
    client.request(m.GetAvatar("tiny"), timeout_s=TIMEOUT_S)
    worker = worker_of(server)
    worker.suspend()
    killed = False

    def kill_once() -> bool:
        nonlocal killed
        if not killed:
            killed = True
            worker.kill()
        return False

    with pytest.raises(WorkerFailed, match=r"worker process stopped while at GetAvatar.*signal 9"):
        client.request(m.GetAvatar("tiny"), timeout_s=TIMEOUT_S, cancelled=kill_once)
    assert client.request(m.GetAvatar("tiny"), timeout_s=TIMEOUT_S).summary.avatar_id == "tiny"
    assert worker_of(server).pid != worker.pid
    assert client.request(m.Ping()) is not None


# --- starting and ending ---------------------------------------------------------------------------------------------
def serve(*options: str, timeout_s: float = 30.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "backend", "serve", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What a failed command said, having checked that it is one line and no traceback."""
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert line.startswith("effigy: ")
    return line


def test_a_port_in_use_is_one_sentence(server: RunningServer, tmp_path: Path) -> None:
    line = one_sentence(serve("--address", server.address, "--home", str(tmp_path)))
    assert f"The port of {server.address} is in use" in line
    assert "--address" in line


def test_a_data_folder_in_use_is_one_sentence(server: RunningServer) -> None:
    line = one_sentence(serve("--address", "tcp://127.0.0.1:0", "--home", str(home_of(server))))
    assert "Another backend already uses this data folder" in line


def test_other_machines_are_refused(tmp_path: Path) -> None:
    line = one_sentence(serve("--address", "tcp://0.0.0.0:0", "--home", str(tmp_path)))
    assert "Other machines can reach this address, and the backend has no keys yet" in line


def test_the_launcher_tells_why_it_did_not_start(server: RunningServer, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match=r"did not start .found The port of .* is in use"):
        start_server(home=tmp_path, address=server.address)


def test_stopping_leaves_no_process_and_the_port_is_free_again(tmp_path: Path) -> None:
    first = start_server(home=tmp_path, device="cpu")
    worker = worker_of(first)
    first.stop()
    assert first.process.returncode == 0
    worker.wait(60)
    again = start_server(home=tmp_path, address=first.address, device="cpu", key="")
    again.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_a_server_that_was_stopped_for_seconds_keeps_its_workers(tmp_path: Path) -> None:
    """Ctrl-Z, or a laptop that sleeps: longer than the heartbeats of clients allow."""
    running = start_server(home=tmp_path, device="cpu", key="")
    try:
        worker = worker_of(running)
        with BackendClient(running.address) as client:
            client.request(m.ListPresets(), timeout_s=60)
            os.kill(running.process.pid, signal.SIGSTOP)
            time.sleep((HEARTBEAT_MS + HEARTBEAT_TIMEOUT_MS) / 1000 + 0.3)
            os.kill(running.process.pid, signal.SIGCONT)
            assert client.request(m.ListPresets(), timeout_s=60).presets
        assert worker_of(running).pid == worker.pid
    finally:
        running.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_a_killed_server_takes_its_workers_along_and_the_client_is_told(tmp_path: Path) -> None:
    running = start_server(home=tmp_path, device="cpu", key="")
    try:
        worker = worker_of(running)
        with BackendClient(running.address) as client:
            client.connect()
            os.kill(running.process.pid, signal.SIGSTOP)
            os.kill(running.process.pid, signal.SIGKILL)
            with pytest.raises(Unreachable):
                client.request(m.Ping(), timeout_s=60)
        worker.wait(60)
    finally:
        running.stop()
