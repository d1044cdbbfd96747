"""The frames of an animation that come next are asked for while Blender is still at this one.

One Blender renders one frame at a time, so a backend that can be at several pictures, as that of a cluster, would be at
one. The engine itself turns its dependency graph to the frames that come, reads what they will ask for, and turns it
back: that is what `RenderEngine.frame_set` is for. When a frame's turn comes it reads everything anew, and what was
asked before counts only if not a byte of the question differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import bpy
from bpy.app.handlers import persistent

from .._shared import errors, messages, types
from ..logic.ahead import MOST_AT_ONCE, Ahead, Place, Question
from ..logic.settings import Settings
from . import composite
from .backend import BACKEND, RENDER_TIMEOUT_S, new_client
from .frame_files import coming_frames

MOST_BYTES = 512 * 1024**2
"""Of pictures that wait for their frame's turn."""
MOST_MISSES = 3
"""Pictures asked for in vain after which a render looks ahead no more."""
SIMULATED = {"CLOTH", "DYNAMIC_PAINT", "FLUID", "PARTICLE_SYSTEM", "SOFT_BODY"}


class LookAhead:
    """What is known beyond the frame at hand; one instance per registered add-on."""

    def __init__(self) -> None:
        self.frames: Sequence[int] | None = None  # in their order, where someone renders them one by one
        self.taken = 0  # pictures that were there before their frame, since the add-on was registered
        self._ahead = Ahead(lambda settings: new_client(settings, "Blender render, looking ahead"))
        self._misses = 0
        self._steady: bool | None = None

    def begin(self) -> None:
        """A render begins."""
        if self.frames is None:
            self.end()

    def end(self) -> None:
        """It is over: nothing that was asked for is needed any more."""
        self._ahead.drop()
        self._misses, self._steady = 0, None

    def fits(self, place: Place, question: Question) -> bool:
        """Whether a picture was asked for that this question may have. If another one was, all of them are let go."""
        if place not in self._ahead.places():
            return False
        if self._ahead.fits(place, question):
            return True
        self._misses += 1
        self._ahead.keep_only(set())
        return False

    def picture(self, place: Place, question: Question, cancelled: Callable[[], bool]) -> Any:
        """The Frame of a question. Raises what Backend.render does."""
        frame = self._ahead.take(place, question, cancelled)
        if frame is not None:
            self.taken += 1
            return frame
        return BACKEND.render(question.settings, question.request, question.maps, cancelled)

    def wanted(
        self, scene: Any, layer: str, settings: Settings, picture_bytes: int, cancelled: Callable[[], bool]
    ) -> list[int]:
        """The frames after this one whose pictures should be asked for now, for a view layer of a scene."""
        if self._misses >= MOST_MISSES or composite.is_copy(scene):
            return []
        try:
            client = None if self._ahead.places() else BACKEND.connected(settings)
            if client is not None:  # no other one is looked for: a picture is there and waits to be written
                self._ahead.count(client, cancelled)
        except errors.EffigyError:  # the next frame will tell
            return []
        workers = self._ahead.workers
        most = min(2 * workers, MOST_AT_ONCE, MOST_BYTES // max(1, picture_bytes))
        if workers < 2 or not self._is_steady(scene):
            return []
        coming = list(islice(self._coming(scene), most))
        of_layer = {place for place in self._ahead.places() if place[:2] == (scene.name, layer)}
        kept = {place for place in of_layer if place[2] in (scene.frame_current, *coming)}
        self._ahead.keep_only({*self._ahead.places()} - of_layer | kept)
        asked = {place[2] for place in kept} - {scene.frame_current}
        return [frame for frame in coming if frame not in asked] if len(asked) < workers else []

    def ask(self, place: Place, question: Question) -> None:
        """Have a picture made for later. Raises EffigyError for a question that cannot be sent."""
        self._ahead.ask(place, question, RENDER_TIMEOUT_S)

    def _coming(self, scene: Any) -> Any:
        if self.frames is None:
            return islice(coming_frames(scene), 1, None)
        now = scene.frame_current
        place = self.frames.index(now) + 1 if now in self.frames else len(self.frames)
        return iter(self.frames[place:])

    def _is_steady(self, scene: Any) -> bool:
        if self._steady is None:
            self._steady = is_steady(scene)
        return self._steady


def is_steady(scene: Any) -> bool:
    """Whether looking at a later frame leaves no trace in the frames before it: nothing is simulated from frame to
    frame, and no other add-on or script follows the frames."""
    own = __name__.removesuffix(".services.look_ahead")
    handlers = (*bpy.app.handlers.frame_change_pre, *bpy.app.handlers.frame_change_post)
    if any(not str(getattr(handler, "__module__", "")).startswith(f"{own}.") for handler in handlers):
        return False
    if scene.rigidbody_world is not None:
        return False
    for item in bpy.data.objects:
        if item.pose is not None and item.pose.ik_solver == "ITASC":
            return False
        if any(one.type in SIMULATED or len(getattr(one, "bakes", ())) for one in item.modifiers):
            return False
    return True


def bytes_of(request: messages.RenderRequest, eyes: int) -> int:
    """How much memory a frame's pictures take at most, of all eyes."""
    channels = sum(types.PASS_CHANNELS[name] or len(request.instances) for name in request.passes)
    return request.width_px * request.height_px * eyes * 4 * channels


LOOK_AHEAD = LookAhead()


@persistent
def _begins(*_: Any) -> None:
    LOOK_AHEAD.begin()


@persistent
def _over(*_: Any) -> None:
    if LOOK_AHEAD.frames is None:
        LOOK_AHEAD.end()


HANDLERS = {"render_init": _begins, "render_complete": _over, "render_cancel": _over}


def register() -> None:
    """Follow renders."""
    for name, handler in HANDLERS.items():
        getattr(bpy.app.handlers, name).insert(0, handler)


def unregister() -> None:
    """Let go of them, and of all that was asked for."""
    for name, handler in HANDLERS.items():
        getattr(bpy.app.handlers, name).remove(handler)
    LOOK_AHEAD.frames = None
    LOOK_AHEAD.end()
