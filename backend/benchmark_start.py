"""How long after its start a backend answers, and how long after that its first picture is there.

What somebody waits for whose backend has died and is started again: a real server is started beside a client that looks
for it as the 3D views do, is killed, and is started again with everything cached. The picture is the viewport's kind.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import backend
from backend.benchmark_wire import small_avatar
from shared.client import BackendClient
from shared.errors import Unreachable
from shared.messages import AvatarInstance, GetAvatar, Ping, RenderRequest

AVATAR = "start"
RETRY_S, TRY_S = 0.2, 1.0
"""As blender_addon/viewport/frames.py looks for a backend that went away."""
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class StartTiming:
    """One start. hello_s: from the start of the process to its first answer; picture_s: from there to the picture."""

    hello_s: float
    picture_s: float
    render_ms: float


def measure(starts: int, device: str, size_px: int, avatar: Path | None = None) -> Iterator[StartTiming]:
    """Timings of a server that is started, killed and started again. avatar: a folder, else a small untrained head."""
    with tempfile.TemporaryDirectory(prefix="effigy-start-") as folder:
        home = Path(folder)
        place = home / "library" / f"{AVATAR}.avatar"
        if avatar is None:
            small_avatar(place)
        else:
            shutil.copytree(avatar, place)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        request = None
        for number in range(starts + 1):
            begin = time.perf_counter()
            server = _start(home, address, device)
            try:
                client = _found(address)
                hello = time.perf_counter()
                request = request or front_view(client, AVATAR, size_px)
                frame = client.render(request, timeout_s=TIMEOUT_S)
                seen = time.perf_counter()
                client.close()
            finally:
                server.send_signal(signal.SIGKILL if os.name != "nt" else signal.SIGTERM)
                server.wait()
            if number:  # the first start also asked what the avatar is, and may have compiled
                yield StartTiming(hello - begin, seen - hello, frame.render_ms)


def _start(home: Path, address: str, device: str) -> subprocess.Popen[bytes]:
    root = str(Path(backend.__file__).resolve().parent.parent)
    paths = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    command = [sys.executable, "-m", "backend", "serve", "--address", address, "--home", str(home), "--device", device]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        [*command, "--parent-pid", str(os.getpid()), "--even-training"],
        env={**os.environ, "PYTHONPATH": paths, "EFFIGY_KEY": ""},
        stdin=quiet,
        stdout=quiet,
        stderr=quiet,
    )


def _found(address: str) -> BackendClient:
    """A client of the backend, as soon as it answers."""
    until = time.monotonic() + TIMEOUT_S
    while True:
        client = BackendClient(address, name="benchmark")
        try:
            client.request(Ping(), timeout_s=TRY_S)
        except Unreachable:
            client.close()
            if time.monotonic() > until:
                raise
            time.sleep(RETRY_S)
        else:
            return client


def front_view(client: BackendClient, avatar_id: str, size_px: int) -> RenderRequest:
    """A picture of an avatar's rest pose from the front, filling most of a square view, as a 3D view asks for it."""
    detail = client.request(GetAvatar(avatar_id), timeout_s=TIMEOUT_S)
    points = np.asarray(detail.proxy.vertices, np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3] = ((1, 0, 0), (0, 0, 1), (0, -1, 0))  # x right, y down, looking along the world's +y
    reach = float(np.linalg.norm(high - low)) / 2
    world_from_camera[:3, 3] = (low + high) / 2 - np.array((0, 3 * reach, 0))
    focal_px = 1.4 * size_px
    rest = np.asarray(detail.rest_pose, np.float32)[None]
    return RenderRequest(
        "view/benchmark",
        (
            AvatarInstance(
                avatar_id,
                detail.summary.digest,
                np.eye(4)[None],
                rest,
                np.zeros((1, 3), np.float32),
                np.zeros((1, len(detail.rig.expression_names)), np.float32),
            ),
        ),
        size_px,
        size_px,
        np.array([[[focal_px, 0, size_px / 2], [0, focal_px, size_px / 2], [0, 0, 1.0]]]),
        world_from_camera[None],
        reach,
        5 * reach,
        passes=("packed",),
    )
