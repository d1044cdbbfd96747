"""Which avatar and which capture a command means: by id or folder, or by result folder as in RGBAvatar."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.home import default_home
from backend.library import Library, avatar_place
from backend.options import add_device, add_home
from backend.result_folder import finished_result
from shared.errors import BadConfig, EnvironmentFailed


@dataclass(frozen=True)
class Chosen:
    """An avatar on disk. folder: its NAME.avatar folder; title: for people.

    capture: a name or folder, '' where it is not known. result: the result folder it belongs to, or None.
    """

    folder: Path
    title: str
    capture: str
    result: Path | None


def add_choice(parser: argparse.ArgumentParser, capture: str) -> None:
    """Options that `chosen` reads. capture: what --capture is for, in words."""
    parser.add_argument("avatar", nargs="?", metavar="AVATAR", help="an id of the library, or a NAME.avatar folder")
    parser.add_argument("--capture", help=capture)
    add_home(parser)
    add_device(parser)
    folder = parser.add_argument_group("as RGBAvatar: the result in <output_dir>/<subject>/<work_name>")
    folder.add_argument("--subject")
    folder.add_argument("--work_name", "--work-name")
    folder.add_argument("--output_dir", "--output-dir", default="output")
    folder.add_argument("--config", help="accepted; the configuration saved with the result is the one that counts")


def chosen(arguments: argparse.Namespace) -> Chosen:
    """The avatar a command names, one way or the other. Raises BadConfig, NotFound."""
    if (arguments.avatar is None) == (arguments.subject is None):
        raise BadConfig("Name one avatar", expected="AVATAR, or --subject with --work_name")
    if arguments.subject is not None:
        if not arguments.work_name:
            raise BadConfig("--subject needs the --work_name of the result as well")
        result = finished_result(arguments.output_dir, arguments.subject, arguments.work_name)
        return Chosen(result.avatar, arguments.subject, arguments.capture or str(result.data), result.path)
    if arguments.work_name:
        raise BadConfig("--work_name belongs to --subject, which was not given")
    library, avatar_id = avatar_place(arguments.avatar, (arguments.home or default_home()).expanduser() / "library")
    return Chosen(Library(library).path(avatar_id), avatar_id, arguments.capture or "", None)


def open_chosen(choice: Chosen, device: str) -> tuple[Any, Any]:
    """The avatar, on `device`, and the capture. Raises BadAvatar, BadCapture, BadConfig."""
    from avatars.avatar_folder import load_avatar
    from avatars.captures.opening import open_capture

    if choice.result is not None and not choice.folder.is_dir():
        return _original_avatar(choice, device), open_capture(choice.capture)
    return load_avatar(choice.folder, device), open_capture(choice.capture or trained_from(choice.folder))


def _original_avatar(choice: Chosen, device: str) -> Any:
    """The avatar of a folder that RGBAvatar itself left: model.ply, shaped by the tracker's files of the subject."""
    from avatars.formats.importing import import_avatar
    from avatars.rgb_head.avatar import RgbHeadAvatar

    assert choice.result is not None
    beside = choice.result / "flame_param.npz"
    avatar = import_avatar(choice.result, flame_param=beside if beside.is_file() else Path(choice.capture)).avatar
    assert isinstance(avatar, RgbHeadAvatar)  # of a model.ply
    return RgbHeadAvatar(avatar.model.moved_to(device))


def trained_from(folder: Path) -> str:
    """The embedded capture that an avatar was trained from. Raises BadConfig where its capture is not known here."""
    from avatars.avatar_folder import read_description
    from avatars.captures.embedded import embedded_captures

    name = str(read_description(folder).get("provenance", {}).get("capture", ""))
    if name not in embedded_captures():
        raise BadConfig(
            f"Avatar {folder.name} does not say where its capture is",
            found=f"trained from {name!r}" if name else "no note of its capture",
            do="Name the capture's folder with --capture",
        )
    return name


def prepare_device(wanted: str) -> str:
    """The device for `wanted`, with all cores in use. Raises EnvironmentFailed."""
    from backend.devices import resolve_device, usable_cores, use_cores

    device = resolve_device(wanted)
    use_cores(usable_cores())
    return device


def check_writable(folder: Path) -> None:
    """Make `folder`. Raises EnvironmentFailed where that cannot be, before any work is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFailed(
            "The output folder cannot be made", found=f"{folder}: {error.strerror}", do="Give another --output"
        ) from error
