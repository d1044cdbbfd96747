"""`import` and `export`: avatars and posed frames as files of other projects, without a server."""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from backend.cli_chosen import prepare_device
from backend.cli_render import orbit_camera, straight_srgb
from backend.home import default_home, open_home
from backend.library import SUFFIX, Library, avatar_place
from shared.errors import BadConfig, EnvironmentFailed
from shared.types import Camera

FORMATS = ("rgbavatar", "gaussian-avatars", "ply", "spz", "avatar")
AXES = ("z-up", "y-up", "y-down")
PREVIEW_PX = 256
VIEWS = 16
"""Cameras on a circle written into an exported cameras.json."""


def add_import(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "import",
        help="bring an avatar of RGBAvatar or GaussianAvatars into the library",
        description="Reads RGBAvatar's model.ply (with its config.yaml) or GaussianAvatars' point_cloud.ply (with its "
        "flame_param.npz). Both hang on FLAME, which you add once with: effigy template add",
    )
    parser.add_argument(
        "source", type=Path, metavar="FILE_OR_FOLDER", help="model.ply, point_cloud.ply or their folder"
    )
    parser.add_argument("--name", help="name in the library (default: the folder's)")
    parser.add_argument("--config", type=Path, help="RGBAvatar's config.yaml (default: beside the file)")
    parser.add_argument(
        "--flame-param",
        type=Path,
        metavar="FILE_OR_FOLDER",
        help="whose head it is: flame_param.npz, a .frame of metrical-tracker, or a folder with them "
        "(default: flame_param.npz beside the file)",
    )
    parser.add_argument("--mean-shape", action="store_true", help="do without --flame-param: FLAME's mean head")
    parser.add_argument("--template", default="", metavar="ID", help="which added FLAME (default: the usual one)")
    parser.add_argument("--licence", default="", help="licence to note down beside FLAME's")
    parser.add_argument("--consent", default="", help="the person's consent to note down")
    parser.add_argument("--home", type=Path, help="data folder (default: $EFFIGY_HOME or ~/.effigy)")
    parser.set_defaults(run=import_command)


