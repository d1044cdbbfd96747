"""Render a shot's frames without a window, one by one: what a farm runs.

    blender -b shot.blend --command effigy_render --frames 1-48 --missing

A frame that fails is tried again where that can help and then left out; the others are rendered all the same. The exit
status is 0 only when every frame asked for is on disk and whole; otherwise the missing ones are listed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import bpy

from ._shared import errors
from .engine import EffigyEngine
from .logic import frames as frame_lists
from .services import frame_files
from .services.look_ahead import LOOK_AHEAD
from .services.rig_info import is_drawn

COMMAND = "effigy_render"
TRIES = 3
GIVE_UP_AFTER = 3
"""Frames in a row that no backend could be reached for; the rest would only wait for it as well."""
WORTH_ANOTHER_TRY = (errors.Unreachable, errors.WorkerFailed)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(prog=f"blender -b FILE --command {COMMAND}", description=__doc__.splitlines()[0])
    made.add_argument("--file", default="", help="a .blend to open first")
    made.add_argument("--scene", default="", help="scene to render (default: the file's active one)")
    made.add_argument("--frames", default="", help="such as 1-48,60 or 1-200x10 (default: the scene's range)")
    made.add_argument("--chunk", default="", metavar="I/N", help="only part I of N of these frames, from 1")
    made.add_argument("--missing", action="store_true", help="only frames that are not on disk, or not whole")
    made.add_argument("--check", action="store_true", help="render nothing, list what is missing")
    made.add_argument("--output", default="", help="where pictures go, as in Output Properties")
    made.add_argument(
        "--pin", action="append", default=[], metavar="AVATAR=DIGEST", help="render this version of an avatar or none"
    )
    made.add_argument("--plan", default="", metavar="FILE", help="render nothing, write what the shot holds as JSON")
    made.add_argument(
        "--address", default="", help="the backend's address (default: EFFIGY_ADDRESS, scene, preferences)"
    )
    return made


def wanted_frames(scene: Any, text: str = "", part: str = "") -> list[int]:
    """The frames options ask for. Raises EffigyError."""
    every = range(scene.frame_start, scene.frame_end + 1, max(1, scene.frame_step))
    found = frame_lists.parsed(text) if text else list(every)
    if not part:
        return found
    index, _, count = part.partition("/")
    if not (index.isdigit() and count.isdigit()):
        raise errors.EffigyError("A part of the frames cannot be read", found=part, expected="I/N such as 3/10")
    return frame_lists.chunk(found, int(index), int(count))


def run(arguments: Sequence[str]) -> int:
    """Do what the options say; the exit status."""
    options = parser().parse_args(arguments)
    if options.address:
        os.environ["EFFIGY_ADDRESS"] = options.address
    try:
        return _run(options)
    except errors.EffigyError as error:
        _tell(f"Nothing was rendered: {error}", sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    if options.file:
        if not os.path.isfile(options.file):
            raise errors.NotFound("There is no such file", found=options.file)
        bpy.ops.wm.open_mainfile(filepath=options.file)
    scene = bpy.data.scenes.get(options.scene) if options.scene else bpy.context.scene
    if scene is None:
        raise errors.NotFound(
            f"The file has no scene {options.scene!r}", expected=", ".join(each.name for each in bpy.data.scenes)
        )
    if options.output:
        scene.render.filepath = options.output
    if scene.render.is_movie_format:
        raise errors.EffigyError(
            "The output is a video, which frames cannot be added to", do="Choose an image format in Output Properties"
        )
    pin(scene, options.pin)
    asked = wanted_frames(scene, options.frames, options.chunk)
    if options.plan:
        with open(options.plan, "w", encoding="utf-8") as file:
            json.dump(plan(scene, asked), file)
        return 0
    todo = [frame for frame in asked if not (options.missing or options.check) or not frame_files.is_done(scene, frame)]
    problems: dict[int, str] = {}
    if not options.check:
        _tell(f"{_avatars(scene)}. Frames to render: {frame_lists.ranges(todo) or 'none'}")
        problems = render_frames(scene, todo)
    missing = [frame for frame in asked if frame in problems or not frame_files.is_done(scene, frame)]
    if missing:
        reasons = "\n".join(f"  frame {frame}: {reason}" for frame, reason in problems.items() if reason)
        _tell(f"Frames missing: {frame_lists.ranges(missing)}.\n{reasons}".rstrip(), sys.stderr)
        return 1
    _tell(f"All {len(asked)} frames are there: {frame_lists.ranges(asked)}.")
    return 0


def pinned(scene: Any) -> list[tuple[str, str]]:
    """Ids of the scene's avatars and the digest of the content each is pinned to, '' for any."""
    return sorted({(o.data.effigy.avatar_id, o.data.effigy.digest) for o in scene.objects if is_drawn(o)})


