"""The client against a peer that a healthy backend would never be: silent, late, restarted or gone. Real sockets."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import zmq

from shared import messages as m
from shared import wire
from shared.client import BackendClient
from shared.errors import BadMessage, Cancelled, HelloFirst, NotAllowed, NotFound, Unreachable, VersionMismatch
from shared.sockets import CONTROL_QUEUE, FRAME_BYTES, make_socket, send_to
from tests.shared.samples import samples

Reply = list[tuple[Any, int, str]]  # messages to send back, each with request id and epoch


class Peer:
    """A ROUTER in a thread that answers every request with what `script(message, request_id, epoch)` returns."""

    def __init__(self, script: Callable[[Any, int, str], Reply]) -> None:
        self.script, self.seen = script, [Any][:0]
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = make_socket(self.context, zmq.ROUTER, queue=CONTROL_QUEUE, max_part_bytes=FRAME_BYTES)
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        while not self.stopping.is_set():
            if not self.socket.poll(10):
                continue
            identity, *parts = self.socket.recv_multipart()
            envelope = wire.decode(parts)
            if isinstance(envelope.message, m.Leave):
                continue
            self.seen.append(envelope.message)
            for message, request_id, epoch in self.script(envelope.message, envelope.request_id, envelope.epoch):
                send_to(self.socket, identity, wire.encode(message, request_id=request_id, epoch=epoch))
        self.socket.close(0)

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join()
        self.context.destroy(linger=0)


@pytest.fixture
def peer_of() -> Iterator[Callable[..., Peer]]:
    peers: list[Peer] = []

    def make(script: Callable[[Any, int, str], Reply]) -> Peer:
        peers.append(Peer(script))
        return peers[-1]

    yield make
    for peer in peers:
        peer.stop()


def welcome(peer: Peer, epoch: str = "e1") -> m.Welcome:
    return m.Welcome(m.PROTOCOL_VERSION, "0.1.0", epoch, peer.address, peer.address, "cpu", "numba")


def polite(peer: list[Peer], answer: Callable[[Any, int, str], Reply], epoch: str = "e1") -> Any:
    """A script that says Welcome to Hello and otherwise answers as told."""

    def script(message: Any, request_id: int, asked_epoch: str) -> Reply:
        if isinstance(message, m.Hello):
            return [(welcome(peer[0], epoch), request_id, epoch)]
        return answer(message, request_id, asked_epoch)

    return script


def test_nobody_there_is_one_sentence_that_says_what_to_do() -> None:
    with BackendClient("tcp://127.0.0.1:9") as client:
        start = time.monotonic()
        with pytest.raises(Unreachable, match=r"No backend answers at tcp://127.0.0.1:9\. Start it with") as caught:
            client.connect(timeout_s=0.2)
        assert time.monotonic() - start < 20
        assert "\n" not in str(caught.value)


def test_an_address_that_is_none_is_told() -> None:
    with BackendClient("nonsense") as client, pytest.raises(Unreachable, match=r"address cannot be used.*nonsense"):
        client.connect(timeout_s=0.2)


def test_late_and_foreign_answers_do_not_count(peer_of: Any) -> None:
    box: list[Peer] = []
    right, wrong = m.Done("right"), m.Done("wrong")
    box.append(
        peer_of(polite(box, lambda _, i, e: [(wrong, i - 1, e), (wrong, i + 1, e), (wrong, i, "e0"), (right, i, e)]))
    )
    with BackendClient(box[0].address) as client:
        assert client.request(m.Ping(), timeout_s=30).detail == "right"


def test_a_silent_backend_times_out_and_the_answer_to_the_next_request_is_right(peer_of: Any) -> None:
    box: list[Peer] = []
    waiting: Reply = []

    def answer(message: Any, request_id: int, epoch: str) -> Reply:
        waiting.append((m.Done(f"answer {request_id}"), request_id, epoch))
        return [] if len(waiting) == 1 else waiting

    box.append(peer_of(polite(box, answer)))
    with BackendClient(box[0].address) as client:
        client.connect()
        with pytest.raises(Unreachable, match="took too long to answer Ping"):
            client.request(m.Ping(), timeout_s=0.2)
        assert client.request(m.Ping(), timeout_s=30).detail == "answer 3"


def test_cancelling_is_noticed_at_once(peer_of: Any) -> None:
    box: list[Peer] = []
    box.append(peer_of(polite(box, lambda *_: [])))
    with BackendClient(box[0].address) as client:
        client.connect()
        start = time.monotonic()
        with pytest.raises(Cancelled):
            client.request(m.Ping(), timeout_s=30, cancelled=lambda: time.monotonic() - start > 0.1)
        assert time.monotonic() - start < 20


def test_a_backend_that_dies_while_asked_is_noticed_long_before_the_timeout(peer_of: Any) -> None:
    box: list[Peer] = []

    def answer(*_: Any) -> Reply:
        box[0].stopping.set()
        return []

    box.append(peer_of(polite(box, answer)))
    with BackendClient(box[0].address) as client:
        client.connect()
        start = time.monotonic()
        with pytest.raises(Unreachable, match="stopped or lost the connection"):
            client.request(m.Ping(), timeout_s=30)
        assert time.monotonic() - start < 20


def test_a_restarted_backend_is_greeted_again_and_asked_once_more(peer_of: Any) -> None:
    box: list[Peer] = []
    epochs = iter(["e1", "e2"])

    def script(message: Any, request_id: int, epoch: str) -> Reply:
        if isinstance(message, m.Hello):
            new = next(epochs)
            return [(welcome(box[0], new), request_id, new)]
        if epoch == "e1":
            return [(m.Failure.of(HelloFirst("Say Hello first")), request_id, "e2")]
        return [(m.Done(epoch), request_id, epoch)]

    box.append(peer_of(script))
    with BackendClient(box[0].address) as client:
        assert client.request(m.Ping(), timeout_s=30).detail == "e2"
        assert client.welcome is not None
        assert client.welcome.epoch == "e2"
        assert [type(message).__name__ for message in box[0].seen] == ["Hello", "Ping", "Hello", "Ping"]


def test_a_backend_that_never_knows_the_connection_is_not_asked_for_ever(peer_of: Any) -> None:
    box: list[Peer] = []
    box.append(peer_of(polite(box, lambda _, i, e: [(m.Failure.of(HelloFirst("Say Hello first")), i, e)])))
    with BackendClient(box[0].address) as client, pytest.raises(HelloFirst):
        client.request(m.Ping(), timeout_s=30)
    assert len(box[0].seen) == 4


@pytest.mark.parametrize("kind", [NotAllowed, VersionMismatch])
def test_a_refused_hello_raises_what_the_backend_said(peer_of: Any, kind: Any) -> None:
    peer = peer_of(lambda _, i, e: [(m.Failure.of(kind("The key is wrong", do="Set the right one")), i, "e1")])
    with BackendClient(peer.address) as client, pytest.raises(kind, match=r"The key is wrong\. Set the right one\."):
        client.connect(timeout_s=30)


def test_render_makes_a_frame_and_refuses_what_was_not_asked(peer_of: Any) -> None:
    request = dataclasses.replace(samples()["RenderRequest"], passes=("combined", "depth"))
    images = (np.zeros((48, 64, 4), np.float16), np.ones((48, 64, 1), np.float32))
    answers = [
        m.FrameReply("final", ("combined", "depth"), images, 2.5),
        m.FrameReply("final", ("combined",), images[:1], 2.5),
        m.Superseded("final"),
        m.Done(),
    ]
    box: list[Peer] = []
    box.append(peer_of(polite(box, lambda _, i, e: [(answers.pop(0), i, e)])))
    with BackendClient(box[0].address) as client:
        frame = client.render(request, timeout_s=30)
        assert (frame.width_px, frame.height_px, frame.render_ms) == (64, 48, 2.5)
        assert frame.passes["depth"].max() == 1
        with pytest.raises(BadMessage, match="other passes"):
            client.render(request, timeout_s=30)
        with pytest.raises(Cancelled, match="newer picture"):
            client.render(request, timeout_s=30)
        with pytest.raises(BadMessage, match="something else"):
            client.render(request, timeout_s=30)


def test_an_environment_is_handed_over_once_and_again_when_it_was_forgotten(peer_of: Any) -> None:
    box: list[Peer] = []
    forgotten = [True]

    def answer(message: Any, request_id: int, epoch: str) -> Reply:
        if isinstance(message, m.PutEnvironment):
            return [(m.Done(), request_id, epoch)]
        if forgotten.pop() if forgotten else False:
            return [(m.Failure.of(NotFound("No such environment")), request_id, epoch)]
        return [(m.FrameReply("v", ("combined",), (np.zeros((48, 64, 4), np.float16),), 1.0), request_id, epoch)]

    box.append(peer_of(polite(box, answer)))
    with BackendClient(box[0].address) as client:
        radiance = np.full((4, 8, 3), 1e9, np.float32)  # beyond float16: clipped, never infinite
        digest = client.put_environment(radiance)
        assert client.put_environment(radiance) == digest
        assert len([message for message in box[0].seen if isinstance(message, m.PutEnvironment)]) == 1
        client.render(dataclasses.replace(samples()["RenderRequest"], environment=digest), timeout_s=30)
        put = [message for message in box[0].seen if isinstance(message, m.PutEnvironment)]
        assert len(put) == 2
        assert np.isfinite(put[0].radiance).all()


def test_closing_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    for _ in range(5):
        client = BackendClient("tcp://127.0.0.1:9")
        with pytest.raises(Unreachable):
            client.connect(timeout_s=0.02)
        client.close()
        client.close()
    assert not set(threading.enumerate()) - before
