"""`train`: make an avatar from a capture, on a running server or in this process, with progress and a clean Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from backend.cli_lists import add_client_options, client_of
from backend.home import open_home
from backend.library import Library
from shared.client import BackendClient
from shared.errors import BadConfig, Cancelled, WorkerFailed
from shared.messages import ChangeJob, JobInfo, ListJobs, StartTraining

INTERRUPTED = 130
POLL_S = 0.3
LIST_EVERY_S = 2.0
PAUSE_WAIT_S = 15.0


def add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "train",
        help="train an avatar",
        description="The same command again goes on where it was stopped, or says that it is done (--again: anew).",
    )
    parser.add_argument("--capture", default="demo_head", help="name of an embedded capture, or a folder")
    parser.add_argument("--preset", default="demo_cpu", help="a training preset, or a YAML file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, e.g. seed=1")
    parser.add_argument("--name", help="the avatar's name (default: the capture's)")
    parser.add_argument("--again", action="store_true", help="train anew though the same was trained before")
    parser.add_argument("--local", action="store_true", help="train in this process, without a server")
    parser.add_argument("--home", type=Path, help="with --local: data folder (default: $EFFIGY_HOME or ~/.effigy)")
    parser.add_argument("--device", default="auto", help="with --local: auto, cpu, cuda or cuda:N")
    add_client_options(parser)
    parser.set_defaults(run=train)


def train(arguments: argparse.Namespace) -> int:
    """Train, follow the progress, print the avatar's id."""
    asked = request_of(arguments)
    console = Console()
    if arguments.local:
        return _train_here(arguments, asked, console)
    with client_of(arguments) as client:
        return _train_there(client, asked, console)


def request_of(arguments: argparse.Namespace) -> StartTraining:
    """The training asked for. Its key comes from its content, so the same command is the same job. Raises BadConfig."""
    overrides = overrides_of(arguments.set)
    folder = Path(arguments.capture).expanduser()
    capture = str(folder.absolute()) if folder.is_dir() else arguments.capture
    name = arguments.name or folder.name
    content = json.dumps([name, capture, arguments.preset, overrides], sort_keys=True)
    key = uuid.uuid4().hex if arguments.again else hashlib.sha256(content.encode()).hexdigest()[:16]
    return StartTraining(key, name, capture, arguments.preset, overrides)


def overrides_of(texts: list[str]) -> dict[str, str]:
    """`--set` options as a table. Raises BadConfig."""
    overrides = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise BadConfig("An override is not of the form KEY=VALUE", found=text, expected="for example seed=1")
        overrides[name] = value
    return overrides


# --- on a server -----------------------------------------------------------------------------------------------------
def _train_there(client: BackendClient, asked: StartTraining, console: Console) -> int:
    client.events()  # subscribes, so that nothing of the job is missed
    job: JobInfo = client.request(asked, timeout_s=60.0)
    if job.state in ("paused", "failed", "cancelled"):
        job = client.request(ChangeJob(job.job_id, "resume"))
    try:
        with _progress(console) as (progress, task):
            while job.state in ("queued", "running"):
                _show(progress, task, job)
                job = _newest(client, job)
    except KeyboardInterrupt:
        console.print("Pausing …")
        _pause(client, job)
        console.print(f"Paused. The same command goes on, and so does: effigy jobs resume {job.job_id}")
        return INTERRUPTED
    if job.state == "done":
        _tell_done(console, job.avatar_id, job.report_folder)
        return 0
    if job.state == "failed":
        raise WorkerFailed(f"Training {job.name} failed: {job.message}")
    raise Cancelled(f"The job was {job.state} elsewhere", do=f"To go on: effigy jobs resume {job.job_id}")


def _newest(client: BackendClient, job: JobInfo) -> JobInfo:
    """The job as events tell it, or as the list does when none came for a while or some were lost."""
    until = time.monotonic() + LIST_EVERY_S
    while time.monotonic() < until:
        told = [event.job for event in client.events(POLL_S) if event.job.job_id == job.job_id]
        if told:
            return told[-1]
    listed: tuple[JobInfo, ...] = client.request(ListJobs()).jobs
    return next((item for item in listed if item.job_id == job.job_id), job)


def _pause(client: BackendClient, job: JobInfo) -> None:
    state = client.request(ChangeJob(job.job_id, "pause"))
    until = time.monotonic() + PAUSE_WAIT_S
    while state.state == "running" and time.monotonic() < until:
        state = _newest(client, state)


# --- here --------------------------------------------------------------------------------------------------------
def _train_here(arguments: argparse.Namespace, asked: StartTraining, console: Console) -> int:
    from backend.devices import resolve_device, usable_cores, use_cores
    from backend.training_run import run_training

    home = open_home(arguments.home)
    folder = home.jobs / f"local-{re.sub(r'[^A-Za-z0-9_-]+', '_', asked.name)[:40]}-{asked.key}"
    device = resolve_device(arguments.device)
    use_cores(usable_cores())
    with _progress(console) as (progress, task), _pause_on_interrupt() as interrupted:
        outcome = run_training(
            asked,
            folder,
            Library(home.library),
            device,
            lambda told: _show(progress, task, told),
            lambda: "pause" if interrupted.is_set() else "",
        )
    if outcome.state == "done":
        _tell_done(console, outcome.avatar_id, outcome.report_folder)
        return 0
    console.print("Paused. The same command goes on from here.")
    return INTERRUPTED


@contextlib.contextmanager
def _pause_on_interrupt() -> Iterator[threading.Event]:
    """The first Ctrl-C asks for a pause at the next step, the second ends the process as usual."""
    asked = threading.Event()

    def note(*_: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("Pausing …", file=sys.stderr)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


# --- showing -----------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def _progress(console: Console) -> Iterator[tuple[Progress, TaskID]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[losses]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield progress, progress.add_task("Waiting", total=None, speed="", losses="")


def _show(progress: Progress, task: TaskID, told: Any) -> None:
    """Show a JobInfo or avatars.training's Progress; both name these fields alike."""
    losses = " ".join(f"{name} {value:.4f}" for name, value in list(told.losses.items())[:4])
    eta = f" {told.eta_s:.0f} s left" if told.eta_s else ""
    progress.update(
        task,
        description=(told.message or "Training")[:60],
        completed=told.step,
        total=told.steps or None,
        speed=f"{told.images_per_s:.1f} images/s" if told.images_per_s else "",
        losses=losses + eta,
    )


def _tell_done(console: Console, avatar_id: str, report_folder: str) -> None:
    console.print(f"Avatar: {avatar_id}")
    console.print(f"Report: {report_folder}", soft_wrap=True)