def pin(scene: Any, pins: Sequence[str]) -> None:
    """Hold avatars to the digests of `AVATAR=DIGEST`. Raises EffigyError where the scene holds another version."""
    for text in pins:
        avatar_id, equals, digest = text.rpartition("=")
        found = [o.data.effigy for o in scene.objects if is_drawn(o) and o.data.effigy.avatar_id == avatar_id]
        if not equals or not digest or not found:
            known = ", ".join(f"{name}={held[:12]}…" for name, held in pinned(scene))
            raise errors.EffigyError("An avatar cannot be pinned", found=text, expected=known or "avatars in the scene")
        for avatar in found:
            if avatar.digest and avatar.digest != digest:
                raise errors.EffigyError(
                    f"The shot holds another version of avatar {avatar_id} than the job was made with",
                    found=avatar.digest[:12],
                    expected=digest[:12],
                    do="Make the job again, or render the .blend it was made of",
                )
            avatar.digest = digest


def plan(scene: Any, frames: Sequence[int]) -> dict[str, Any]:
    """What a farm has to know of a shot before it renders it. picture: of the first view."""
    render = scene.render
    return {
        "scene": scene.name,
        "output": bpy.path.abspath(render.filepath),
        "frames": list(frames),
        "pictures": [str(frame_files.frame_paths(scene, frame)[0]) for frame in frames],
        "fps": render.fps / render.fps_base,
        "avatars": dict(pinned(scene)),
    }


def _avatars(scene: Any) -> str:
    """The scene's avatars and the content they are pinned to."""
    found = pinned(scene)
    named = ", ".join(f"{avatar} ({digest[:12] or 'any version'})" for avatar, digest in found)
    return f"Avatars: {named or 'none'}"


def render_frames(scene: Any, todo: Sequence[int]) -> dict[int, str]:
    """Render frames one by one; frame -> why it could not be, for those that failed."""
    problems: dict[int, str] = {}
    range_before = (scene.frame_start, scene.frame_end, scene.frame_step, scene.frame_current)
    render = scene.render
    kept = (render.use_overwrite, render.use_placeholder)
    render.use_overwrite, render.use_placeholder = True, False
    unreachable = 0
    LOOK_AHEAD.frames = list(todo)
    try:
        for index, frame in enumerate(todo):
            begin = time.monotonic()
            failure = _render_frame(scene, frame)
            if failure is None:
                unreachable = 0
                _tell(f"Frame {frame} done in {time.monotonic() - begin:.1f} s ({index + 1} of {len(todo)})")
                continue
            problems[frame] = str(failure)
            _tell(f"Frame {frame} failed: {failure}")
            unreachable = unreachable + 1 if isinstance(failure, errors.Unreachable) else 0
            if unreachable >= GIVE_UP_AFTER:
                problems.update(dict.fromkeys(todo[index + 1 :], ""))
                break
    finally:
        LOOK_AHEAD.frames = None
        LOOK_AHEAD.end()
        scene.frame_start, scene.frame_end, scene.frame_step = range_before[:3]
        scene.frame_set(range_before[3])
        render.use_overwrite, render.use_placeholder = kept
    return problems


def _render_frame(scene: Any, frame: int) -> Exception | None:
    """Render one frame with some tries; None where its pictures are on disk."""
    failure: Exception | None = None
    for _ in range(TRIES):
        EffigyEngine.last_failure, frame_files.WRITER.problem = None, ""
        scene.frame_start = scene.frame_end = frame
        scene.frame_step = 1
        try:
            bpy.ops.render.render(animation=True, scene=scene.name)
        except RuntimeError as error:
            failure = EffigyEngine.last_failure or errors.EffigyError(str(error).strip().removeprefix("Error: "))
            if not isinstance(failure, WORTH_ANOTHER_TRY):
                return failure
            continue
        if not frame_files.WRITER.missing and frame_files.is_done(scene, frame):
            return None
        failure = EffigyEngine.last_failure or errors.EffigyError(
            frame_files.WRITER.problem or "No picture was written"
        )
        if EffigyEngine.last_failure is not None and not isinstance(failure, WORTH_ANOTHER_TRY):
            return failure
    return failure


def _tell(text: str, stream: Any = None) -> None:
    stream = stream or sys.stdout
    stream.write(f"{text}\n")
    stream.flush()


_commands: list[Any] = []


def register() -> None:
    """Add the command to Blender's."""
    _commands.append(bpy.utils.register_cli_command(COMMAND, run))


def unregister() -> None:
    """Take it away."""
    while _commands:
        bpy.utils.unregister_cli_command(_commands.pop())
