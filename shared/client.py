"""The one client of the backend: used by the add-on, the command line and the tests alike.

Each call blocks its own thread, in slices short enough to notice `cancelled()`; Blender's main thread therefore calls
it only while rendering. A reply counts only when it carries the id of the request that waits and the epoch of the
server that was asked, so neither a late reply nor a restarted server can be mistaken for an answer.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray

from . import __version__, wire
from .addresses import DEFAULT_ADDRESS
from .channel import HELLO_TIMEOUT_S, Channel
from .desk_messages import StartExport
from .errors import BadMessage, Cancelled, EffigyError, EnvironmentFailed, HelloFirst, NotFound, Unreachable
from .keys import Login
from .machine import machine_token, process_token, whoami
from .messages import (
    PROTOCOL_VERSION,
    Failure,
    FrameReply,
    GaussianCloud,
    Hello,
    JobEvent,
    Ping,
    PoseGaussians,
    PutEnvironment,
    RenderRequest,
    Superseded,
    Welcome,
)
from .pixel_memory import PixelReader, supported
from .render_messages import KEPT_ENVIRONMENTS, environments_of
from .sockets import CONTROL_QUEUE, EVENT_QUEUE, FRAME_QUEUE, connect, make_socket
from .types import Frame

SIGN_OF_LIFE_S = 4.0
RENDER_ATTEMPTS = 3
BY_FRAMES_SOCKET = (RenderRequest, PutEnvironment, PoseGaussians, StartExport)
"""Messages that carry pixels, many Gaussians or the poses of a film; everything else goes over the control socket."""


class BackendClient:
    """A connection to a backend. One instance belongs to one thread; closing it drops whatever is under way.

    address: 'tcp://127.0.0.1:47615'. key: the backend's key, where it asks for one. name: shown to others. login: keys
    for a backend that encrypts. instance: whose jobs are ours, empty: those of this process.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        key: str = "",
        name: str = "client",
        login: Login | None = None,
        instance: str = "",
    ) -> None:
        self.address, self.key, self.name, self.login = address, key, name, login
        self._instance = instance or process_token()
        self._asked_s = 0.0
        self.welcome: Welcome | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._control: Channel | None = None
        self._frames: Channel | None = None
        self._events: zmq.Socket[bytes] | None = None
        self._environments: dict[str, NDArray[np.float16]] = {}
        self._put: set[str] = set()
        self._pixels = PixelReader()
        self._shared_memory = supported()

    def __enter__(self) -> BackendClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self, timeout_s: float = HELLO_TIMEOUT_S) -> Welcome:
        """Say Hello (again). Raises Unreachable, NotAllowed, VersionMismatch."""
        return self._greet(time.monotonic() + timeout_s, None)

    def request(self, message: Any, *, timeout_s: float = 10.0, cancelled: Callable[[], bool] | None = None) -> Any:
        """Send a message of shared.messages and return the answer; connects first where that was not done.

        cancelled: asked at least every 50 ms. Raises the error a Failure stands for (NotFound, BadAvatar, …),
        Cancelled, and Unreachable when nothing answers within timeout_s. A message that a restarted server refused
        because it does not know this connection was never begun; it is sent once more after a new Hello.
        """
        deadline = time.monotonic() + timeout_s
        for attempt in (0, 1):
            try:
                return self._ask(message, deadline, cancelled)
            except HelloFirst:
                self.welcome = None
                if attempt:
                    raise
        raise AssertionError("unreachable")

    def render(self, request: RenderRequest, *, timeout_s: float, cancelled: Callable[[], bool] | None = None) -> Frame:
        """Have a picture rendered. Raises Cancelled also where a newer request of the same view replaced this one."""
        for _ in range(RENDER_ATTEMPTS):
            asked = replace(request, shared_memory=self._shared_memory)
            reply: FrameReply = self._reply(asked, FrameReply, timeout_s, cancelled)
            try:
                images = reply.images if reply.memory is None else self._pixels.take(reply.memory)
            except EnvironmentFailed:  # for example another container's process: pixels then come in the message
                self._shared_memory, images = False, None
            if images is not None:
                break
        else:
            raise Unreachable("The backend's pictures were replaced before they could be read", do="Try again")
        if len(images) != len(reply.pass_names) or set(reply.pass_names) != set(request.passes):
            raise BadMessage(
                "The backend rendered other passes than asked",
                found=_listed(reply.pass_names),
                expected=_listed(request.passes),
            )
        return Frame(request.width_px, request.height_px, dict(zip(reply.pass_names, images)), reply.render_ms)

    def cloud(
        self, request: PoseGaussians, *, timeout_s: float, cancelled: Callable[[], bool] | None = None
    ) -> GaussianCloud:
        """Have an avatar's Gaussians posed. Raises as `render`."""
        reply: GaussianCloud = self._reply(request, GaussianCloud, timeout_s, cancelled)
        return reply

    def put_environment(
        self,
        radiance: NDArray[Any],
        *,
        timeout_s: float = 30.0,
        cancelled: Callable[[], bool] | None = None,
    ) -> str:
        """Hand over an environment map ([H, W, 3] linear, see Environment) once per server; returns its digest.

        The last KEPT_ENVIRONMENTS are kept so that they can be handed over again after a restart of the backend.
        """
        half = np.ascontiguousarray(np.clip(radiance, 0.0, 65504.0), dtype=np.float16)
        digest = hashlib.sha256(half.tobytes()).hexdigest()
        self._environments.pop(digest, None)
        self._environments[digest] = half
        while len(self._environments) > KEPT_ENVIRONMENTS:
            self._environments.pop(next(iter(self._environments)))
        if digest not in self._put or self.welcome is None:
            self.request(PutEnvironment(digest, half), timeout_s=timeout_s, cancelled=cancelled)
            self._put.add(digest)
        return digest

    def events(self, timeout_s: float = 0.0) -> list[JobEvent]:
        """Events that arrived, after waiting up to timeout_s for the first. A gap in `sequence`: ask ListJobs.

        The first call subscribes; what happened before it is not told.
        """
        if self.welcome is None:
            self.connect()
        assert self.welcome is not None
        if time.monotonic() - self._asked_s > SIGN_OF_LIFE_S:
            self.request(Ping())  # a client that only listens would lose its jobs to others
        if self._events is None:
            self._events = make_socket(
                self._context, zmq.SUB, queue=EVENT_QUEUE, max_part_bytes=wire.FROM_SERVER.header_bytes
            )
            self._events.setsockopt(zmq.SUBSCRIBE, b"")
            connect(self._events, self._way(self.welcome.events_address, self.welcome.events_port), self.login)
        found: list[JobEvent] = []
        wait_ms = int(timeout_s * 1000)
        while self._events.poll(wait_ms):
            wait_ms = 0
            envelope = wire.decode(self._events.recv_multipart(zmq.NOBLOCK), limits=wire.FROM_SERVER)
            if isinstance(envelope.message, JobEvent) and envelope.epoch == self.welcome.epoch:
                found.append(envelope.message)
        return found

    def close(self) -> None:
        """Drop the connection at once. May be called twice."""
        self._drop_sockets()
        self._pixels.close()
        self._context.destroy(linger=0)

    def _reply(
        self, request: RenderRequest | PoseGaussians, kind: type, timeout_s: float, cancelled: Callable[[], bool] | None
    ) -> Any:
        try:
            reply = self.request(request, timeout_s=timeout_s, cancelled=cancelled)
        except NotFound:
            # The backend keeps few environments and forgets them at a restart; ours can be handed over once more.
            ours = [digest for digest in environments_of(request) if digest in self._environments]
            if not ours:
                raise
            for digest in ours:
                self._put.discard(digest)
                self.put_environment(self._environments[digest], cancelled=cancelled)
            reply = self.request(request, timeout_s=timeout_s, cancelled=cancelled)
        if isinstance(reply, Superseded):
            raise Cancelled("A newer picture of the same view was asked for")
        if not isinstance(reply, kind):
            asked = type(request).__name__
            raise BadMessage(f"The backend answered a {asked} with something else", found=type(reply).__name__)
        return reply

    # --- connection -------------------------------------------------------------------------------------------------
    def _drop_sockets(self) -> None:
        for channel in (self._frames, self._control):
            if channel is not None:
                channel.leave(channel.greeted) if channel.greeted and self.welcome else channel.close()
        if self._events is not None:
            self._events.close(0)
        self._control = self._frames = self._events = self.welcome = None

    def _greet(self, deadline: float, cancelled: Callable[[], bool] | None) -> Welcome:
        if self._control is None:
            self._control = Channel(self._context, self.address, CONTROL_QUEUE, self.login)
        welcome = self._hello(self._control, "", deadline, cancelled)
        if self.welcome is None or welcome.epoch != self.welcome.epoch:
            for socket in (self._frames, self._events):
                if socket is not None:
                    socket.close()
            self._frames = self._events = None
            self._put.clear()
            self._shared_memory = supported()
        self.welcome = welcome
        return welcome

    def _hello(self, channel: Channel, epoch: str, deadline: float, cancelled: Callable[[], bool] | None) -> Welcome:
        hello = Hello(PROTOCOL_VERSION, f"{self.name} ({whoami()})"[:200], __version__, self.key, self._instance)
        answer = channel.ask(hello, epoch, deadline, cancelled)
        if not isinstance(answer.message, Welcome):
            raise _error(answer.message, "Hello")
        channel.greeted = answer.message.epoch
        return answer.message

    def _way(self, private: str, port: int) -> str:
        """Where a socket of the backend is to be reached from here. Raises Unreachable."""
        assert self.welcome is not None
        if self.welcome.machine in ("", machine_token()):
            return private
        if not port:
            raise Unreachable(
                f"The backend at {self.address} is on another machine and offers its pictures to its own only",
                do="Start it with --address and a port of your choice, and let the tunnel take the next two, too",
            )
        return f"{self.address.rpartition(':')[0]}:{port}"

    def _ask(self, message: Any, deadline: float, cancelled: Callable[[], bool] | None) -> Any:
        welcome = self.welcome or self._greet(deadline, cancelled)
        channel = self._control
        if isinstance(message, BY_FRAMES_SOCKET):
            if self._frames is not None and not self._frames.linked():
                # Perhaps another server answers by now, and it has private addresses of its own.
                welcome = self._greet(min(deadline, time.monotonic() + HELLO_TIMEOUT_S), cancelled)
            if self._frames is None:
                way = self._way(welcome.frames_address, welcome.frames_port)
                self._frames = Channel(self._context, way, FRAME_QUEUE, self.login)
            channel = self._frames
            if channel.greeted != welcome.epoch:
                self._hello(channel, welcome.epoch, deadline, cancelled)
        assert channel is not None
        self._asked_s = time.monotonic()
        answer = channel.ask(message, welcome.epoch, deadline, cancelled)
        if isinstance(answer.message, Failure):
            raise _error(answer.message, type(message).__name__)
        return answer.message


def _error(answer: Any, asked: str) -> EffigyError:
    if isinstance(answer, Failure):
        return answer.error()
    return BadMessage(f"The backend answered {asked} with something else", found=type(answer).__name__)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)) or "none"
