"""A slow, late, broken or mute line between client and backend: frames stay right, no wish is lost, nothing runs twice.

Counted, not timed. The client takes itself for one of another machine, so that pictures come over TCP as well.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from backend.chaos.traffic import pixels_sha256
from backend.home import open_home
from backend.server import Server, ServerSettings
from shared import messages as m
from shared.client import BackendClient
from shared.errors import Unreachable
from tests.backend.test_rendering import request_for
from tests.proxy import Proxy
from tests.threads import background

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a second loopback address")
FAR = "127.0.0.2"
MEGABIT_S = 125_000.0
SIZES = (40, 56, 72)


@dataclass
class Remote:
    """A backend, what its pictures must look like by size, and how to ask for one."""

    server: Server
    port: int
    request: m.RenderRequest
    sha256: dict[int, str]

    def wish(self, size: int) -> m.RenderRequest:
        K = self.request.K * np.array([size / 64, size / 64, 1])[:, None]
        return replace(self.request, view=f"view {size}", width_px=size, height_px=size, K=K)


@pytest.fixture(scope="module")
def remote(avatar_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    home = open_home(tmp_path_factory.mktemp("remote"))
    shutil.copytree(avatar_folder, home.library / "tiny.avatar")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Server(ServerSettings(home, f"tcp://127.0.0.1:{port}", device="cpu"))
    assert server.front_sockets.ports["frames"] == port + 1
    server.jobs.tick = lambda: None  # type: ignore[method-assign]  # jobs are taken, none is begun
    with background(server.run), BackendClient(server.address) as client:
        detail = client.request(m.GetAvatar("tiny"), timeout_s=60)
        made = Remote(server, port, request_for(detail, 64), {})
        for size in SIZES:
            made.sha256[size] = pixels_sha256(client.render(made.wish(size), timeout_s=60))
        yield made


@contextlib.contextmanager
def line(remote: Remote, control: Proxy, frames: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[BackendClient]:
    """A client on the far side of two proxies."""
    monkeypatch.setattr("shared.client.machine_token", lambda: "another machine")
    try:
        with BackendClient(f"tcp://{FAR}:{remote.port}", name="far") as client:
            yield client
    finally:
        control.close()
        frames.close()


def again_until_answered(ask: Callable[[], object]) -> tuple[object, int]:
    """The answer, and how often the line broke before it."""
    for broken in range(20):
        try:
            return ask(), broken
        except Unreachable:
            continue
    raise AssertionError("it never came through")


def test_pictures_are_right_on_a_line_of_one_megabit_and_200_ms(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = {"bytes_per_s": MEGABIT_S, "delay_s": 0.2}
    control, frames = (Proxy(port, **bad, at=(FAR, port)) for port in (remote.port, remote.port + 1))
    with line(remote, control, frames, monkeypatch) as client:
        for size in SIZES:
            frame = client.render(remote.wish(size), timeout_s=60)
            assert (frame.width_px, pixels_sha256(frame)) == (size, remote.sha256[size])
        assert client.request(m.ListAvatars(), timeout_s=60).avatars[0].avatar_id == "tiny"
    assert len(frames.heard) > 72 * 72 * 8, "they came over the line"
    assert (control.accepted, frames.accepted) == (1, 1), "a slow line is no broken one"


def test_a_line_cut_in_the_middle_of_pictures_costs_an_attempt_each_and_no_wish(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts = (30, 400, 9_000, 20_000, 31_000)  # in the greeting, in the Welcome, inside of pictures
    control = Proxy(remote.port, at=(FAR, remote.port))
    frames = Proxy(remote.port + 1, cut_after=cuts, at=(FAR, remote.port + 1))
    got, broken = [0][:0], 0
    with line(remote, control, frames, monkeypatch) as client:
        for size in SIZES * 2:
            frame, failed = again_until_answered(lambda size=size: client.render(remote.wish(size), timeout_s=60))
            assert pixels_sha256(frame) == remote.sha256[size]
            got.append(size)
            broken += failed
    assert got == list(SIZES * 2), "each wish its own picture, in their order"
    assert frames.cut_after == [], "all of them were done"
    assert len(cuts) < frames.accepted <= len(cuts) + 2, "it comes back at the first try, or the second"
    assert 1 <= broken <= len(cuts), "a cut costs one attempt; while nothing is asked, none"


def test_a_mute_line_is_noticed_and_the_next_wish_served_when_it_speaks(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All packets lost: the connections stay open, nothing comes."""
    control, frames = (Proxy(port, at=(FAR, port)) for port in (remote.port, remote.port + 1))
    with line(remote, control, frames, monkeypatch) as client:
        assert pixels_sha256(client.render(remote.wish(40), timeout_s=60)) == remote.sha256[40]
        for proxy in (control, frames):
            proxy.mute.set()
        with pytest.raises(Unreachable, match="stopped or lost the connection"):  # by its silence, not by the timeout
            client.render(remote.wish(56), timeout_s=600)
        for proxy in (control, frames):
            proxy.mute.clear()
        frame, _ = again_until_answered(lambda: client.render(remote.wish(72), timeout_s=60))
        assert pixels_sha256(frame) == remote.sha256[72], "not the late one of 56"


def test_a_training_asked_for_again_after_a_cut_is_begun_once(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is what is cut: the client cannot know whether it was heard, and asks again with the same key."""
    control = Proxy(remote.port, at=(FAR, remote.port))
    frames = Proxy(remote.port + 1, at=(FAR, remote.port + 1))
    with line(remote, control, frames, monkeypatch) as client:
        client.connect()
        journal = remote.server.jobs.journal
        put = journal.put

        def put_and_cut(record):
            done = put(record)
            control.cut()
            journal.put = put
            return done

        journal.put = put_and_cut
        asked = m.StartTraining("the key", "Far", "demo_head", "tiny")
        job, broken = again_until_answered(lambda: client.request(asked, timeout_s=60))
        assert broken == 1
        assert (job.name, job.state) == ("Far", "queued")
        assert [one.job_id for one in client.request(m.ListJobs(), timeout_s=60).jobs] == [job.job_id]