def add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "export",
        help="write an avatar, a posed frame or a sequence as files of other projects",
        description="rgbavatar and gaussian-avatars write a folder with the whole avatar; ply and spz write splats of "
        "one posed frame into a file, or of --frames A:B into a folder; avatar copies Effigy's own NAME.avatar folder, "
        "half as large with --half-deltas.",
    )
    parser.add_argument("avatar", metavar="AVATAR", help="an id of the library, or a NAME.avatar folder")
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--motion", type=Path, help=".npz motion or flame_param.npz (default: the pose of the capture)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--frame", type=int, default=0, help="which frame of the motion, from 0")
    which.add_argument("--frames", metavar="A:B", help="frames A to B-1, one file each; ':' is all")
    parser.add_argument("--axes", choices=AXES, default="z-up", help="axes of ply files (spz is always y-up)")
    parser.add_argument("--template", default="", metavar="ID", help="FLAME template that gaussian-avatars is bound to")
    parser.add_argument("--half-deltas", action="store_true", help="with avatar: store blendshapes as 16-bit numbers")
    parser.add_argument("--output", type=Path, required=True, help="the file, or the folder to be made")
    parser.add_argument("--home", type=Path, help="data folder (default: $EFFIGY_HOME or ~/.effigy)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.set_defaults(run=export_command)


def import_command(arguments: argparse.Namespace) -> int:
    """Read, render a preview, put it into the library and print its id."""
    from avatars.avatar_folder import About, save_avatar
    from avatars.formats.importing import import_avatar

    home = open_home(arguments.home)
    device = prepare_device("cpu")
    with _progress() as progress:
        progress.add_task(f"Reading {arguments.source}", total=None)
        imported = import_avatar(
            arguments.source,
            config=arguments.config,
            flame_param=arguments.flame_param,
            template=arguments.template,
            mean_shape=arguments.mean_shape,
        )
        preview = straight_srgb(front_view(imported.avatar, PREVIEW_PX, device))
        name = arguments.name or default_name(arguments.source)
        about = About(
            name=name,
            licence=arguments.licence,
            consent=arguments.consent,
            provenance=imported.provenance,
        )
        waiting = home.root / f".import-{uuid.uuid4().hex[:8]}.avatar"
        try:
            save_avatar(waiting, imported.avatar, about, preview)
            avatar_id = Library(home.library).adopt(waiting, name)
        finally:
            shutil.rmtree(waiting, ignore_errors=True)
    _say(imported.notes)
    print(avatar_id)
    return 0


def export_command(arguments: argparse.Namespace) -> int:
    """Write the files and print where they are."""
    from avatars.avatar_folder import load_avatar
    from avatars.formats.exporting import (
        export_avatar_folder,
        export_frame,
        export_frames,
        export_gaussian_avatars_folder,
        export_rgbavatar_folder,
        rest_motion,
    )
    from avatars.formats.motions import read_motion

    output: Path = arguments.output.expanduser()
    splats = arguments.format in ("ply", "spz")
    check_export(arguments)
    library, avatar_id = avatar_place(arguments.avatar, (arguments.home or default_home()).expanduser() / "library")
    device = prepare_device(arguments.device if splats else "cpu")
    folder = Library(library).path(avatar_id)
    if arguments.format == "avatar":
        export_avatar_folder(folder, output, half_deltas=arguments.half_deltas)
        print(output)
        return 0
    avatar = load_avatar(folder, device)
    motion = read_motion(arguments.motion, avatar.rig()) if arguments.motion else None
    moving = motion or rest_motion(avatar)
    frames = frame_range(arguments.frames, len(moving)) if arguments.frames else [arguments.frame]
    if not 0 <= min(frames) <= max(frames) < len(moving):
        raise BadConfig(
            "The motion has no such frame",
            found=f"{max(frames)} of {arguments.motion or 'the pose of the capture'}",
            expected=f"0 to {len(moving) - 1}",
        )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFailed(f"{output.parent} cannot be made", found=str(error.strerror)) from error
    notes: list[str] = []
    with _progress() as progress:
        task = progress.add_task(f"Writing {output.name}", total=len(frames) if splats else None)
        if arguments.format == "rgbavatar":
            notes = export_rgbavatar_folder(avatar, output)
        elif arguments.format == "gaussian-avatars":
            cameras = [(f"{index:05d}", circle_camera(avatar, index)) for index in range(VIEWS)]
            notes = export_gaussian_avatars_folder(avatar, output, motion, frames[0], arguments.template, cameras)
        elif arguments.frames:
            export_frames(
                avatar,
                moving,
                frames,
                output,
                arguments.format,
                arguments.axes,
                device,
                lambda done, total: progress.update(task, completed=done, total=total),
            )
        else:
            export_frame(avatar, moving.at(frames[0]), output, arguments.format, arguments.axes, device)
    _say(notes)
    print(output)
    return 0


def check_export(arguments: argparse.Namespace) -> None:
    """Raises BadConfig for options that do not go together."""
    splats = arguments.format in ("ply", "spz")
    if arguments.half_deltas and arguments.format != "avatar":
        raise BadConfig("--half-deltas belongs to avatar", found=f"--format {arguments.format}")
    if arguments.format == "avatar" and not arguments.output.name.endswith(SUFFIX):
        raise BadConfig("--output is no avatar's name", found=arguments.output.name, expected=f"NAME{SUFFIX}")
    if arguments.format == "avatar" and (arguments.motion or arguments.frames):
        raise BadConfig("--motion and --frames belong to other formats", found="--format avatar")
    if arguments.frames and not splats:
        raise BadConfig("--frames belongs to ply and spz", do="Give --frame, the pose the avatar is frozen at")
    if arguments.axes != "z-up" and arguments.format != "ply":
        raise BadConfig("--axes belongs to ply", found=f"--format {arguments.format}", do="Leave it out")
    if arguments.template and arguments.format != "gaussian-avatars":
        raise BadConfig("--template belongs to gaussian-avatars", found=f"--format {arguments.format}")
    if splats and not arguments.frames:
        if arguments.output.is_dir():
            raise BadConfig(f"{arguments.output} is a folder", expected=f"a file name such as head.{arguments.format}")
        if arguments.output.suffix.lower() != f".{arguments.format}":
            raise BadConfig(
                "--output has another ending than its format",
                found=arguments.output.name,
                expected=f".{arguments.format}",
            )


def frame_range(text: str, count: int) -> list[int]:
    """Frames of 'A:B', with either end left out as in Python. Raises BadConfig."""
    first, colon, last = text.partition(":")
    parts = (first.strip() or "0", last.strip() or str(count))
    if not colon or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise BadConfig("--frames is no range", found=text, expected="A:B, for example 0:100")
    begin, end = int(parts[0]), int(parts[1])
    if not 0 <= begin < end <= count:
        raise BadConfig("The motion has no such frames", found=text, expected=f"within 0:{count}")
    return list(range(begin, end))


def default_name(source: Path) -> str:
    """A name for what lies at `source`: its folder's, or the model folder's of GaussianAvatars."""
    folder = source.absolute() if source.is_dir() else source.absolute().parent
    if folder.name.startswith("iteration_"):
        folder = folder.parent.parent
    return folder.name or "imported"


def front_view(avatar: Any, size_px: int, device: str) -> NDArray[Any]:
    """The avatar at rest from in front, premultiplied linear RGBA [size, size, 4]."""
    from avatars.formats.exporting import rest_motion
    from avatars.scene import SceneInstance, render_scene

    rest = rest_motion(avatar)
    instance = SceneInstance(avatar, np.eye(4)[None], rest.rotations, rest.translations, rest.expressions)
    camera = circle_camera(avatar, 0, size_px)
    image: NDArray[Any] = render_scene([instance], [camera], None, ("combined",), device=device)["combined"]
    return image


def circle_camera(avatar: Any, index: int, size_px: int = 512) -> Camera:
    """One of VIEWS cameras on a circle around the avatar at rest; 0 is in front."""
    vertices = avatar.proxy().vertices
    K, world_from_camera, distance_m = orbit_camera(
        vertices, size_px, size_px, 2 * math.pi * index / VIEWS, math.radians(5), math.radians(25)
    )
    return Camera(size_px, size_px, K, world_from_camera, distance_m / 100, distance_m * 100)


def _progress() -> Progress:
    """A bar on a terminal, nothing in a log."""
    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def _say(notes: Any) -> None:
    for note in notes:
        print(f"effigy: {note}", file=sys.stderr)
