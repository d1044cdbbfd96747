"""`avatars` and `jobs`: what is in the library, what is being trained, and changing that."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from avatars.avatar_facts import quality
from backend.cli_serve import read_key
from backend.home import open_home
from backend.library import Library
from backend.options import add_home
from backend.tables import folding_table
from shared.addresses import DEFAULT_ADDRESS
from shared.client import BackendClient
from shared.keys import Connection, login, read_connection
from shared.messages import ChangeJob, JobInfo, ListJobs

CONNECT_S = 3.0
ACTIONS = ("pause", "resume", "stop", "save", "cancel", "up", "down", "remove", "take")
"""Stop and save are for live trainings, up and down for those that wait, remove for those that are over; take makes
a job yours that another client holds."""


def add_avatars(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser("avatars", help="list the avatars of the library")
    add_home(parser)
    parser.add_argument("--json", action="store_true", help="one JSON list instead of a table")
    parser.set_defaults(run=list_avatars)


def add_jobs(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser("jobs", help="list and change the training jobs of a running server")
    parser.add_argument("action", nargs="?", default="list", choices=("list", *ACTIONS))
    parser.add_argument("job", nargs="?", help="the job's id")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    add_client_options(parser)
    parser.set_defaults(run=change_jobs, usage_error=parser.error)


def add_client_options(parser: argparse.ArgumentParser) -> None:
    """Options of every command that asks a server."""
    parser.add_argument("--address", default=os.environ.get("EFFIGY_ADDRESS", DEFAULT_ADDRESS))
    parser.add_argument(
        "--key-file", type=Path, help="file whose first line is the key (default: $EFFIGY_KEY, or none)"
    )
    parser.add_argument("--connection", type=Path, help="a connection file: address and keys in place of the above")
    parser.add_argument(
        "--server-key", default=os.environ.get("EFFIGY_SERVER_KEY", ""), help="public key of a backend that encrypts"
    )


@contextlib.contextmanager
def client_of(arguments: argparse.Namespace) -> Iterator[BackendClient]:
    """`connected_client` for a with-block: closed at its end."""
    client = connected_client(arguments)
    try:
        yield client
    finally:
        client.close()


def connected_client(arguments: argparse.Namespace) -> BackendClient:
    """A client with the options of `add_client_options`. Raises Unreachable, NotAllowed, VersionMismatch."""
    if arguments.connection is not None:
        there = read_connection(arguments.connection)
    else:
        there = Connection(arguments.address, arguments.server_key, read_key(arguments.key_file))
    own = login(there.server_key) if there.server_key else None
    client = BackendClient(there.address, key=there.key, name="command line", login=own)
    try:
        client.connect(CONNECT_S)
    except BaseException:
        client.close()
        raise
    return client


def list_avatars(arguments: argparse.Namespace) -> int:
    """A table of the library; damaged avatars say what is wrong."""
    summaries = Library(open_home(arguments.home).library).summaries()
    if arguments.json:
        print(json.dumps([dataclasses.asdict(summary) for summary in summaries], indent=1))
        return 0
    table = folding_table("id", "name", "method", "made", "held-out", "licence")
    if any(item.problem for item in summaries):
        table.add_column("problem", overflow="fold")
    for item in summaries:
        cells = (item.avatar_id, item.name, item.method.replace("_", " "), item.created[:10], quality(item.metrics))
        table.add_row(*map(escape, (*cells, item.licence, item.problem)[: len(table.columns)]))
    Console().print(table if summaries else "The library is empty: train an avatar first (effigy train).")
    return 0


def change_jobs(arguments: argparse.Namespace) -> int:
    """List the jobs, or change one and show it."""
    if arguments.action != "list" and not arguments.job:
        arguments.usage_error(f"{arguments.action} needs the job's id")
    with client_of(arguments) as client:
        if arguments.action == "list":
            jobs: tuple[JobInfo, ...] = client.request(ListJobs()).jobs
        else:
            jobs = (client.request(ChangeJob(arguments.job, arguments.action)),)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(job) for job in jobs], indent=1))
        return 0
    table = folding_table("id", "kind", "name", "state", "step", "speed", "avatar", "held by", "message")
    for job in jobs:
        table.add_row(*_row(job))
    Console().print(table if jobs else "There are no jobs.")
    return 0


def _row(job: JobInfo) -> tuple[Any, ...]:
    steps = f"{job.step}/{job.steps}" if job.steps else ""
    speed = f"{job.images_per_s:.1f} images/s" if job.images_per_s else ""
    return job.job_id, job.kind, job.name, job.state, steps, speed, job.avatar_id, job.owner, job.message
