"""The panels' link: made, closed and watched from Blender's main thread."""

from __future__ import annotations

from typing import Any

import bpy

from ..logic.faults import GUARDS
from ..logic.link import UNFINISHED, Link, LinkState, Ticket
from ..logic.settings import Settings
from .backend import BACKEND, new_client
from .preferences import settings

TICK_S = 0.2
CONNECT_AFTER_S = 1.0


class Connection:
    """Holds the link, if any; one instance per registered add-on."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self._shown = -1

    @property
    def state(self) -> LinkState | None:
        """What the panels show, None while there is no link."""
        return self.link.state if self.link is not None else None

    def connect(self, wanted: Settings) -> None:
        """Make a link with these settings in place of the one there is."""
        self.disconnect()
        self.link = Link(lambda: new_client(wanted, "Blender panels"), wanted.address)
        self.watch()

    def watch(self) -> None:
        """With a window, look for news of the link from time to time."""
        if self.link is not None and not bpy.app.background and not bpy.app.timers.is_registered(_tick):
            bpy.app.timers.register(_tick, first_interval=TICK_S, persistent=True)

    def disconnect(self) -> None:
        """Close the link; its thread has ended when this returns."""
        link, self.link = self.link, None
        if bpy.app.timers.is_registered(_tick):
            bpy.app.timers.unregister(_tick)
        if link is not None:
            link.close()

    def ask(self, message: Any, timeout_s: float = 30.0) -> Ticket:
        """Queue a question on the link, made first where there is none."""
        if self.link is None:
            self.connect(settings(bpy.context.scene))
        return self.link.ask(message, timeout_s)

    def ask_and_wait(self, message: Any, timeout_s: float = 30.0) -> Any:
        """The reply, for scripts without a window. Raises the error the question was answered with."""
        client = BACKEND.client(settings(bpy.context.scene), lambda: False)
        return client.request(message, timeout_s=timeout_s)

    def redraw_if_changed(self) -> None:
        """Redraw the sidebars when the link has news."""
        version = self.link.state.version if self.link is not None else -1
        if version != self._shown:
            self._shown = version
            BACKEND.trains = self.link is not None and any(j.state in UNFINISHED for j in self.link.state.jobs)
            redraw_sidebars()


def redraw_sidebars() -> None:
    """Redraw the sidebar of every 3D view."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                for region in area.regions:
                    if region.type == "UI":
                        region.tag_redraw()


CONNECTION = Connection()


def _tick() -> float | None:
    guard = GUARDS["panel timer"]
    guard.run(CONNECTION.redraw_if_changed)
    return None if guard.stopped else TICK_S


def _connect_at_start() -> None:
    """Look for a backend once Blender is up, so the panel tells at once whether there is one."""
    GUARDS["connecting"].run(_connect_unless_connected)


def _connect_unless_connected() -> None:
    if CONNECTION.link is None:
        CONNECTION.connect(settings(bpy.context.scene))


def register() -> None:
    """With a window, look for a backend a second after start-up."""
    if not bpy.app.background:
        bpy.app.timers.register(_connect_at_start, first_interval=CONNECT_AFTER_S, persistent=True)


def unregister() -> None:
    """Close the link and take the timers away."""
    if bpy.app.timers.is_registered(_connect_at_start):
        bpy.app.timers.unregister(_connect_at_start)
    CONNECTION.disconnect()
