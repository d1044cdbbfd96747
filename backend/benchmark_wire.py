"""How long a frame takes between two processes of this machine: made into a message, sent, received, checked.

Two ways are timed. One hop: a child process answers a DEALER's requests with a prepared picture. Whole way: a real
server with its render worker and a small untrained avatar, where the time is the client's wait less the time the worker
spent rendering, so it holds the request's way out and both hops of the answer's way back.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import zmq

from backend.addresses import bind_private
from backend.launcher import running_server
from shared import wire
from shared.client import BackendClient
from shared.messages import AvatarInstance, FrameReply, GetAvatar, Ping, RenderRequest
from shared.sockets import FRAME_BYTES, FRAME_QUEUE, REPLY_BYTES, make_socket

WARM_UP = 5
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class WireTiming:
    """One row. mebibytes: of one frame."""

    way: str
    frames: int
    mebibytes: float
    median_ms: float
    p95_ms: float


def measure(width: int, height: int, frames: int) -> Iterator[WireTiming]:
    """Timings of `combined` (float16 RGBA) frames; the machine should be idle."""
    size = width * height * 8 / 2**20
    for way, times_ms in (
        ("one hop", one_hop_ms(width, height, frames)),
        ("server and render worker", whole_way_ms(width, height, frames)),
    ):
        median, p95 = np.percentile(times_ms[WARM_UP:], (50, 95))
        yield WireTiming(way, frames, size, float(median), float(p95))


def one_hop_ms(width: int, height: int, frames: int) -> list[float]:
    """Time of each frame, request and answer, with the sockets and the codec of the real thing."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = make_socket(context, zmq.DEALER, queue=FRAME_QUEUE, max_part_bytes=REPLY_BYTES)
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    child = spawn.Process(target=_answer_frames, args=(theirs, width, height), daemon=True)
    child.start()
    try:
        socket.connect(ours.recv())
        socket.poll(2_000, zmq.POLLOUT)
        times = []
        for number in range(frames + WARM_UP):
            start = time.perf_counter()
            socket.send_multipart(wire.encode(Ping(), request_id=number))
            received = [frame.buffer for frame in socket.recv_multipart(copy=False)]
            reply = wire.decode(received, limits=wire.FROM_SERVER)
            times.append((time.perf_counter() - start) * 1000)
            assert reply.request_id == number
        return times
    finally:
        child.terminate()
        child.join()
        context.destroy(linger=0)


def whole_way_ms(width: int, height: int, frames: int) -> list[float]:
    """Time of each frame of a real client, less the time its worker rendered."""
    with tempfile.TemporaryDirectory(prefix="effigy-wire-") as folder:
        small_avatar(Path(folder) / "library" / "wire.avatar")
        with running_server(home=Path(folder)) as server, BackendClient(server.address, key=server.key) as client:
            detail = client.request(GetAvatar("wire"), timeout_s=TIMEOUT_S)
            joints, expressions = len(detail.rig.joint_names), len(detail.rig.expression_names)
            far_behind = np.eye(4)
            far_behind[:3, 3] = (0, 0, -50)  # out of the picture: this is not about rendering
            request = RenderRequest(
                "final wire",
                (
                    AvatarInstance(
                        "wire",
                        detail.summary.digest,
                        far_behind[None],
                        np.zeros((1, joints, 3), np.float32),
                        np.zeros((1, 3), np.float32),
                        np.zeros((1, expressions), np.float32),
                    ),
                ),
                width,
                height,
                np.array([[[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]]]),
                np.eye(4)[None],
                0.1,
                100.0,
            )
            times = []
            for number in range(frames + WARM_UP):
                start = time.perf_counter()
                frame = client.render(replace(request, view=f"final wire {number % 2}"), timeout_s=TIMEOUT_S)
                times.append((time.perf_counter() - start) * 1000 - frame.render_ms)
            return times


def _answer_frames(pipe: Connection, width: int, height: int) -> None:
    """The child of `one_hop_ms`: answers every request with one picture until it is ended."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = make_socket(context, zmq.ROUTER, queue=FRAME_QUEUE, max_part_bytes=FRAME_BYTES)
    pipe.send(bind_private(socket))
    picture = np.random.default_rng(0).random((height, width, 4), np.float32).astype(np.float16)
    while True:
        identity, *parts = socket.recv_multipart()
        asked = wire.decode(parts)
        reply = FrameReply("wire", ("combined",), (picture,), 0.0)
        socket.send_multipart([identity, *wire.encode(reply, request_id=asked.request_id)], copy=False)


def small_avatar(folder: Path, gaussians: int = 300) -> None:
    """An untrained head of few Gaussians: the library wants a real avatar."""
    from avatars.avatar_folder import About, save_avatar
    from avatars.rgb_head.avatar import RgbHeadAvatar
    from avatars.rgb_head.initial import RgbHeadConfig, new_head
    from avatars.templates.opening import TemplateReference, embedded_template

    arrays = embedded_template("bust")
    reference = TemplateReference(arrays.template_id, arrays.digest, "bust", "man")
    head = new_head(reference, RgbHeadConfig(target_gaussians=gaussians, blendshapes=2, hidden=8), seed=0)
    folder.parent.mkdir(parents=True, exist_ok=True)
    save_avatar(folder, RgbHeadAvatar(head), About("wire"), np.zeros((1, 1, 4), np.uint8))
