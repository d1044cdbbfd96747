"""What this Blender holds of the backend: the process it started, and the connection final renders use.

Final renders block on their own connection, on the thread they run in; the panels' connection is `link`.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

from .._shared import errors, messages, shared_module
from ..logic.child import BackendProcess
from ..logic.light_maps import LightMaps, handed_over
from ..logic.settings import Settings, is_local

START_TIMEOUT_S = 60.0
TRY_TIMEOUT_S = 1.0
RENDER_TIMEOUT_S = 600.0


class Backend:
    """The started process and the render connection; one instance per registered add-on."""

    def __init__(self) -> None:
        self.process: BackendProcess | None = None
        self.trains = False  # whether the panels' link last saw an unfinished job
        self._client: Any = None
        self._client_of: tuple[Any, ...] = ()
        self._lock = threading.Lock()

    def start(self, settings: Settings) -> None:
        """Start a backend on this machine, unless the one started before still runs. Raises EnvironmentFailed."""
        with self._lock:
            if self.process is None or not self.process.running:
                self.process = BackendProcess(settings, Path(tempfile.gettempdir()) / "effigy-backend.log")

    def stop(self) -> None:
        """Stop the backend that was started from here."""
        with self._lock:
            if self.process is not None:
                self.process.stop()
                self.process = None

    def client(self, settings: Settings, cancelled: Callable[[], bool]) -> Any:
        """A connected BackendClient for the calling thread.

        Tries for settings.retry_s, starting a backend where the settings say so and none answers. Raises Unreachable,
        NotAllowed, VersionMismatch, EnvironmentFailed, Cancelled.
        """
        known = self.connected(settings)
        if known is not None:
            try:
                known.request(messages.Ping(), timeout_s=TRY_TIMEOUT_S, cancelled=cancelled)
                return known
            except errors.Unreachable:
                pass  # it went away since the last picture: look for it below
        self.drop_client()
        client = new_client(settings, "Blender render")
        try:
            self._connect(client, settings, cancelled)
        except errors.EffigyError:
            client.close()
            raise
        self._client, self._client_of = client, _way(settings)
        return client

    def connected(self, settings: Settings) -> Any:
        """The calling thread's connection of the last picture, without a look whether anyone answers; None where there
        is none."""
        return self._client if self._client_of == _way(settings) else None

    def drop_client(self) -> None:
        """Close the render connection; the next render makes a new one."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def render(self, settings: Settings, request: Any, maps: LightMaps, cancelled: Callable[[], bool]) -> Any:
        """The Frame of a RenderRequest; a lost backend is looked for once more before giving up.

        maps: what lights it, handed over first.
        """
        return self._ask("render", settings, request, maps, cancelled)

    def cloud(self, settings: Settings, request: Any, maps: LightMaps, cancelled: Callable[[], bool]) -> Any:
        """The GaussianCloud of a PoseGaussians, as `render`."""
        return self._ask("cloud", settings, request, maps, cancelled)

    def _ask(self, what: str, settings: Settings, request: Any, maps: LightMaps, cancelled: Callable[[], bool]) -> Any:
        for attempt in (0, 1):
            client = self.client(settings, cancelled)
            try:
                lit = handed_over(client, request, maps, cancelled)
                return getattr(client, what)(lit, timeout_s=RENDER_TIMEOUT_S, cancelled=cancelled)
            except errors.Unreachable:
                self.drop_client()
                if attempt:
                    raise
        raise AssertionError("unreachable")

    def _connect(self, client: Any, settings: Settings, cancelled: Callable[[], bool]) -> None:
        deadline = time.monotonic() + settings.retry_s
        starting = False
        while True:
            if cancelled():
                raise errors.Cancelled("Stopped while looking for the backend")
            try:
                # A Ping says Hello first, and unlike `connect` it can be broken off while it waits.
                client.request(messages.Ping(), timeout_s=TRY_TIMEOUT_S, cancelled=cancelled)
                return
            except errors.Unreachable:
                process = self.process
                ours = process is not None and process.running and process.address == settings.address
                if starting:
                    self.process.check()
                elif ours or settings.start_automatically:
                    self.start(settings)  # nothing new where the user just pressed Start
                    starting, deadline = True, time.monotonic() + START_TIMEOUT_S
                if time.monotonic() > deadline:
                    raise


def _way(settings: Settings) -> tuple[Any, ...]:
    return (threading.get_ident(), settings.address, settings.key, settings.server_key)


def new_client(settings: Settings, name: str) -> Any:
    """A BackendClient that is not connected yet.

    Raises NotAllowed for another machine's address while Blender's preferences forbid going online, BadConfig for a
    public key that is none, EnvironmentFailed where Blender's Python lacks pyzmq.
    """
    if not is_local(settings.address) and not bpy.app.online_access:
        raise errors.NotAllowed(
            "Blender may not go online, and the backend is on another machine",
            found=settings.address,
            do="Switch on Preferences > System > Network > Allow Online Access, or use a backend on this machine",
        )
    try:
        kind = shared_module("client").BackendClient
    except ModuleNotFoundError as error:
        raise errors.EnvironmentFailed(
            f"Blender's Python lacks the module {error.name!r}",
            do="Install Effigy as an extension (python install.py addon), which brings it along",
        ) from error
    login = shared_module("keys").login(settings.server_key) if settings.server_key else None
    return kind(settings.address, key=settings.key, name=name, login=login)


BACKEND = Backend()


def register() -> None:
    """Nothing to set up: connections are made when they are first used."""


def unregister() -> None:
    """Close the connection and stop the backend that was started from here, unless it trains and trainings go on.

    Such a training outlives Blender; the backend ends by itself after it (see logic.child).
    """
    BACKEND.drop_client()
    if not BACKEND.trains or (BACKEND.process is not None and not BACKEND.process.keep_training):
        BACKEND.stop()
    BACKEND.process, BACKEND.trains = None, False
