"""Several clients and a training on one device: who is served how often, counted rather than timed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from backend import sharing_benchmark
from backend.benchmark_start import front_view
from backend.cli import main
from backend.home import open_home
from backend.server import Server, ServerSettings
from backend.sharing_benchmark import (
    AGAIN,
    ALONE,
    BOTH,
    DEAF,
    FIRST,
    SECOND,
    TRAINING,
    PartTiming,
    Sharing,
    SharingSettings,
    silent_socket,
)
from shared import messages as m
from shared import wire
from shared.client import BackendClient
from tests.threads import background


def test_nothing_is_drawn_for_a_client_that_reads_nothing(avatar_folder: Path, tmp_path: Path) -> None:
    """It asks for 20 pictures for each of the other's; after the few that fit between them, the other has the device
    to itself. Once it reads, it is served again."""
    home = open_home(tmp_path)
    shutil.copytree(avatar_folder, home.library / "tiny.avatar")
    server = Server(ServerSettings(home, "tcp://127.0.0.1:0", device="cpu"))
    drawn: dict[bytes, int] = {}
    ask_worker = server.desk._send

    def counted(worker: Any, asked: Any, ticket: int) -> None:
        drawn[asked.client] = drawn.get(asked.client, 0) + isinstance(asked.message, m.RenderRequest)
        ask_worker(worker, asked, ticket)

    server.desk._send = counted
    with background(server.run), BackendClient(server.address) as client, zmq.Context() as context:
        request = front_view(client, "tiny", 300)
        client.render(request, timeout_s=60)
        epoch = client.connect().epoch
        with silent_socket(context, client.connect().frames_address) as deaf:
            deaf.send_multipart(wire.encode(m.Hello(m.PROTOCOL_VERSION, "deaf", "0", ""), request_id=1))
            asked = 0
            for number in range(20):
                for view in "abcdefghijklmnopqrst"[:15]:
                    wish = wire.encode(
                        m.RenderRequest(**{**vars(request), "view": view}), request_id=asked + 2, epoch=epoch
                    )
                    assert deaf.poll(5_000, zmq.POLLOUT)
                    deaf.send_multipart(wish)
                    asked += 1
                client.render(request, timeout_s=60)
                if number == 9:
                    first_half = sum(drawn.values())
            others = [count for count in drawn.values() if count != 21]
            assert max(drawn.values()) == 21
            assert sum(others) < asked / 10, "it was drawn for as if it read"
            assert sum(drawn.values()) - first_half == 10, "the second half was the reader's alone"
            read = 0
            while deaf.poll(500):
                read += (
                    type(wire.decode(deaf.recv_multipart(), limits=wire.FROM_SERVER).message).__name__ == "FrameReply"
                )
            assert 0 < read <= sum(others)
            deaf.send_multipart(wire.encode(request, request_id=5_000, epoch=epoch))
            answers = []
            while deaf.poll(20_000) and 5_000 not in answers:
                answers.append(wire.decode(deaf.recv_multipart(), limits=wire.FROM_SERVER).request_id)
            assert 5_000 in answers


def test_what_the_benchmark_of_sharing_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of figures that are known; the course itself takes several processes and stays out of the tests."""

    def course(settings: SharingSettings) -> Iterator[tuple[str, Sharing]]:
        assert (settings.device, settings.deaf_seconds) == ("cpu", 0.5)
        outcome = Sharing(memory={"server": 2 << 20}, step_rate=41.5, wishes=7)
        for part, client, median in ((ALONE, FIRST, 10.0), (BOTH, FIRST, 15.0), (BOTH, SECOND, 18.0)):
            outcome.rows.append(PartTiming(part, client, 3, median, 2 * median))
            yield part, outcome
        for part, median in ((TRAINING, 30.0), (AGAIN, 10.0), (DEAF, 10.5)):
            outcome.rows.append(PartTiming(part, FIRST, 3, median, 2 * median))
            yield part, outcome

    monkeypatch.setattr(sharing_benchmark, "measure_sharing", course)
    words = ["benchmark", "share", "--device", "cpu", "--deaf-seconds", "0.5", "--json", str(tmp_path / "figures.json")]
    assert main(words) == 0
    told = capsys.readouterr().out
    for line in (
        "both: second: 3 pictures, median 18.0 ms, 95 % 36.0 ms",
        "median time, both / alone: 1.50",
        "median time, second / first: 1.20",
        "median time, with a training / both: 2.00",
        "median time, beside a deaf client / alone again: 1.05",
        "NOT REFUSED",
    ):
        assert line in told
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["wishes"], figures["shares"]["both / alone"]) == (7, 1.5)
