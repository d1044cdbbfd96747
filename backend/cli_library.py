"""`library`, `status` and `log`: what avatars are and become, how a running server is, and what it wrote."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from backend.cli_lists import add_client_options, client_of
from backend.front_desk import change_avatar
from backend.home import Home, open_home
from backend.library import Library
from backend.options import add_home
from backend.tables import folding_table
from backend.trash import Trash
from shared.desk_messages import ChangeAvatar, GetLog, GetStatus, Status
from shared.messages import AvatarSummary


def add_library(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser("library", help="describe, rename, throw away and bring back avatars")
    actions = parser.add_subparsers(title="what to do", required=True, metavar="ACTION")
    for name, text in (
        ("info", "quality, coverage, licence, consent and provenance"),
        ("rename", "show it by another name; scenes that use it go on working"),
        ("trash", "move it to the trash"),
        ("restore", "bring it back from the trash"),
        ("purge", "delete one of the trash for good"),
        ("list-trash", "what is in the trash"),
        ("empty-trash", "delete everything in the trash for good, folders of removed jobs as well"),
    ):
        action = actions.add_parser(name, help=text)
        if name in ("info", "rename", "trash", "restore", "purge"):
            action.add_argument("avatar", help="its id, or for restore and purge that of the trash")
        if name == "rename":
            action.add_argument("name", help="its new name")
        add_home(action)
        action.add_argument("--json", action="store_true", help="JSON instead of text")
        action.set_defaults(run=library_command, action=name)


def add_status(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser("status", help="device, memory and queues of a running server")
    parser.add_argument("--json", action="store_true", help="JSON instead of text")
    add_client_options(parser)
    parser.set_defaults(run=status_command)


def add_log(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser("log", help="the end of a running server's logs")
    parser.add_argument("job", nargs="?", default="", help="of this job's worker (default: server and render worker)")
    add_client_options(parser)
    parser.set_defaults(run=log_command)


def library_command(arguments: argparse.Namespace) -> int:
    """Do one thing with the library or its trash."""
    home = open_home(arguments.home)
    library, trash = Library(home.library), Trash(home.trash)
    match arguments.action:
        case "info":
            return _info(home, arguments)
        case "list-trash":
            return _list(trash.summaries(), arguments.json)
        case "empty-trash":
            print(f"{trash.empty()} deleted")
            return 0
    print(
        change_avatar(library, trash, ChangeAvatar(arguments.avatar, arguments.action, getattr(arguments, "name", "")))
    )
    return 0


def status_command(arguments: argparse.Namespace) -> int:
    """What GetStatus answers."""
    with client_of(arguments) as client:
        status = client.request(GetStatus())
    if arguments.json:
        print(json.dumps(dataclasses.asdict(status), indent=1))
        return 0
    table = folding_table("what", "value")
    for name, text in status_words(status).items():
        table.add_row(name, escape(text))
    Console().print(table)
    return 0


def status_words(status: Status) -> dict[str, str]:
    """What a running server is, by the names it is shown under; memory is left out while the device starts."""
    refused = ", ".join(f"{count} as {code}" for code, count in sorted(status.refused.items()))
    used, total = (value / 1024**3 for value in (status.memory_used_bytes, status.memory_total_bytes))
    words = {
        "device": status.device,
        "rasteriser": status.rasteriser,
        "memory": f"{used:.1f} of {total:.1f} GiB in use" if total else "",
        "pictures waiting": str(status.renders_waiting),
        "pictures at a time": str(status.render_workers) if status.render_workers else "",
        "jobs running": str(status.jobs_running),
        "jobs waiting": str(status.jobs_waiting),
        "messages refused": refused or "none",
        "up for": str(datetime.timedelta(seconds=round(status.up_s))),
        "data folder": status.data_folder,
        "face tracker": status.tracker or "ready",
    }
    return {name: text for name, text in words.items() if text}


def log_command(arguments: argparse.Namespace) -> int:
    """What GetLog answers."""
    with client_of(arguments) as client:
        print(client.request(GetLog(arguments.job)).text)
    return 0


def _info(home: Home, arguments: argparse.Namespace) -> int:
    from avatars.avatar_facts import avatar_facts

    facts = avatar_facts(Library(home.library).path(arguments.avatar))
    if arguments.json:
        print(json.dumps(facts, indent=1, ensure_ascii=False))
        return 0
    table = folding_table("what", "value")
    for name, text in facts.items():
        table.add_row(escape(name), escape(text))
    Console().print(table)
    return 0


def _list(entries: Sequence[AvatarSummary], as_json: bool) -> int:
    if as_json:
        print(json.dumps([dataclasses.asdict(entry) for entry in entries], indent=1))
        return 0
    table = folding_table("id", "name", "thrown away")
    for entry in entries:
        table.add_row(entry.avatar_id, escape(entry.name), entry.created[:16].replace("T", " "))
    Console().print(table if entries else "The trash is empty.")
    return 0
