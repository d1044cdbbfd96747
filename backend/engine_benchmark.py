"""What Ray costs a picture: the same ones from a backend of this host's processes and from one of a Ray of this host.

Both run at the same time and are asked in turn, so that whatever else the machine does weighs on both alike.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from backend.benchmark_start import front_view
from backend.benchmark_wire import small_avatar
from backend.launcher import running_server
from shared.client import BackendClient

AVATAR = "measured"
TIMEOUT_S = 300.0
WARM_UP = 3
ENGINES = ("local", "ray")


@dataclass(frozen=True)
class EngineRow:
    """One size. *_ms: median from request to pixels, as a client waits for it; *_drawn_ms: of that, the drawing."""

    size_px: int
    frames: int
    local_ms: float
    local_drawn_ms: float
    ray_ms: float
    ray_drawn_ms: float
    equal: bool

    @property
    def overhead_ms(self) -> float:
        """What Ray adds to a picture beside the drawing."""
        return (self.ray_ms - self.ray_drawn_ms) - (self.local_ms - self.local_drawn_ms)

    @property
    def ratio(self) -> float:
        """A picture's time with Ray, of that without."""
        return self.ray_ms / self.local_ms


def measure_engines(
    sizes_px: Sequence[int], frames: int, device: str, avatar: Path | None = None
) -> Iterator[EngineRow]:
    """A row for each size. avatar: a folder, else a small untrained head. Raises EnvironmentFailed without Ray."""
    with ExitStack() as stack:
        clients = {}
        for engine in ENGINES:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"effigy-{engine}-")))
            place = home / "library" / f"{AVATAR}.avatar"
            if avatar is None:
                small_avatar(place)
            else:
                shutil.copytree(avatar, place)
            server = stack.enter_context(running_server(home=home, device=device, options=("--engine", engine)))
            clients[engine] = stack.enter_context(server.client("benchmark"))
        for size_px in sizes_px:
            yield _row(clients, size_px, frames)


def _row(clients: dict[str, BackendClient], size_px: int, frames: int) -> EngineRow:
    # Each backend's own avatar: one of a small head is saved at another second, so its digest is another.
    first = {
        name: replace(front_view(client, AVATAR, size_px), passes=("combined",)) for name, client in clients.items()
    }
    waited: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    drawn: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    equal = True
    for number in range(WARM_UP + frames):
        pictures = []
        for engine in ENGINES if number % 2 else ENGINES[::-1]:
            camera = first[engine].world_from_camera.copy()
            camera[:, 0, 3] += 0.001 * number
            begin = time.perf_counter()
            frame = clients[engine].render(replace(first[engine], world_from_camera=camera), timeout_s=TIMEOUT_S)
            seconds = time.perf_counter() - begin
            pictures.append(frame.passes["combined"])
            if number >= WARM_UP:
                waited[engine].append(1000 * seconds)
                drawn[engine].append(frame.render_ms)
        equal = equal and np.array_equal(pictures[0], pictures[1])
    local_ms, ray_ms = (median(waited[engine]) for engine in ENGINES)
    local_drawn_ms, ray_drawn_ms = (median(drawn[engine]) for engine in ENGINES)
    return EngineRow(size_px, frames, local_ms, local_drawn_ms, ray_ms, ray_drawn_ms, equal)
