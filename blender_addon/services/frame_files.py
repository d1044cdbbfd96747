"""The files a scene's frames are written to: where they are, which are missing, and how none is ever half there.

Blender writes a picture straight to its name, so a render that is killed meanwhile leaves a broken file that a rerun
with Overwrite off would keep. In a Blender without a window, frames of an animation therefore go to a folder beside
their place and are renamed when they are whole; a windowed Blender is left alone, where the user sees the path.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy
from bpy.app.handlers import persistent

from ..logic.frames import ranges
from ..logic.pictures import is_whole

PART = ".effigy-part"


def frame_paths(scene: Any, frame: int) -> list[Path]:
    """Where a frame's pictures go: one, or one for each view."""
    render = scene.render
    names = [""]
    if render.use_multiview and render.image_settings.views_format == "INDIVIDUAL":
        names = [view.name for view in render.views if view.use]
    paths = [Path(bpy.path.abspath(render.frame_path(frame=frame, view=name))) for name in names]
    # While a frame renders, the scene names the folder beside.
    return [path.parent.parent / path.name if path.parent.name.startswith(PART) else path for path in paths]


def is_done(scene: Any, frame: int) -> bool:
    """Whether all pictures of a frame are there and whole."""
    return all(is_whole(path) for path in frame_paths(scene, frame))


def missing_frames(scene: Any) -> list[int]:
    """Frames of the running animation that have no picture yet: this one and what would come after it.

    Blender renders an animation in order and stops at the first failure, so nothing before this frame is missing.
    """
    return list(coming_frames(scene))


def coming_frames(scene: Any) -> Iterator[int]:
    """The frame that the running animation is at and those it will render after it."""
    yield scene.frame_current
    arguments = sys.argv if bpy.app.background else []
    if any(flag in arguments for flag in ("-f", "--render-frame")) and "-a" not in arguments:
        return
    for frame in range(scene.frame_current, scene.frame_end + 1, max(1, scene.frame_step)):
        if frame > scene.frame_current and (scene.render.use_overwrite or not is_done(scene, frame)):
            yield frame


class FrameWriter:
    """Sends a scene's output to a folder beside its place while a frame renders, and moves there what is whole."""

    def __init__(self) -> None:
        self._own = ""  # the scene's own path, while it is another
        self._folder: Path | None = None
        self._targets: list[Path] = []
        self._begun_ns = 0
        self.failure = ""  # why the frame that renders lacks its avatars: Blender goes on where another scene failed
        self.problem = ""
        self.missing: list[int] = []

    def begin(self, scene: Any, *, beside: bool) -> None:
        """Before a frame renders. beside: write to a folder beside first."""
        self.restore(scene)
        self.failure = ""
        render = scene.render
        if render.is_movie_format:
            return
        self._begun_ns = time.time_ns()
        self._targets = frame_paths(scene, scene.frame_current)
        if not beside:
            return
        path = render.filepath
        cut = max(path.rfind("/"), path.rfind("\\")) + 1
        self._own = path
        render.filepath = f"{path[:cut]}{_part_name()}/{path[cut:]}"
        self._folder = self._targets[0].parent / _part_name()

    def finish(self, scene: Any) -> None:
        """After a frame was written: what is whole gets its name."""
        folder, targets = self._folder, self._targets
        self.restore(scene)
        if self.failure:
            self._refuse(scene.frame_current, self.failure)
            for target in targets:
                if target.is_file() and target.stat().st_mtime_ns >= self._begun_ns:
                    target.unlink()  # it shows the scene without its avatars
        for path in sorted(folder.iterdir()) if folder is not None and folder.is_dir() else ():
            target = targets[0].parent / path.name
            try:
                if self.failure:
                    path.unlink()
                    continue
                if not is_whole(path):
                    raise OSError(f"{path.name} was not written whole; is the disk full?")
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
                os.replace(path, target)
            except OSError as error:
                self._refuse(scene.frame_current, f"It could not be stored as {target.name}: {error}")

    def _refuse(self, frame: int, reason: str) -> None:
        self.problem = f"Frame {frame} is missing. {reason}"
        self.missing.append(frame)

    def restore(self, scene: Any) -> None:
        """The scene's own path again."""
        if self._own:
            scene.render.filepath = self._own
        self._own, self._folder = "", None

    def end(self, scene: Any, *, cancelled: bool) -> None:
        """After the last frame, or when it ended early: no partial file and no empty placeholder stays."""
        targets = self._targets
        self.restore(scene)
        for target in targets if cancelled else ():
            if target.is_file() and target.stat().st_size == 0:
                target.unlink()
        if targets:
            shutil.rmtree(targets[0].parent / _part_name(), ignore_errors=True)
            _sweep(targets[0].parent)
        self._targets = []


def _part_name() -> str:
    return f"{PART}-{socket.gethostname()}-{os.getpid()}"


def _sweep(folder: Path) -> None:
    """Take away what killed renders of this machine left."""
    for left in folder.glob(f"{PART}-{socket.gethostname()}-*"):
        process = left.name.rpartition("-")[2]
        if process.isdigit() and not _runs(int(process)):
            shutil.rmtree(left, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


WRITER = FrameWriter()


def _ours(scene: Any) -> bool:
    return scene.render.engine == "EFFIGY" or bool(scene.effigy.composite)


@persistent
def _begins(scene: Any, *_: Any) -> None:
    WRITER.problem, WRITER.missing = "", []


@persistent
def _before(scene: Any, *_: Any) -> None:
    if _ours(scene):
        WRITER.begin(scene, beside=bpy.app.background)


@persistent
def _written(scene: Any, *_: Any) -> None:
    if _ours(scene):
        WRITER.finish(scene)


@persistent
def _complete(scene: Any, *_: Any) -> None:
    if _ours(scene):
        WRITER.end(scene, cancelled=False)
        if WRITER.missing and bpy.app.background and {"-a", "--render-anim"} & set(sys.argv):
            sys.stderr.write(f"{WRITER.problem} Frames missing: {ranges(WRITER.missing)}.\n")
            sys.stderr.flush()
            os._exit(1)  # Blender itself would end as if all were well


@persistent
def _cancelled(scene: Any, *_: Any) -> None:
    if _ours(scene):
        WRITER.end(scene, cancelled=True)


HANDLERS = {
    "render_init": _begins,
    "render_pre": _before,
    "render_write": _written,
    "render_complete": _complete,
    "render_cancel": _cancelled,
}


def register() -> None:
    """Follow renders of a Blender without a window."""
    for name, handler in HANDLERS.items():
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    """Let go of them."""
    for name, handler in HANDLERS.items():
        getattr(bpy.app.handlers, name).remove(handler)
