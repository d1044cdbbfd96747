"""The network thread of the 3D views: the newest wish of each view, one request in flight, the newest picture of each.

Blender's main thread only leaves wishes and picks up pictures; it never waits. The thread has a connection of its own,
so that training lists and long questions of the panels do not delay a picture. A backend that went away is looked for
again every RETRY_S; what was wished for last is then asked at once. bpy is never touched here.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._shared import errors, messages
from ..logic.light_maps import NO_MAPS, LightMaps, handed_over
from ..logic.link import wait_s
from ..logic.view_maths import ViewCamera, cropped, next_pace

RETRY_S = 0.2
TRY_TIMEOUT_S = 1.0
RENDER_TIMEOUT_S = 60.0
LIVE_EVERY_S = 0.3
MEND_EVERY_S = 2.0
CLOSE_TIMEOUT_S = 5.0
PASS = "packed"


@dataclass(frozen=True, eq=False)
class Wish:
    """What a view wants to show. scene: which scene's avatars; stamp: equal stamps mean equal pictures.

    maps: what lights it. live: its avatars still learn.
    """

    view: str
    scene: str
    stamp: tuple[Any, ...]
    camera: ViewCamera
    request: messages.RenderRequest
    maps: LightMaps = NO_MAPS
    live: bool = False


@dataclass(frozen=True, eq=False)
class Picture:
    """The answer to a wish. packed: [h, w, 2] float32 (shared.packed), cut to what holds something; corner_px: column
    and row of its first pixel in the whole picture.
    """

    wish: Wish
    packed: NDArray[np.float32]
    corner_px: tuple[int, int]
    number: int
    render_ms: float


class FrameThread:
    """Fetches pictures until `close`. make_client: a BackendClient that is not connected yet."""

    def __init__(self, make_client: Callable[[], Any], address: str) -> None:
        self.address = address
        self.status, self.problem = "connecting", ""
        self.changes = 0  # counts new pictures and changes of status
        self.ms_per_megapixel = 150.0
        self._make_client = make_client
        self._pictures: dict[str, Picture] = {}
        self._wishes: OrderedDict[str, tuple[Wish, float]] = OrderedDict()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._number = 0
        self._thread = threading.Thread(target=self._run, name="effigy-viewport", daemon=True)
        self._thread.start()

    def want(self, wish: Wish) -> None:
        """Replace the view's wish; returns at once."""
        with self._lock:
            self._wishes.pop(wish.view, None)
            self._wishes[wish.view] = (wish, time.monotonic())
        self._wake.set()

    def picture(self, view: str) -> Picture | None:
        """The newest picture of a view."""
        return self._pictures.get(view)

    def forget(self, views: Iterable[str]) -> None:
        """Drop wishes and pictures of views that are gone."""
        with self._lock:
            for view in views:
                self._pictures.pop(view, None)
                self._wishes.pop(view, None)

    def close(self) -> None:
        """End the thread and its connection; what is in flight is dropped."""
        self._stop.set()
        self._wake.set()
        self._thread.join(CLOSE_TIMEOUT_S)

    # --- on the thread ------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                client = self._make_client()
            except errors.EffigyError as error:
                self._tell("lost", error)
                self._stop.wait(RETRY_S)
                continue
            pause_s = RETRY_S
            try:
                self._serve(client)
            except errors.EffigyError as error:
                self._tell("lost", error)
                pause_s = wait_s(error, RETRY_S)
            finally:
                client.close()
            self._stop.wait(pause_s)

    def _tell(self, status: str, error: errors.EffigyError | None = None) -> None:
        problem = str(error) if error is not None else ""
        if (status, problem) != (self.status, self.problem):
            self.status, self.problem = status, problem
            self.changes += 1

    def _serve(self, client: Any) -> None:
        """Answer wishes until the connection is lost. Raises Unreachable, NotAllowed, VersionMismatch."""
        client.request(messages.Ping(), timeout_s=TRY_TIMEOUT_S, cancelled=self._stop.is_set)
        self._tell("connected")
        pinged = time.monotonic()
        while not self._stop.is_set():
            taken = self._take()
            if taken is not None:
                self._answer(client, taken)
                pinged = time.monotonic()
            elif time.monotonic() - pinged > MEND_EVERY_S:  # so that a loss is told also while nothing moves
                client.request(messages.Ping(), timeout_s=TRY_TIMEOUT_S * 3, cancelled=self._stop.is_set)
                pinged = time.monotonic()

    def _take(self) -> Wish | None:
        """The wish that waits longest, after waiting a little for one."""
        self._wake.wait(0.1)
        self._wake.clear()
        with self._lock:
            ready = [(due, view) for view, (_, due) in self._wishes.items() if due <= time.monotonic()]
            if not ready:
                return None
            view = min(ready)[1]
            taken = self._wishes.pop(view)[0]
            if self._wishes:
                self._wake.set()
            return taken

    def _answer(self, client: Any, wish: Wish) -> None:
        begin = time.monotonic()
        try:
            request = handed_over(client, wish.request, wish.maps, self._stop.is_set)
            frame = client.render(request, timeout_s=RENDER_TIMEOUT_S, cancelled=self._stop.is_set)
        except errors.Unreachable:
            self._put_back(wish, time.monotonic())
            raise
        except errors.Cancelled:
            return
        except errors.EffigyError as error:  # an avatar that is not there, a worker that died: told, and tried again
            self._tell("refused", error)
            self._put_back(wish, time.monotonic() + MEND_EVERY_S)
            return
        now = time.monotonic()
        megapixels = request.width_px * request.height_px / 1e6
        self.ms_per_megapixel = next_pace(self.ms_per_megapixel, (now - begin) * 1000, megapixels)
        self._number += 1
        part, corner = cropped(frame.passes[PASS])
        picture = Picture(wish, part, corner, self._number, frame.render_ms)
        with self._lock:
            self._pictures[wish.view] = picture
        self.status, self.problem = "connected", ""
        self.changes += 1
        if wish.live:
            self._put_back(wish, now + LIVE_EVERY_S)

    def _put_back(self, wish: Wish, due_s: float) -> None:
        """Ask again later, unless the view has wished for something newer."""
        with self._lock:
            self._wishes.setdefault(wish.view, (wish, due_s))
