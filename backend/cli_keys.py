"""`keys`: who may talk to a backend that other machines can reach. On the backend's machine: make, show, add, list,
remove, export. On the client's: own."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from backend.cli_serve import read_key
from backend.home import open_home
from backend.key_ring import KeyRing
from backend.options import add_home
from backend.tables import folding_table
from shared.errors import BadConfig
from shared.keys import Connection, own_pair, write_connection


def add_keys(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser("keys", help="key pairs for a backend that other machines can reach")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    make = actions.add_parser("make", help="make the backend's key pair, where there is none, and show its public key")
    make.add_argument("--new", action="store_true", help="another pair in place of the one there is")
    show = actions.add_parser("show", help="the backend's public key, which clients need")
    add = actions.add_parser("add", help="let a client in")
    add.add_argument("name", help="how it is called here and shown to others")
    add.add_argument("key", help="its public key: 'effigy keys own' there, or the add-on's preferences")
    remove = actions.add_parser("remove", help="let a client in no more; a connection it has ends, too")
    remove.add_argument("name")
    listing = actions.add_parser("list", help="the clients that are let in")
    listing.add_argument("--json", action="store_true", help="JSON instead of a table")
    export = actions.add_parser("export", help="write a connection file: what a client needs")
    export.add_argument("file", type=Path)
    export.add_argument("--address", required=True, help="where clients reach it: tcp://HOST:PORT")
    export.add_argument("--key-file", type=Path, help="as of serve: file whose first line is the key")
    own = actions.add_parser("own", help="this user's public key as a client, made where there is none")
    for action, run in (
        (make, _make),
        (show, _show),
        (add, _add),
        (remove, _remove),
        (listing, _list),
        (export, _export),
        (own, _own),
    ):
        add_home(action)
        action.set_defaults(run=run)


def _ring(arguments: argparse.Namespace) -> KeyRing:
    return KeyRing(open_home(arguments.home).keys)


def _ring_with_pair(arguments: argparse.Namespace) -> KeyRing:
    ring = _ring(arguments)
    if not ring.has_pair():
        raise BadConfig("The backend has no keys", found=str(ring.server_path), do="Run: effigy keys make")
    return ring


def _make(arguments: argparse.Namespace) -> int:
    ring = _ring(arguments)
    print((ring.renew() if arguments.new else ring.pair()).public)
    return 0


def _show(arguments: argparse.Namespace) -> int:
    print(_ring_with_pair(arguments).pair().public)
    return 0


def _add(arguments: argparse.Namespace) -> int:
    _ring(arguments).add(arguments.name, arguments.key)
    print(f"{arguments.name} is let in.")
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    _ring(arguments).remove(arguments.name)
    print(f"{arguments.name} is let in no more.")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    clients = _ring(arguments).clients()
    if arguments.json:
        print(json.dumps(clients, indent=1))
        return 0
    table = folding_table("name", "public key")
    for name, key in sorted(clients.items()):
        table.add_row(name, key)
    Console().print(table if clients else "No client is let in: effigy keys add NAME KEY.", markup=False)
    return 0


def _export(arguments: argparse.Namespace) -> int:
    server_key = _ring_with_pair(arguments).pair().public
    key = read_key(arguments.key_file)
    write_connection(arguments.file, Connection(arguments.address, server_key, key))
    print(f"{arguments.file} holds address and public key{' and the key, which is secret' if key else '; no secret'}.")
    return 0


def _own(arguments: argparse.Namespace) -> int:
    print(own_pair().public)
    return 0
