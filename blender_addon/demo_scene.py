"""The demo's Blender half: an avatar from the running backend, animated, relit, filmed, rendered to pictures and MP4.

    python blender_addon/demo_scene.py -- --address tcp://127.0.0.1:47615 --avatar NAME --output FOLDER
    blender -b --python blender_addon/demo_scene.py -- …

Leaves FOLDER/scene.blend, frames/0001.png …, stills/*.png and animation.mp4. Progress goes to standard output as lines
`EFFIGY_PROGRESS {"stage": "frames", "done": 3, "total": 60}`; a failure is one sentence on standard error and status 1.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Addon = Callable[[str], Any]
"""Gives a module of the add-on by its name inside it."""
BACKDROP = (0.42, 0.45, 0.48)
"""Linear grey-blue behind the sitter, as a photographer's paper roll."""
BODY_JOINT = "left_ankle"
"""An avatar that has it is a whole body, and walks; heads talk."""
STILL_LIGHTS = (("", 0.0), ("interior", 180.0), ("forest", 40.0))
"""HDRI and its turn in degrees for each still; the first is the animation's own, as keyed."""


def main(arguments: Sequence[str]) -> int:
    """Run the demo scene; the process's exit status."""
    options = _parse(arguments)
    os.environ["EFFIGY_ADDRESS"] = options.address
    import bpy

    addon = _addon(bpy)
    errors = addon("_shared").errors
    try:
        _run(bpy, addon, options)
    except errors.EffigyError as error:
        print(f"The demo scene failed: {error}", file=sys.stderr)
        return 1
    except RuntimeError as error:  # Blender's way to pass on what the render engine told it
        print(f"The demo scene failed: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        return 1
    finally:
        addon("services.backend").BACKEND.drop_client()
    return 0


def _addon(bpy: Any) -> Addon:
    """The running add-on in an empty file: the installed extension where there is one, else this source tree.

    An installed Blender has no pyzmq of its own; its extension does. The bpy module's environment has.
    """
    names = [enabled.module for enabled in bpy.context.preferences.addons]
    installed = next((name for name in names if name.endswith(".effigy")), "")
    if installed:
        bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    else:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        # A script of the source tree; the installed extension leaves sys.path alone.
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        importlib.import_module("blender_addon").register()
    package = installed or "blender_addon"
    return lambda name: importlib.import_module(f"{package}.{name}")


def _run(bpy: Any, addon: Addon, options: argparse.Namespace) -> None:
    messages, connection = addon("_shared").messages, addon("services.connection").CONNECTION
    animation, rig_build, video = addon("services.animation"), addon("services.rig_build"), addon("services.video")
    output = Path(options.output).resolve()
    (output / "frames").mkdir(parents=True, exist_ok=True)
    (output / "stills").mkdir(exist_ok=True)

    _progress("avatar", 0, 1)
    detail = connection.ask_and_wait(messages.GetAvatar(options.avatar))
    scene = bpy.context.scene
    _set_up_render(scene, options)
    armature = rig_build.add_avatar(bpy.context, detail)
    _progress("avatar", 1, 1)

    if BODY_JOINT in detail.rig.joint_names:
        _walk(scene, addon, armature, options)
        animation.add_body_camera_path(bpy.context, armature, 1, options.frames)
    else:
        frames = options.frames
        animation.key_performance(armature, scene, 1, frames, lambda done: _progress("keys", done, frames))
        animation.add_camera_path(bpy.context, armature, 1, options.frames)
    _light(scene, addon, options)
    bpy.ops.file.make_paths_absolute()
    bpy.ops.wm.save_as_mainfile(filepath=str(output / "scene.blend"), compress=True, check_existing=False)

    pictures = _render_frames(bpy, scene, output, options)
    _render_stills(bpy, scene, addon, output, options)
    _progress("video", 0, 1)
    video.encode(pictures, output / "animation.mp4", options.fps)
    _progress("video", 1, 1)


def _walk(scene: Any, addon: Addon, armature: Any, options: argparse.Namespace) -> None:
    """Key the walk that comes with Effigy, as often as the film is long."""
    samples, motions = addon("services.sample_motions"), addon("services.motion_import")
    once = samples.read("walk")
    seconds = max(len(once.rotations) - 1, 1) / once.fps
    cycles = max(1, math.ceil(options.frames / options.fps / seconds))
    fitting = addon("logic.motion_fit").FitOptions(motions.scene_fps(scene), forward=True)
    for done, total in motions.key_source(armature, samples.read("walk", cycles), 1, fitting, motions.Report()):
        _progress("keys", done, total)


def _set_up_render(scene: Any, options: argparse.Namespace) -> None:
    render = scene.render
    render.engine = "EFFIGY"
    render.resolution_x = render.resolution_y = options.size
    render.resolution_percentage = 100
    render.fps, render.fps_base = options.fps, 1.0
    scene.frame_start, scene.frame_end = 1, options.frames
    render.image_settings.file_format = "PNG"
    render.image_settings.color_mode = "RGB"
    # The avatar was trained on display-encoded sRGB photographs. 'Standard' shows linear light with the plain sRGB
    # curve, so its colours come back as they were photographed; AgX and Filmic would grade them a second time.
    scene.view_settings.view_transform = "Standard"
    scene.view_settings.look = "None"


def _light(scene: Any, addon: Addon, options: argparse.Namespace) -> None:
    """The animation's World: an HDRI that turns during the shot."""
    rotation = _studio(scene, addon, options.hdri, options.strength)
    for frame, degrees in ((1, options.turn_from), (options.frames, options.turn_to)):
        rotation.default_value[2] = math.radians(degrees)
        rotation.keyframe_insert("default_value", index=2, frame=frame)


def _studio(scene: Any, addon: Addon, hdri: str, strength: float) -> Any:
    """Light the scene by an HDRI behind a plain backdrop; the socket that turns it."""
    make = addon("services.animation").world_from_hdri
    return make(scene, _hdri(addon, hdri), strength=strength, camera_colour=BACKDROP).inputs["Rotation"]


def _hdri(addon: Addon, name: str) -> str:
    """Path of an HDRI: a file, or the name of one that comes with Blender."""
    if Path(name).is_file():
        return str(Path(name).resolve())
    known = addon("services.animation").studio_light_files()
    plain = name.removesuffix(".exr")
    if plain not in known:
        raise addon("_shared").errors.NotFound(
            f"There is no HDRI {name!r}", expected="a file, or one of " + ", ".join(sorted(known))
        )
    return known[plain]


def _render_frames(bpy: Any, scene: Any, output: Path, options: argparse.Namespace) -> list[Path]:
    """Render the animation as PNGs, each on disk as soon as it is done; their paths in order."""
    frames = range(1, options.frames + 1)
    scene.render.filepath = str(output / "frames" / "####")
    scene.render.use_overwrite = not options.keep_frames

    def written(rendered: Any, *_: Any) -> None:
        _progress("frames", rendered.frame_current, options.frames)

    bpy.app.handlers.render_write.append(written)
    try:
        bpy.ops.render.render(animation=True)
    finally:
        bpy.app.handlers.render_write.remove(written)
    return [output / "frames" / f"{frame:04d}.png" for frame in frames]


def _render_stills(bpy: Any, scene: Any, addon: Addon, output: Path, options: argparse.Namespace) -> None:
    """Three frames of the performance under three different lights."""
    animated = scene.world
    for index, (light, degrees) in enumerate(STILL_LIGHTS):
        _progress("stills", index, len(STILL_LIGHTS))
        if light:
            rotation = _studio(scene, addon, light, options.strength)
            rotation.default_value[2] = math.radians(degrees)
        scene.frame_set(1 + round((index + 0.5) / len(STILL_LIGHTS) * (options.frames - 1)))
        scene.render.filepath = str(output / "stills" / f"still_{index + 1}_{light or Path(options.hdri).stem}.png")
        bpy.ops.render.render(write_still=True)
    scene.world = animated
    _progress("stills", len(STILL_LIGHTS), len(STILL_LIGHTS))


def _progress(stage: str, done: int, total: int) -> None:
    print("EFFIGY_PROGRESS " + json.dumps({"stage": stage, "done": done, "total": total}), flush=True)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo_scene.py", description=__doc__.splitlines()[0])
    parser.add_argument("--address", required=True, help="the backend's address; its key comes from EFFIGY_KEY")
    parser.add_argument("--avatar", required=True, help="avatar in the backend's library")
    parser.add_argument("--output", required=True, help="folder for pictures, video and .blend")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--fps", type=int, default=24)
    parser.add_argument("--size", type=int, default=512, help="side of the square picture in pixels")
    parser.add_argument("--hdri", default="sunrise", help="HDRI file, or the name of one that comes with Blender")
    parser.add_argument("--strength", type=float, default=1.0, help="strength of the HDRI")
    parser.add_argument("--turn-from", type=float, default=0.0, help="turn of the HDRI in the first frame, degrees")
    parser.add_argument("--turn-to", type=float, default=90.0, help="turn of the HDRI in the last frame, degrees")
    parser.add_argument("--keep-frames", action="store_true", help="do not render pictures that are already there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    status = main(sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Some bpy builds hang while Python takes them down; everything is written by now.
    os._exit(status)
