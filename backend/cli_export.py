"""`import` and `export`: avatars and posed frames as files of other projects, without a server."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from backend.cli_chosen import prepare_device
from backend.exporting import AXES, FORMATS, SPLATS, ExportPlan, write_export
from backend.home import default_home, open_home
from backend.importing import import_into_library
from backend.library import SUFFIX, Library, avatar_place
from backend.options import add_device, add_home
from shared.desk_messages import StartImport
from shared.errors import BadConfig
from shared.types import Motion


def add_import(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "import",
        help="bring an avatar of RGBAvatar, GaussianAvatars or another machine into the library",
        description="Reads RGBAvatar's model.ply (with its config.yaml) or GaussianAvatars' point_cloud.ply (with its "
        "flame_param.npz), which hang on FLAME (add it once with: effigy template add), or copies a NAME.avatar.",
    )
    parser.add_argument(
        "source", type=Path, metavar="FILE_OR_FOLDER", help="model.ply, point_cloud.ply or their folder, or NAME.avatar"
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
    add_home(parser)
    parser.set_defaults(run=import_command)


def add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "export",
        help="write an avatar, a posed frame or a sequence as files of other projects",
        description="rgbavatar and gaussian-avatars write a folder with the whole avatar; ply and spz write splats of "
        "one posed frame into a file, or of --frames A:B into a folder; mesh writes a rigged, textured mesh (as effigy "
        "mesh does); avatar copies Effigy's own NAME.avatar folder, half as large with --half-deltas.",
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
    add_home(parser)
    add_device(parser)
    parser.set_defaults(run=export_command)


def import_command(arguments: argparse.Namespace) -> int:
    """Read, render a preview, put it into the library and print its id."""
    asked = StartImport(
        "",
        str(arguments.source),
        arguments.name or "",
        str(arguments.config or ""),
        str(arguments.flame_param or ""),
        arguments.template,
        arguments.mean_shape,
        arguments.licence,
        arguments.consent,
    )
    with _progress() as progress:
        progress.add_task(f"Reading {arguments.source}", total=None)
        avatar_id, notes = import_into_library(open_home(arguments.home), asked, prepare_device("cpu"))
    _say(notes)
    print(avatar_id)
    return 0


def export_command(arguments: argparse.Namespace) -> int:
    """Write the files and print where they are."""
    output: Path = arguments.output.expanduser()
    splats = arguments.format in SPLATS
    check_export(arguments)
    library, avatar_id = avatar_place(arguments.avatar, (arguments.home or default_home()).expanduser() / "library")
    device = prepare_device(arguments.device if splats or arguments.format == "mesh" else "cpu")
    folder = Library(library).path(avatar_id)
    motion, frames = None, [arguments.frame]
    if arguments.format != "avatar":
        motion, frames = _motion(arguments, folder)
    plan = ExportPlan(
        arguments.format,
        output,
        motion,
        frames,
        bool(arguments.frames),
        arguments.axes,
        arguments.template,
        arguments.half_deltas,
    )
    with _progress() as progress:
        task = progress.add_task(f"Writing {output.name}", total=len(frames) if splats else None)
        notes = write_export(
            folder, plan, device, lambda done, total: progress.update(task, completed=done, total=total)
        )
    _say(notes)
    print(output)
    return 0


def _motion(arguments: argparse.Namespace, folder: Path) -> tuple[Motion | None, list[int]]:
    """The motion that --motion names and the frames of it that are asked for."""
    from avatars.avatar_folder import load_avatar
    from avatars.formats.motions import read_motion

    motion = read_motion(arguments.motion, load_avatar(folder).rig()) if arguments.motion else None
    count = 1 if motion is None else len(motion)
    frames = frame_range(arguments.frames, count) if arguments.frames else [arguments.frame]
    if not 0 <= min(frames) <= max(frames) < count:
        raise BadConfig(
            "The motion has no such frame",
            found=f"{max(frames)} of {arguments.motion or 'the pose of the capture'}",
            expected=f"0 to {count - 1}",
        )
    return motion, frames


def check_export(arguments: argparse.Namespace) -> None:
    """Raises BadConfig for options that do not go together."""
    splats = arguments.format in ("ply", "spz")
    if arguments.half_deltas and arguments.format != "avatar":
        raise BadConfig("--half-deltas belongs to avatar", found=f"--format {arguments.format}")
    if arguments.format == "avatar" and not arguments.output.name.endswith(SUFFIX):
        raise BadConfig("--output is no avatar's name", found=arguments.output.name, expected=f"NAME{SUFFIX}")
    if arguments.format in ("avatar", "mesh") and (arguments.motion or arguments.frames):
        raise BadConfig("--motion and --frames belong to other formats", found=f"--format {arguments.format}")
    if arguments.frames and not splats:
        raise BadConfig("--frames belongs to ply and spz", do="Give --frame, the pose the avatar is frozen at")
    if arguments.frames and not arguments.motion:
        raise BadConfig("--frames takes frames of a motion", do="Give one with --motion, or leave --frames out")
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


def _progress() -> Progress:
    """A bar on a terminal, nothing in a log."""
    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def _say(notes: Any) -> None:
    for note in notes:
        print(f"effigy: {note}", file=sys.stderr)
